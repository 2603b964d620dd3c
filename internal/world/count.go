package world

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// What can be seen of a pool.

// Stats counts each address.
func (m *Pool) Stats() []pool.Stats {
	var stats []pool.Stats
	taken := m.Taken()
	all := m.Families()
	for _, f := range []pool.Family{pool.IPv4, pool.IPv6} {
		if !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	for _, f := range all {
		var total, allowed, used, cooling, kept, free, out uint64
		for _, a := range AddrsOf(m.Universe[f]) {
			r := taken[a]
			count(&total, slices.Contains(m.Families(), f) && inAny(Ranges(m.Spec), a))
			count(&allowed, m.Allowed[a])
			count(&free, m.Allowed[a] && r == nil)
			count(&cooling, m.Allowed[a] && r != nil && r.Cooling && !r.Kept)
			count(&kept, m.Allowed[a] && r != nil && r.Kept)
			count(&used, m.Allowed[a] && r != nil && !r.Cooling)
			count(&out, !m.Allowed[a] && r != nil)
		}
		if slices.Contains(m.Families(), f) || out > 0 {
			stats = append(stats, pool.Stats{
				Family: f, Total: cidr.CountOf(total), Reserved: cidr.CountOf(total - allowed),
				Used: cidr.CountOf(used), Cooling: cidr.CountOf(cooling), Kept: cidr.CountOf(kept),
				Free: cidr.CountOf(free), OutOfRange: cidr.CountOf(out),
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

// Free are all addresses that are free.
func (m *Pool) Free() map[netip.Addr]bool {
	free, taken := map[netip.Addr]bool{}, m.Taken()
	for a, allowed := range m.Allowed {
		if allowed && taken[a] == nil {
			free[a] = true
		}
	}
	return free
}

// withheldRanges are the ranges that a pool must not hand out because of others: those of its addresses that are
// external and, of what its parent has granted to it, those that the parent must not hand out.
func (w *World) withheldRanges(m *Pool) []netipx.IPRange {
	var withheld []netipx.IPRange
	if m.IsChild() {
		for _, p := range w.Granted(m) {
			for _, a := range AddrsOf(p) {
				if !w.Pools[m.Parent].Allowed[a] {
					withheld = append(withheld, netipx.IPRangeFrom(a, a))
				}
			}
		}
		return cidr.SetOf(withheld...).Ranges()
	}
	for _, f := range m.Families() {
		for _, a := range AddrsOf(m.Universe[f]) {
			if inAny(m.allRanges(), a) && w.isExternal(m, a) {
				withheld = append(withheld, netipx.IPRangeFrom(a, a))
			}
		}
	}
	return cidr.SetOf(withheld...).Ranges()
}

// Snapshot is the whole of a pool, but for what the model does not know: when it was made, its revision, and its parent
// in the terms of [pool.Info].
func (w *World) Snapshot(name string) pool.Snapshot {
	m := w.Pools[name]
	s := pool.Snapshot{Info: pool.Info{Name: m.Name, Spec: m.Spec, Stats: m.Stats(), Withheld: w.withheldRanges(m)}}
	s.Renumbering = m.Moving
	for _, r := range m.Records {
		if r.Reserved {
			s.Reservations++
		}
		switch {
		case r.Kept:
			s.Kept = append(s.Kept, r.Allocation)
		case r.Cooling:
			s.Cooling = append(s.Cooling, r.Allocation)
		default:
			s.Allocations = append(s.Allocations, r.Allocation)
		}
	}
	s.Holders, s.Quotas = len(s.Allocations), m.quotas()
	slices.SortFunc(s.Allocations, ByAddr)
	slices.SortFunc(s.Cooling, ByAddr)
	slices.SortFunc(s.Kept, ByAddr)
	for _, f := range []pool.Family{pool.IPv4, pool.IPv6} {
		if m.Cursor[f].IsValid() {
			s.Next = append(s.Next, m.Cursor[f])
		}
	}
	return s
}

// Networks are all networks: the ranges of their pools, and what is external there.
func (w *World) Networks() map[string]pool.Network {
	networks := map[string]pool.Network{}
	in := func(name string) pool.Network {
		if n, known := networks[name]; known {
			return n
		}
		return pool.Network{Name: name, Pools: map[string][]netipx.IPRange{}, External: w.External[name]}
	}
	for name, external := range w.External {
		if len(external) > 0 {
			networks[name] = in(name)
		}
	}
	for name, m := range w.Pools {
		if m.Spec.Network != "" && !m.IsChild() {
			n := in(m.Spec.Network)
			n.Pools[name] = append([]netipx.IPRange(nil), cidr.SetOf(m.allRanges()...).Ranges()...) // nil for none
			networks[m.Spec.Network] = n
		}
	}
	return networks
}

// ByAddr is the order of a snapshot.
func ByAddr(a, b pool.Allocation) int {
	return cmp.Or(slices.CompareFunc(a.Addrs(), b.Addrs(), netip.Addr.Compare), strings.Compare(a.Owner, b.Owner))
}

// Report is what [pool.Pool.Verify] finds.
func (m *Pool) Report() pool.Report {
	report := pool.Report{Allocations: len(m.Held())}
	for _, r := range m.Records {
		for _, p := range r.Prefixes {
			if !m.allows(AddrsOf(p)) {
				report.OutOfRange = append(report.OutOfRange, pool.Allocation{
					Owner: r.Owner, Prefixes: []netip.Prefix{p}, Generation: r.Generation, Created: r.Created,
				})
			}
		}
	}
	slices.SortFunc(report.OutOfRange, ByAddr)
	return report
}
