package cluster

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/object"
	"github.com/ipalloc/ipalloc/pool"
)

// Node is a node of the cluster. The zero Node is none. A Node may be copied; the copy shares its slices.
type Node struct {
	// Name is the name of the Node. If only its addresses are known, it is the first of them.
	Name string
	// Unnamed reports whether only the addresses of the node are known.
	Unnamed bool
	// Live reports whether the Node came from an API server, so that what it has is a fact and not a wish.
	Live bool
	// PodCIDRs are those that the Node has already, in the order of the families of the cluster.
	PodCIDRs []netip.Prefix
	// IPs are its own addresses, the primary one first.
	IPs []netip.Addr

	podCIDRs object.Value
}

// Immutable returns the error for pod CIDRs that differ from those that the Node holds already, a [*config.FieldError].
//
// [*config.FieldError]: https://pkg.go.dev/github.com/ipalloc/ipalloc/config#FieldError
func (n *Node) Immutable(held []netip.Prefix) error {
	return n.podCIDRs.Error("may not change once set", fmt.Sprintf("what the Node has: %v", held))
}

// nodeValues is a node, and where its addresses were read.
type nodeValues struct {
	Node
	own object.Value
}

// registration is what a file of kubeadm says of a node.
type registration struct {
	name  string
	ips   []netip.Addr
	value object.Value
}

// node reads a Node.
func (r *reader) node(o object.Object) nodeValues {
	n := nodeValues{Node: Node{Name: o.Name, Live: o.UID != ""}}
	spec := o.Value.Get("spec")
	n.podCIDRs = spec.Get("podCIDRs")
	if n.podCIDRs.Missing() {
		n.podCIDRs = spec.Get("podCIDR")
	}
	n.PodCIDRs = readPodCIDRs(spec)
	n.own = o.Value.Get("status").Get("addresses")
	for _, item := range n.own.Items() {
		if item.Get("type").Text() != "InternalIP" {
			continue
		}
		address := item.Get("address")
		if addr, ok := readAddr(address); ok {
			n.IPs = append(n.IPs, addr)
		}
	}
	return n
}

// readPodCIDRs reads podCIDRs, and podCIDR, which must be the first of them.
func readPodCIDRs(spec object.Value) []netip.Prefix {
	one, all := spec.Get("podCIDR"), spec.Get("podCIDRs")
	values := all.Items()
	switch {
	case len(values) == 0 && !one.Missing():
		values = []object.Value{one}
	case len(values) > 0 && !one.Missing() && one.Text() != values[0].Text():
		one.Refuse("is not the first of podCIDRs", values[0].Text())
	}
	var prefixes []netip.Prefix
	for _, v := range values {
		p, err := cidr.ParsePrefix(v.Text())
		if err != nil {
			refuseText(v, err)
			continue
		}
		prefixes = append(prefixes, p)
	}
	if len(prefixes) > 0 && len(prefixes) == len(values) && !isPair(prefixes) {
		all.Refuse("has more than one CIDR of a family", "one CIDR of each family")
	}
	return prefixes
}

func readAddr(v object.Value) (netip.Addr, bool) {
	addr, err := cidr.ParseAddr(v.Text())
	if err != nil {
		refuseText(v, err)
		return netip.Addr{}, false
	}
	return addr, true
}

// registration reads how a file of kubeadm registers its node.
func (r *reader) registration(o object.Object) {
	from := o.Value.Get("nodeRegistration")
	if from.Missing() {
		return
	}
	kubelet := readArguments(o, "nodeRegistration", "kubeletExtraArgs")
	found := registration{name: from.Get("name").Text(), value: from}
	if found.name == "" {
		found.name = kubelet["hostname-override"].value
	}
	if found.name != "" && !isDNSSubdomain(found.name) {
		from.Get("name").Refuse("is not a DNS subdomain", "lower-case letters, digits, '-' and '.'")
		return
	}
	if ip := kubelet["node-ip"]; ip.set {
		found.ips = readNodeIPs(ip.from)
	}
	if found.name != "" || len(found.ips) > 0 {
		r.registered = append(r.registered, found)
	}
}

// readNodeIPs reads the argument node-ip of a kubelet: one address or a pair. One address that is unspecified leaves
// the choice to the kubelet.
func readNodeIPs(v object.Value) []netip.Addr {
	const want = "one address, or an IPv4 and an IPv6 address with a comma in between"
	var ips []netip.Addr
	for text := range strings.SplitSeq(v.Text(), ",") {
		addr, err := cidr.ParseAddr(text)
		if err != nil {
			refuseText(v, err)
			return nil
		}
		ips = append(ips, addr)
	}
	if len(ips) == 1 && ips[0].IsUnspecified() {
		return nil
	}
	for _, addr := range ips {
		if addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr.IsLinkLocalUnicast() {
			v.Refuse("is not an address of a node: "+addr.String(),
				"one that is not unspecified, loopback, multicast or link-local")
		}
	}
	if len(ips) > 2 || len(ips) == 2 && ips[0].Is4() == ips[1].Is4() {
		v.Refuse("is not one address or one of each family", want)
	}
	return ips
}

// allNodes puts the Nodes and the registrations together, and checks them against the pod subnets.
func (r *reader) allNodes() {
	byName, byIP := map[string]int{}, map[netip.Addr]int{}
	for i, n := range r.nodes {
		byName[n.Name] = i
		for _, ip := range n.IPs {
			byIP[ip] = i
		}
	}
	for _, reg := range r.registered {
		i, found := byName[reg.name]
		if !found && reg.name == "" {
			i, found = byIP[reg.ips[0]]
		}
		if !found {
			i = len(r.nodes)
			r.nodes = append(r.nodes, nodeValues{Node: Node{Name: reg.name, Unnamed: reg.name == ""}, own: reg.value})
			if reg.name == "" {
				r.nodes[i].Name = reg.ips[0].String()
			}
			byName[r.nodes[i].Name] = i
		}
		if len(reg.ips) > 0 {
			r.nodes[i].IPs = reg.ips
		}
	}
	r.checkNodes()
}

// checkNodes refuses nodes that do not fit the cluster or one another.
func (r *reader) checkNodes() {
	families := familiesOf(r.cluster.PodSubnets)
	owners := map[netip.Addr]string{}
	for _, n := range r.nodes {
		for i, p := range n.PodCIDRs {
			if len(families) > 0 && (i >= len(families) || families[i] != pool.FamilyOf(p.Addr())) {
				n.podCIDRs.Refuse("does not fit networking.podSubnet: "+p.String()+" has no subnet of its family in its place",
					"the families of podSubnet in their order")
			}
		}
		for _, ip := range n.IPs {
			if other, taken := owners[ip]; taken {
				n.own.Refuse("has the address of another node: "+ip.String()+" is that of "+other, "each address once")
			}
			owners[ip] = n.Name
		}
		r.cluster.Nodes = append(r.cluster.Nodes, n.Node)
	}
}
