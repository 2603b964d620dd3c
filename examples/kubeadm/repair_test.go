package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRepair(t *testing.T) {
	d := newDesk(t)
	config := configuration("10.244.0.0/16,fd00:1::/48", first4)
	d.keep("assign", config, nodes(4), services(4))
	r := d.keep("repair", config, live(
		node("node-0", "10.244.0.0/24", "fd00:1::/64"),     // as it is kept
		node("node-1", "10.244.9.0/24", "fd00:1:0:9::/64"), // something else
		node("node-3"), // has nothing yet: what is kept for it stays
		node("node-9", "10.244.2.0/24", "fd00:1:0:2::/64"), // that of node-2, which is gone
		withIPs("s-0", "SingleStack", "10.96.0.17"),
		withIPs("s-1", "SingleStack", "10.96.0.19"), // these two have what the other one had
		withIPs("s-2", "SingleStack", "10.96.0.18"),
		withIPs("s-9", "PreferDualStack", "10.96.0.99", "fd00:2::99"), // is not kept
		service("none", "clusterIP: None"),
	))
	for kind, rows := range map[string]map[string]string{
		"Node": {
			"node-0": "kept 10.244.0.0/24,fd00:1::/64 -",
			"node-1": "changed 10.244.9.0/24,fd00:1:0:9::/64 -",
			"node-2": "released 10.244.2.0/24,fd00:1:0:2::/64 -",
			"node-3": "kept 10.244.3.0/24,fd00:1:0:3::/64 -",
			"node-9": "adopted 10.244.2.0/24,fd00:1:0:2::/64 -",
		},
		"Service": {
			"default/s-0":          "kept 10.96.0.17 SingleStack IPv4",
			"default/s-1":          "changed 10.96.0.19 SingleStack IPv4",
			"default/s-2":          "changed 10.96.0.18 SingleStack IPv4",
			"default/s-3":          "released 10.96.0.20 -",
			"default/s-9":          "adopted 10.96.0.99,fd00:2::99 PreferDualStack IPv4,IPv6",
			"default/none":         "none None RequireDualStack IPv4,IPv6",
			"default/kubernetes":   "kept 10.96.0.1 SingleStack IPv4",
			"kube-system/kube-dns": "kept 10.96.0.10 SingleStack IPv4",
		},
	} {
		for name, want := range rows {
			require.Equal(t, want, r.row(kind, name), name)
		}
	}
	require.Len(t, d.kept(), 10)
	require.Equal(t, "10.96.0.19", d.kept()["services default/s-1"])
}

// What two objects have, and what no range has, is told and not kept.
func TestRepairTellsWhatIsWrong(t *testing.T) {
	d := newDesk(t)
	config := configuration("10.244.0.0/16", only4)
	r := d.try("repair", "-db", d.db, config, live(
		node("a", "10.244.0.0/24"), node("b", "10.244.0.0/25"), node("c", "10.245.0.0/24"),
		withIPs("a", "SingleStack", "10.96.0.20"), withIPs("b", "SingleStack", "10.96.0.20"),
		withIPs("c", "SingleStack", "10.97.0.20"),
	))
	require.Equal(t, 1, r.status)
	require.Equal(t, "adopted 10.244.0.0/24 -", r.row("Node", "a"))
	require.Equal(t, "adopted 10.96.0.20 SingleStack IPv4", r.row("Service", "default/a"))
	for _, want := range []string{
		"Node b: ", "10.244.0.0/25: taken by a", "Node c: ", "10.245.0.0/24: not in the pool",
		"Service default/b: ", "10.96.0.20/32: taken by default/a", "Service default/c: ", "10.97.0.20/32: not in the pool",
	} {
		require.Contains(t, r.stderr, want)
	}
	require.Equal(t, map[string]string{
		"pods a": "10.244.0.0/24", "services default/a": "10.96.0.20",
		"services default/kubernetes": "10.96.0.1", "services kube-system/kube-dns": "10.96.0.10",
	}, d.kept())
}

// Without any Node in the files the nodes keep what they have, and so it is with Services.
func TestRepairOfOneKind(t *testing.T) {
	d := newDesk(t)
	config := configuration("10.244.0.0/16", only4)
	d.keep("assign", config, nodes(2), services(2))
	d.keep("repair", config, node("node-1"))
	require.Len(t, d.kept(), 5)
	d.keep("repair", config, service("s-1", ""))
	require.Len(t, d.kept(), 4)
	before := d.kept()
	d.keep("repair", config)
	require.Equal(t, before, d.kept())
}

// A headless Service and one of type ExternalName hold nothing, whatever was kept for them.
func TestRepairOfTypes(t *testing.T) {
	d := newDesk(t)
	config := configuration("", only4)
	d.keep("assign", config, services(2))
	headless := service("s-1", "clusterIP: None, clusterIPs: [None]")
	r := d.keep("repair", config, live(service("s-0", "type: ExternalName"), headless))
	require.Equal(t, "released 10.96.0.17 -", r.row("Service", "default/s-0"))
	require.Equal(t, "released 10.96.0.18 RequireDualStack IPv4,IPv6", r.row("Service", "default/s-1"))
	require.Len(t, d.kept(), 2)
}

func TestRepairNeedsAFile(t *testing.T) {
	r := newDesk(t).try("repair", singleStack)
	require.Equal(t, 2, r.status)
	require.Contains(t, r.stderr, "there is no -db, want the file to repair")
}
