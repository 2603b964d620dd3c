package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The fixtures are files as people write them. The Service range of the dual-stack one lies in its pod subnet: no node
// gets the pod CIDR that has it.
func TestFixtures(t *testing.T) {
	d := newDesk(t)
	r := d.ok("assign", dualStack, joinWorker, nodes(3))
	require.Equal(t, "new 10.244.0.0/24,2001:db8:42::/64 -", r.row("Node", "node-0"))
	require.Equal(t, "new 10.244.1.0/24,2001:db8:42:2::/64 -", r.row("Node", "node-1"))
	require.Equal(t, "new 10.244.3.0/24,2001:db8:42:4::/64 -", r.row("Node", "10.100.0.2"), "of the init file")
	require.Equal(t, "new 10.244.4.0/24,2001:db8:42:5::/64 -", r.row("Node", "10.100.0.3"), "of the join file")
	require.Equal(t, "/24 5 251", r.pool("pods", "IPv4"))
	require.Equal(t, "/64 5 250", r.pool("pods", "IPv6"), "one of the 256 is the Services'")
	require.Equal(t, "new 10.96.0.1 SingleStack IPv4", r.row("Service", "default/kubernetes"))
	require.Equal(t, "new 10.96.0.10 SingleStack IPv4", r.row("Service", "kube-system/kube-dns"))

	r = d.ok("assign", singleStack, nodes(1))
	require.Equal(t, "new 10.244.0.0/24 -", r.row("Node", "node-0"))
	require.Equal(t, "/24 1 255", r.pool("pods", "IPv4"))
}

func TestPodCIDRsByFamilies(t *testing.T) {
	for _, c := range []struct{ name, podSubnet, want string }{
		{"single-stack IPv4", "10.244.0.0/16", "10.244.0.0/24"},
		{"single-stack IPv6", "fd00:1::/48", "fd00:1::/64"},
		{"dual-stack", "10.244.0.0/16,fd00:1::/48", "10.244.0.0/24,fd00:1::/64"},
		{"dual-stack with IPv6 first", "fd00:1::/48,10.244.0.0/16", "fd00:1::/64,10.244.0.0/24"},
		{"host bits", "10.244.3.9/16", "10.244.0.0/24"},
		{"none", "", "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newDesk(t).ok("assign", configuration(c.podSubnet, ""), nodes(1))
			state := "new "
			if c.podSubnet == "" {
				state = "none "
			}
			require.Equal(t, state+c.want+" -", r.row("Node", "node-0"))
		})
	}
}

func TestAllocateNodeCIDRsIsFalse(t *testing.T) {
	manager := "controllerManager: {extraArgs: [{name: allocate-node-cidrs, value: \"false\"}]}\n"
	r := newDesk(t).ok("assign", manager+configuration("10.244.0.0/16", ""), node("a"), node("b", "192.168.0.0/24"))
	require.Equal(t, "none - -", r.row("Node", "a"))
	require.Equal(t, "none 192.168.0.0/24 -", r.row("Node", "b"), "somebody else gives them")
}

func TestMaskSizes(t *testing.T) {
	const subnets = "10.244.0.0/16,fd00:1::/48"
	d := newDesk(t)
	flags := []string{"assign", "-node-cidr-mask-size-ipv4", "25", "-node-cidr-mask-size-ipv6", "60"}
	r := d.ok(append(flags, configuration(subnets, ""), nodes(2))...)
	require.Equal(t, "new 10.244.0.128/25,fd00:1:0:10::/60 -", r.row("Node", "node-1"))

	const asList = "controllerManager: {extraArgs: [{name: node-cidr-mask-size-ipv4, value: \"26\"}, " +
		"{name: node-cidr-mask-size-ipv6, value: \"56\"}]}\n"
	r = d.ok("assign", asList+configuration(subnets, ""), nodes(2))
	require.Equal(t, "new 10.244.0.64/26,fd00:1:0:100::/56 -", r.row("Node", "node-1"))
	r = d.ok("assign", "-node-cidr-mask-size-ipv4", "25", asList+configuration(subnets, ""), nodes(2))
	require.Equal(t, "new 10.244.0.128/25,fd00:1:0:100::/56 -", r.row("Node", "node-1"), "a flag is preferred")

	const asMap = "controllerManager: {extraArgs: {node-cidr-mask-size: \"26\"}}\n"
	v1beta3 := strings.Replace(asMap+configuration("10.244.0.0/16", ""), "v1beta4", "v1beta3", 1)
	require.Equal(t, "new 10.244.0.64/26 -", d.ok("assign", v1beta3, nodes(2)).row("Node", "node-1"))

	for _, wrong := range []string{"0", "33", "x"} {
		r := d.try("assign", "-node-cidr-mask-size-ipv4", wrong, singleStack)
		require.Equal(t, 2, r.status)
		require.Contains(t, r.stderr, `"`+wrong+`" is not a prefix length, want 1 to 32`)
	}
}

// Another length is for new nodes. Those that have pod CIDRs keep them.
func TestMaskSizeChanges(t *testing.T) {
	d := newDesk(t)
	d.keep("assign", singleStack, nodes(1))
	r := d.keep("assign", "-node-cidr-mask-size-ipv4", "26", singleStack, nodes(2))
	require.Equal(t, "kept 10.244.0.0/24 -", r.row("Node", "node-0"))
	require.Equal(t, "new 10.244.1.0/26 -", r.row("Node", "node-1"))
}

// What a node has already stays, wherever it is in the subnet and whatever its length.
func TestPodCIDRsOfNodesStay(t *testing.T) {
	d := newDesk(t)
	has := node("b", "10.244.0.0/24") + node("c", "10.244.2.0/23")
	r := d.ok("assign", singleStack, node("a"), live(has), node("d"))
	require.Equal(t, "new 10.244.1.0/24 -", r.row("Node", "a"))
	require.Equal(t, "adopted 10.244.0.0/24 -", r.row("Node", "b"))
	require.Equal(t, "adopted 10.244.2.0/23 -", r.row("Node", "c"))
	require.Equal(t, "new 10.244.4.0/24 -", r.row("Node", "d"))

	// A single-stack node of a cluster that has become dual-stack keeps what it has, as it cannot be changed.
	r = d.ok("assign", configuration("10.244.0.0/16,fd00:1::/48", ""), live(node("a", "10.244.0.0/24")), node("b"))
	require.Equal(t, "adopted 10.244.0.0/24 -", r.row("Node", "a"))
	require.Equal(t, "new 10.244.1.0/24,fd00:1::/64 -", r.row("Node", "b"))
}

func TestPodCIDRsMayNotChange(t *testing.T) {
	d := newDesk(t)
	d.keep("assign", singleStack, node("a"))
	d.refused([]string{"assign", "-db", d.db, singleStack, node("a", "10.244.9.0/24")},
		"Node a: spec.podCIDRs", "may not change once set", "10.244.0.0/24")
	r := d.keep("assign", singleStack, live(node("a", "10.244.9.0/24")))
	require.Equal(t, "changed 10.244.9.0/24 -", r.row("Node", "a"), "what an API server has is a fact")
}

// Two nodes of one run, of which each has what the other one had.
func TestPodCIDRsThatAreExchanged(t *testing.T) {
	d := newDesk(t)
	d.keep("assign", singleStack, node("a"), node("b"))
	d.keep("assign", singleStack, live(node("a", "10.244.1.0/24"), node("b", "10.244.0.0/24")))
	require.Equal(t, "10.244.1.0/24", d.kept()["pods a"])
	require.Equal(t, "10.244.0.0/24", d.kept()["pods b"])
}

// A node that joins is known only by its node-ip at first. When it has a name, it keeps its pod CIDRs.
func TestNodeGetsAName(t *testing.T) {
	d := newDesk(t)
	d.keep("assign", dualStack, joinWorker)
	const named = `apiVersion: v1
kind: Node
metadata: {name: worker-1, uid: 0a1b2c}
status: {addresses: [{type: Hostname, address: worker-1}, {type: InternalIP, address: 10.100.0.3}]}
`
	r := d.keep("assign", dualStack, joinWorker, named)
	require.Equal(t, "changed 10.244.1.0/24,2001:db8:42:2::/64 -", r.row("Node", "worker-1"))
	require.Empty(t, r.row("Node", "10.100.0.3"))
	require.NotContains(t, d.kept(), "pods 10.100.0.3")
	r = d.keep("assign", dualStack, named)
	require.Equal(t, "kept 10.244.1.0/24,2001:db8:42:2::/64 -", r.row("Node", "worker-1"))
}

func TestNodeIPs(t *testing.T) {
	registration := func(ip string) string {
		return `apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
nodeRegistration:
  name: a
  kubeletExtraArgs: [{name: node-ip, value: "` + ip + `"}]
---
`
	}
	d := newDesk(t)
	for _, ip := range []string{"10.100.0.3", "10.100.0.3,fd00::3", "fd00::3,10.100.0.3", "::", "0.0.0.0"} {
		r := d.ok("assign", singleStack, registration(ip))
		require.Equal(t, "new 10.244.0.0/24 -", r.row("Node", "a"), ip)
	}
	for ip, want := range map[string]string{
		"10.0.0.1,10.0.0.2":      "is not one address or one of each family",
		"10.0.0.1,fd00::1,::2":   "is not one address or one of each family",
		"10.0.0.1,::":            "is not an address of a node: ::",
		"127.0.0.1":              "is not an address of a node: 127.0.0.1",
		"10.0.0.1,fe80::1":       "is not an address of a node: fe80::1",
		"ff02::1":                "is not an address of a node: ff02::1",
		"10.0.0.1, fd00::1":      `is not read`,
		"10.0.0.01":              `is not read`,
		"::ffff:10.0.0.1":        `is not read`,
		"10.0.0.1,worker-1.test": `is not read`,
	} {
		d.refused([]string{"assign", singleStack, registration(ip)},
			"JoinConfiguration: nodeRegistration.kubeletExtraArgs[0].value", `"`+ip+`"`, want)
	}
	other := strings.Replace(registration("10.0.0.1"), "name: a", "name: b", 1)
	d.refused([]string{"assign", singleStack, registration("10.0.0.1"), other},
		"has the address of another node: 10.0.0.1 is that of a")
}

// No pod CIDR has a node's own address, and no Service either.
func TestAddressesOfNodesAreNotHandedOut(t *testing.T) {
	d := newDesk(t)
	const here = `apiVersion: v1
kind: Node
metadata: {name: a}
status: {addresses: [{type: InternalIP, address: 10.0.0.5}, {type: InternalIP, address: 10.1.0.17}]}
---
`
	config := configuration("10.0.0.0/16", "10.1.0.0/24")
	r := d.keep("assign", config, here, service("web", ""))
	require.Equal(t, "new 10.0.1.0/24 -", r.row("Node", "a"))
	require.Equal(t, "new 10.1.0.18 SingleStack IPv4", r.row("Service", "default/web"))
	r = d.keep("assign", config, nodes(1))
	require.Equal(t, "new 10.0.2.0/24 -", r.row("Node", "node-0"), "in the next run too")

	// What has them already keeps them, whether or not it is in the files.
	r = d.keep("assign", config, strings.NewReplacer("name: a", "name: z", "10.0.0.5", "10.0.1.5").Replace(here))
	require.Equal(t, "new 10.0.3.0/24 -", r.row("Node", "z"), "and a has 10.0.1.5")
	r = newDesk(t).ok("assign", config, here, live(node("b", "10.0.0.0/24"), withIPs("web", "SingleStack", "10.1.0.17")))
	require.Equal(t, "adopted 10.0.0.0/24 -", r.row("Node", "b"))
	require.Equal(t, "adopted 10.1.0.17 SingleStack IPv4", r.row("Service", "default/web"))

	// When the node is gone, its addresses are free.
	d.keep("repair", config, node("node-0"))
	require.Equal(t, "new 10.0.0.0/24 -", d.keep("assign", config, node("node-1")).row("Node", "node-1"))
}
