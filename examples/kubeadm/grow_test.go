package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// serviceCIDR is a range that is added to those of the configuration.
func serviceCIDR(name string, cidrs ...string) string {
	return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: %s}\n"+
		"spec: {cidrs: %s}\n---\n", name, list(cidrs))
}

// services are manifests of n Services.
func services(n int) string {
	var all strings.Builder
	for i := range n {
		all.WriteString(service(fmt.Sprintf("s-%d", i), ""))
	}
	return all.String()
}

// A range that is full grows by another one. Its band is used last too.
func TestServiceRangeGrows(t *testing.T) {
	d := newDesk(t)
	config := configuration("", "10.96.0.0/28")
	r := d.try("assign", "-db", d.db, config, services(13))
	require.Equal(t, 1, r.status)
	require.Equal(t, "failed - SingleStack IPv4", r.row("Service", "default/s-12"))
	r = d.keep("assign", config, services(13), serviceCIDR("more", "10.97.0.0/24"))
	require.Equal(t, "kept 10.96.0.2 SingleStack IPv4", r.row("Service", "default/s-0"))
	require.Equal(t, "new 10.97.0.17 SingleStack IPv4", r.row("Service", "default/s-12"))
	require.Equal(t, "/32 15 253", r.pool("services", "IPv4"))
	require.Contains(t, r.stdout, "10.96.0.0/28,10.97.0.0/24")
}

// Ranges may overlap: an address that is in two of them has one owner.
func TestServiceRangesOverlap(t *testing.T) {
	d := newDesk(t)
	config := configuration("", "10.96.0.0/28")
	d.keep("assign", config, services(12))
	grown := serviceCIDR("kubernetes", "10.96.0.0/28") + serviceCIDR("a", "10.96.0.0/24") +
		serviceCIDR("b", "10.96.0.128/25")
	r := d.keep("assign", config, grown)
	require.Equal(t, "/32 14 240", r.pool("services", "IPv4"), "254 in all")
	r = d.try("assign", "-db", d.db, config, services(300), grown)
	require.Equal(t, 1, r.status, "the range is full")
	require.Equal(t, "/32 254 0", r.pool("services", "IPv4"))
	owners := map[string]string{}
	for owner, address := range d.kept() {
		require.NotContains(t, owners, address, owner)
		owners[address] = owner
	}
	require.Len(t, owners, 254)
	require.Contains(t, owners, "10.96.0.15", "the last address of the first range is one of the second")
}

func TestServiceRangeGrowsInBothFamilies(t *testing.T) {
	d := newDesk(t)
	config := configuration("", "fd00:2::/124,10.96.0.0/28")
	more := serviceCIDR("more", "10.97.0.0/24", "fd00:3::/112")
	prefer := strings.ReplaceAll(services(20), "{}", "{ipFamilyPolicy: PreferDualStack}")
	r := d.ok("assign", config, more, prefer)
	require.Equal(t, "new fd00:2::2,10.96.0.1 PreferDualStack IPv6,IPv4", r.row("Service", "default/s-0"))
	require.Equal(t, "new fd00:3::107,10.97.0.22 PreferDualStack IPv6,IPv4", r.row("Service", "default/s-19"))
}

// A range may take over what the pods do not use. What a node has it cannot take.
func TestServiceRangeGrowsIntoThePods(t *testing.T) {
	d := newDesk(t)
	config := configuration("10.0.0.0/16", "10.0.255.0/24")
	d.keep("assign", config, nodes(3))
	d.refused([]string{"assign", "-db", d.db, config, serviceCIDR("more", "10.0.2.0/24")},
		"nodes have pod CIDRs", "node-2", "10.0.2.0/24", "-drain keeps them")
	r := d.keep("assign", config, serviceCIDR("more", "10.0.3.0/24"), nodes(4))
	require.Equal(t, "new 10.0.4.0/24 -", r.row("Node", "node-3"))
	require.Equal(t, "/24 4 250", r.pool("pods", "IPv4"))
	r = d.keep("assign", config, nodes(5))
	require.Equal(t, "new 10.0.3.0/24 -", r.row("Node", "node-4"), "the range was given up again")
}

// A range shrinks unless Services have its addresses; -drain keeps these until they are released.
func TestServiceRangeShrinks(t *testing.T) {
	d := newDesk(t)
	config, more := configuration("", "10.96.0.0/28"), serviceCIDR("more", "10.97.0.0/24")
	d.keep("assign", config, more, services(13))
	d.refused([]string{"assign", "-db", d.db, config}, "Services have addresses outside of the new ranges", "default/s-")
	r := d.keep("assign", "-drain", config, services(13))
	require.Equal(t, "kept 10.97.0.17 SingleStack IPv4", r.row("Service", "default/s-12"))
	require.Equal(t, "/32 15 0", r.pool("services", "IPv4"))
	d.keep("assign", config, service("s-12", "type: ExternalName"))
	require.Equal(t, 1, d.try("assign", "-db", d.db, config, service("s-12", "")).status, "it is not handed out again")
	d.keep("repair", config, service("s-12", ""))
	require.Contains(t, d.keep("assign", config, service("s-12", "")).row("Service", "default/s-12"), "new 10.96.0.2 ")
}

func TestRefusedServiceCIDRs(t *testing.T) {
	d := newDesk(t)
	for _, c := range []struct {
		cidrs []string
		want  string
	}{
		{nil, "spec.cidrs: has no CIDR"},
		{[]string{"10.97.0.0/24", "10.98.0.0/24"}, "spec.cidrs: has more than one CIDR of a family"},
		{[]string{"10.97.0.1/24"}, `spec.cidrs[0]: "10.97.0.1/24" is not read`},
		{[]string{"fd00:3::/112"}, `spec.cidrs[0]: "fd00:3::/112" is not of a family of networking.serviceSubnet, want IPv4`},
	} {
		d.refused([]string{"assign", configuration("", only4), serviceCIDR("more", c.cidrs...)}, "ServiceCIDR more: ", c.want)
	}
}

// The pod subnet can change: nodes keep what they have as long as it is in the subnet.
func TestPodSubnetChanges(t *testing.T) {
	d := newDesk(t)
	d.keep("assign", configuration("10.244.0.0/24", ""), nodes(1))
	r := d.try("assign", "-db", d.db, configuration("10.244.0.0/24", ""), nodes(2))
	require.Equal(t, "failed - -", r.row("Node", "node-1"))
	r = d.keep("assign", configuration("10.244.0.0/23", ""), nodes(2))
	require.Equal(t, "kept 10.244.0.0/24 -", r.row("Node", "node-0"))
	require.Equal(t, "new 10.244.1.0/24 -", r.row("Node", "node-1"))
	d.refused([]string{"assign", "-db", d.db, configuration("10.245.0.0/16", "")},
		"nodes have pod CIDRs outside", "node-0")
	r = d.keep("assign", "-drain", configuration("10.245.0.0/16", ""), nodes(3))
	require.Equal(t, "kept 10.244.0.0/24 -", r.row("Node", "node-0"))
	require.Equal(t, "new 10.245.0.0/24 -", r.row("Node", "node-2"))
}
