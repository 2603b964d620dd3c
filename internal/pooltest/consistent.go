package pooltest

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// RequireConsistent checks that no address is held twice, that Verify finds nothing wrong, that the counts equal a
// recount, and that labels find what has them. It returns what is held.
func RequireConsistent(t testing.TB, p *pool.Pool) map[string]pool.Allocation {
	t.Helper()
	found, holders, used := map[string]pool.Allocation{}, map[netip.Addr]string{}, map[pool.Family]uint64{}
	for a, err := range p.Allocations(t.Context()) {
		require.NoError(t, err)
		found[a.Owner] = a
		for addr := range addrsOf(a.Prefixes) {
			other, taken := holders[addr]
			require.False(t, taken, "%s and %s hold %v", other, a.Owner, addr)
			holders[addr] = a.Owner
			used[pool.FamilyOf(addr)]++
		}
	}
	report, err := p.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report)
	require.Equal(t, len(found), report.Allocations)
	info, err := p.Info(t.Context())
	require.NoError(t, err)
	for _, s := range info.Stats {
		require.Equal(t, cidr.CountOf(used[s.Family]), s.Used, "%v", s.Family)
		free := cidr.Size(info.Spec.Set(s.Family)).Sub(s.Used)
		require.Equal(t, free, s.Free, "%v", s.Family)
		require.Equal(t, s.Total, s.Used.Add(s.Free).Add(s.Reserved), "%v", s.Family)
	}
	requireLabels(t, p, found)
	return found
}

// requireLabels checks that each value of the label "node" finds what has it.
func requireLabels(t testing.TB, p *pool.Pool, held map[string]pool.Allocation) {
	t.Helper()
	for n := range nodes {
		value, want, got := fmt.Sprint(n), map[string]pool.Allocation{}, map[string]pool.Allocation{}
		for owner, a := range held {
			if has, ok := a.Labels["node"]; ok && has == value {
				want[owner] = a
			}
		}
		for a, err := range p.Find(t.Context(), pool.Query{Labels: map[string]string{"node": value}}) {
			require.NoError(t, err)
			got[a.Owner] = a
		}
		require.Equal(t, want, got, "what has the label node=%s", value)
	}
}

// addrsOf are the addresses of prefixes, of which none is large.
func addrsOf(prefixes []netip.Prefix) map[netip.Addr]bool {
	addrs := map[netip.Addr]bool{}
	for _, p := range prefixes {
		for addr := p.Addr(); p.Contains(addr); addr = addr.Next() {
			addrs[addr] = true
		}
	}
	return addrs
}
