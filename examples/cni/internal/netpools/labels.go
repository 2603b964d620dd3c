package netpools

import (
	"os"

	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
)

// NodeName is the name of this node: the variable NODENAME, as Whereabouts has it, or else the host's name.
func NodeName() (string, error) {
	if name := os.Getenv("NODENAME"); name != "" {
		return name, nil
	}
	return os.Hostname()
}

// Labels returns the labels of what an attachment on a node holds by a configuration.
func Labels(h network.Header, node string) map[string]string {
	return map[string]string{LabelNetwork: h.Name, LabelKind: string(h.Kind), LabelNode: node}
}

// Owner is the name in a pool of an attachment. Neither part can have a slash.
func Owner(containerID, ifname string) string { return containerID + "/" + ifname }

// The labels of what an attachment holds.
const (
	LabelNetwork      = "network" // the name of the CNI network
	LabelNode         = "node"
	LabelKind         = "kind" // whose configuration it was
	LabelPodNamespace = "pod-namespace"
	LabelPodName      = "pod-name"
	LabelPodUID       = "pod-uid"
)
