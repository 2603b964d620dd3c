package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The node controller of Kubernetes takes a pod CIDR of the first family and keeps it when there is none of the second:
// it loses one for every try. Here: a dual-stack cluster whose second family is exhausted, and more tries than the
// first family has pod CIDRs.
func TestFailedDualStackTriesLoseNoPodCIDR(t *testing.T) {
	for _, order := range []struct{ podSubnet, first, second, want string }{
		{"10.244.0.0/22,fd00:1::/64", "IPv4", "IPv6", "new 10.244.0.0/24,fd00:1::/64 -"},
		{"fd00:1::/62,10.244.0.0/24", "IPv6", "IPv4", "new fd00:1::/64,10.244.0.0/24 -"},
	} {
		d := newDesk(t)
		config := configuration(order.podSubnet, "")
		d.keep("assign", config, node("in-the-way"))
		for range 3 {
			r := d.try("assign", "-db", d.db, config, nodes(7))
			require.Equal(t, 1, r.status)
			require.Equal(t, 7, strings.Count(r.stderr, "exhausted"), "each node gets both or none")
			require.True(t, strings.HasSuffix(r.pool("pods", order.first), " 1 3"), r.stdout)
			require.True(t, strings.HasSuffix(r.pool("pods", order.second), " 1 0"), r.stdout)
		}
		require.Len(t, d.kept(), 3, "the node in the way, kubernetes and kube-dns")
		d.keep("repair", config, node("free"))
		require.Equal(t, order.want, d.keep("assign", config, node("free")).row("Node", "free"))
	}
}

// The API server takes an address of the first family and keeps it when there is none of the second. Here: a dual-stack
// Service range whose second family is exhausted, and more tries than the first family has addresses.
func TestFailedDualStackTriesLoseNoServiceAddress(t *testing.T) {
	for _, order := range []struct{ ranges, first, second string }{
		{"10.96.0.0/28,fd00:2::/124", "IPv4", "IPv6"},
		{"fd00:2::/124,10.96.0.0/28", "IPv6", "IPv4"},
	} {
		for _, policy := range []string{"RequireDualStack", "PreferDualStack"} {
			t.Run(order.first+" first, "+policy, func(t *testing.T) {
				d := newDesk(t)
				config := configuration("", order.ranges)
				fill := strings.ReplaceAll(services(15), "{}", "{ipFamilies: ["+order.second+"]}")
				d.try("assign", "-db", d.db, config, fill)
				before := d.kept()
				var tries strings.Builder
				for i := range 20 {
					tries.WriteString(service(fmt.Sprintf("try-%d", i), "ipFamilyPolicy: "+policy))
				}
				for range 2 {
					r := d.try("assign", "-db", d.db, config, tries.String())
					require.Equal(t, 1, r.status)
					require.Equal(t, 20, strings.Count(r.stderr, "exhausted"))
				}
				require.Equal(t, before, d.kept())
				d.keep("assign", config, service("s-3", "type: ExternalName"))
				r := d.try("assign", "-db", d.db, config, tries.String())
				require.Contains(t, r.row("Service", "default/try-0"), "new ", "what is free is given")
				require.Contains(t, r.row("Service", "default/try-1"), "failed - ")
				require.Len(t, d.kept(), len(before))
			})
		}
	}
}
