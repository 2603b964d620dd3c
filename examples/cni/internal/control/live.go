package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/ipalloc/ipalloc/examples/cni/internal/driver/kube"
	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/pool"
)

// newSource returns what knows which containers exist.
func (c *Control) newSource(from, file, kubeconfig, node string) (source, error) {
	if node == "" {
		var err error
		if node, err = netpools.NodeName(); err != nil {
			return nil, err
		}
	}
	switch from {
	case "list":
		return &listed{control: c, file: file, node: node, parse: parseLines}, nil
	case "gc":
		return &listed{control: c, file: file, node: node, parse: parseGC}, nil
	case "pods":
		config, err := kube.ConfigOf(kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("-kubeconfig: %w", err)
		}
		return newPods(config)
	}
	return nil, fmt.Errorf("%w: -from is %q, want pods, list or gc", ErrUsage, from)
}

// listed is a source that is a list of the containers of one node.
type listed struct {
	control *Control
	file    string
	node    string
	shared  bool   // the store is for other nodes too, whose containers are not in the list
	network string // that the list is about; empty for all
	parse   func(text []byte) (list attachments, err error)
}

// attachments is a list of attachments, as owners, or as containers with all their interfaces.
type attachments struct {
	network string
	owners  map[string]bool
}

func (l *listed) about(shared bool) { l.shared = shared }

func (l *listed) again() bool { return l.file != "-" }

func (l *listed) covers(a pool.Allocation) bool {
	network, ours := a.Labels[netpools.LabelNetwork]
	return ours && (l.network == "" || network == l.network) && (!l.shared || a.Labels[netpools.LabelNode] == l.node)
}

func (l *listed) read(context.Context) (func(pool.Allocation) bool, error) {
	text, err := l.control.readAll(l.file)
	if err != nil {
		return nil, err
	}
	list, err := l.parse(text)
	if err != nil {
		return nil, err
	}
	l.network = list.network
	return func(a pool.Allocation) bool {
		container, _, _ := strings.Cut(a.Owner, "/")
		return list.owners[a.Owner] || list.owners[container]
	}, nil
}

// errEmpty is returned for a list without containers: who made it has more likely failed than found none.
var errEmpty = errors.New("the list has no containers (a list of CNI's GC may be empty)")

// parseLines reads lines of a container's ID and its interface. Without an interface a line means all of them.
func parseLines(text []byte) (attachments, error) {
	list := attachments{owners: map[string]bool{}}
	for i, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(line)
		switch len(words) {
		case 0:
		case 1:
			list.owners[words[0]] = true
		case 2:
			list.owners[netpools.Owner(words[0], words[1])] = true
		default:
			return list, fmt.Errorf("line %d has %d words, want a container's ID and its interface", i+1, len(words))
		}
	}
	if len(list.owners) == 0 {
		return list, errEmpty
	}
	return list, nil
}

// parseGC reads the configuration that CNI's GC gets.
func parseGC(text []byte) (attachments, error) {
	var config struct {
		Name  string
		Valid *[]types.GCAttachment `json:"cni.dev/valid-attachments"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return attachments{}, err
	}
	if config.Valid == nil || config.Name == "" {
		return attachments{}, errors.New("cni.dev/valid-attachments or name: is missing")
	}
	list := attachments{network: config.Name, owners: map[string]bool{}}
	for _, a := range *config.Valid {
		list.owners[netpools.Owner(a.ContainerID, a.IfName)] = true
	}
	return list, nil
}
