package pool_test

import (
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// What can be seen of a pool.

// stats counts each address.
func (m *model) stats() pool.Stats {
	var stats pool.Stats
	taken := m.taken()
	all := m.families()
	for _, f := range []pool.Family{pool.IPv4, pool.IPv6} {
		if !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	for _, f := range all {
		var total, allowed, used, cooling, free, out uint64
		for _, a := range addrsOf(m.universe[f]) {
			r := taken[a]
			count(&total, slices.Contains(m.families(), f) && inAny(m.spec.Ranges, a))
			count(&allowed, m.allowed[a])
			count(&free, m.allowed[a] && r == nil)
			count(&cooling, m.allowed[a] && r != nil && r.cooling)
			count(&used, m.allowed[a] && r != nil && !r.cooling)
			count(&out, !m.allowed[a] && r != nil)
		}
		if total+out > 0 {
			stats = append(stats, pool.FamilyStats{
				Family: f, Total: cidr.CountOf(total), Reserved: cidr.CountOf(total - allowed), Used: cidr.CountOf(used),
				Cooling: cidr.CountOf(cooling), Free: cidr.CountOf(free), OutOfRange: cidr.CountOf(out),
			})
		}
	}
	return stats
}

func count(n *uint64, counts bool) {
	if counts {
		*n++
	}
}

// freeAddrs are all that are free.
func (m *model) freeAddrs() map[netip.Addr]bool {
	free, taken := map[netip.Addr]bool{}, m.taken()
	for a, allowed := range m.allowed {
		if allowed && taken[a] == nil {
			free[a] = true
		}
	}
	return free
}

// foreignRanges are those of the pool's addresses that are foreign.
func (m *model) foreignRanges() []netipx.IPRange {
	var foreign []netipx.IPRange
	for _, a := range m.addrs() {
		if m.isForeign(a) {
			foreign = append(foreign, netipx.IPRangeFrom(a, a))
		}
	}
	return cidr.SetOf(foreign...).Ranges()
}

// snapshot is the whole of it, but for what the model does not know: when it was made, and its revision.
func (m *model) snapshot() pool.Snapshot {
	s := pool.Snapshot{Info: pool.Info{Name: m.name, Spec: m.spec, Stats: m.stats(), Withheld: m.foreignRanges(), Parent: m.fullParent()}}
	for _, r := range m.records {
		if r.cooling {
			s.Cooling = append(s.Cooling, r.Allocation)
		} else {
			s.Allocations = append(s.Allocations, r.Allocation)
		}
	}
	slices.SortFunc(s.Allocations, byAddr)
	slices.SortFunc(s.Cooling, byAddr)
	for _, f := range []pool.Family{pool.IPv4, pool.IPv6} {
		if m.cursor[f].IsValid() {
			s.Next = append(s.Next, m.cursor[f])
		}
	}
	return s
}

func (m *model) fullParent() pool.Parent {
	if m.parent == (parentRef{}) {
		return pool.Parent{}
	}
	from := m.world.pools[m.parent.Pool].find(m.parent.Owner)
	return pool.Parent{Pool: m.parent.Pool, Grants: []pool.Grant{{Owner: m.parent.Owner, Prefixes: from.Prefixes}}}
}

// report is what Verify finds.
func (m *model) report() pool.Report {
	report := pool.Report{Allocations: len(m.held())}
	for _, r := range m.records {
		for _, p := range r.Prefixes {
			if !m.inPool(addrsOf(p)) {
				report.OutOfRange = append(report.OutOfRange,
					pool.Allocation{Owner: r.Owner, Prefixes: []netip.Prefix{p}, Generation: r.Generation, Created: r.Created})
			}
		}
	}
	slices.SortFunc(report.OutOfRange, byAddr)
	return report
}
