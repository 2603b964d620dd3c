// Package kubernetes reads the addresses of Services and Nodes.
//
// The text is JSON or YAML, of one object, several or a list, such as
//
//	kubectl get services -A -o json
//	kubectl get nodes -o json
//
// Objects of other kinds are passed over. The label kind says what an entry is:
//
//	Service       spec.clusterIPs of a Service that has some; the owner is NAMESPACE/NAME
//	LoadBalancer  the addresses in status.loadBalancer.ingress of a Service; the owner is NAMESPACE/NAME
//	PodCIDR       spec.podCIDRs of a Node; the owner is the name of the Node
//	NodeIP        the addresses of type InternalIP in status.addresses of a Node; the owner is the name of the Node
//
// Other addresses are left out: externalIPs of Services, and addresses of Nodes of type ExternalIP, which others hand
// out. The other labels are namespace, name and uid.
package kubernetes

import (
	"io"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/input"
	"github.com/ipalloc/ipalloc/adopt/internal/object"
)

// The kinds of objects.
const (
	kindService = "Service"
	kindNode    = "Node"
)

// service is a Service.
type service struct {
	Spec struct {
		ClusterIP  string   `json:"clusterIP"`
		ClusterIPs []string `json:"clusterIPs"`
	} `json:"spec"`
	Status struct {
		LoadBalancer struct {
			Ingress []struct {
				IP string `json:"ip"`
			} `json:"ingress"`
		} `json:"loadBalancer"`
	} `json:"status"`
}

// node is a Node.
type node struct {
	Spec struct {
		PodCIDR  string   `json:"podCIDR"`
		PodCIDRs []string `json:"podCIDRs"`
	} `json:"spec"`
	Status struct {
		Addresses []struct {
			Type    string `json:"type"`
			Address string `json:"address"`
		} `json:"addresses"`
	} `json:"status"`
}

// Read returns the entries of each Service and Node, in the order of the text. Cost: the memory of one object; of a
// list in YAML, that of the list.
func Read(r io.ReadSeeker) adopt.Entries { return object.Read(r, read, kindService, kindNode) }

func read(o object.Object, yield func(adopt.Entry) error) error {
	if o.Kind == kindService {
		return readService(o, yield)
	}
	return readNode(o, yield)
}

func readService(o object.Object, yield func(adopt.Entry) error) error {
	var s service
	if err := o.Decode(&s); err != nil {
		return err
	}
	addrs := s.Spec.ClusterIPs
	if len(addrs) == 0 {
		addrs = []string{s.Spec.ClusterIP}
	}
	if err := one(o, kindService, "spec.clusterIPs", addrs, yield); err != nil {
		return err
	}
	var balanced []string
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		balanced = append(balanced, ingress.IP)
	}
	return one(o, "LoadBalancer", "status.loadBalancer.ingress", balanced, yield)
}

func readNode(o object.Object, yield func(adopt.Entry) error) error {
	var n node
	if err := o.Decode(&n); err != nil {
		return err
	}
	blocks := n.Spec.PodCIDRs
	if len(blocks) == 0 {
		blocks = []string{n.Spec.PodCIDR}
	}
	if err := one(o, "PodCIDR", "spec.podCIDRs", blocks, yield); err != nil {
		return err
	}
	var internal []string
	for _, a := range n.Status.Addresses {
		if a.Type == "InternalIP" {
			internal = append(internal, a.Address)
		}
	}
	return one(o, "NodeIP", "status.addresses", internal, yield)
}

// headless is the address of a Service that is to have none.
const headless = "None"

// one yields one entry of an object with all of these addresses or prefixes, if there are any.
func one(o object.Object, kind, field string, texts []string, yield func(adopt.Entry) error) error {
	e := adopt.Entry{Owner: o.Metadata.FullName(), At: o.At(), Labels: map[string]string{
		"kind": kind, "name": o.Metadata.Name, "uid": o.Metadata.UID,
	}}
	if o.Metadata.Namespace != "" {
		e.Labels["namespace"] = o.Metadata.Namespace
	}
	for _, text := range texts {
		if text == "" || text == headless {
			continue
		}
		prefix, err := input.Prefix(text)
		if err != nil {
			return o.Invalid("%s: %w", field, err)
		}
		e.Prefixes = append(e.Prefixes, prefix)
	}
	if len(e.Prefixes) == 0 {
		return nil
	}
	if e.Owner == "" {
		return o.Invalid("metadata: there is no name")
	}
	return yield(e)
}
