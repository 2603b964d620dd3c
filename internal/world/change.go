package world

import (
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// What becomes of pools as a whole: create, update, drain, delete, and what is external in a network.

// Create is what [pool.Create] does with an empty pool of a spec that is valid.
func (w *World) Create(m *Pool) (*World, Refusals) {
	return w.place(m)
}

// place puts a pool that is in no world, maybe one that holds something, into this one.
func (w *World) place(m *Pool) (after *World, no Refusals) {
	if w.Pools[m.Name] != nil {
		no = append(no, pool.ErrExists)
		m = m.clone() // what else is wrong with it can be seen under another name
		m.Name += " too"
	}
	after = w.with(m)
	after.resolve(m.Name)
	if after.Overlaps(m.Name) {
		no = append(no, pool.ErrOverlap)
	}
	if !m.IsChild() && !after.Pools[m.Name].HasRoom() {
		no = append(no, pool.ErrInvalid)
	}
	return after, no
}

// claimed are the addresses that no other pool of the network may have: those of the ranges, and what is held outside
// of them.
func (m *Pool) claimed() *netipx.IPSet {
	ranges := m.allRanges()
	for _, r := range m.Records {
		ranges = append(ranges, rangesOf(m.bothSides(r.Prefixes))...)
	}
	return cidr.SetOf(ranges...)
}

// OutOfRanges are the addresses that are held in a pool, or cool down, and are not in its ranges.
func (m *Pool) OutOfRanges() []netipx.IPRange {
	return cidr.Difference(m.claimed(), cidr.SetOf(m.allRanges()...)).Ranges()
}

// neighbours are the other pools of the network that were not delegated. A pool that was delegated has none.
func (w *World) neighbours(m *Pool) (others []*Pool) {
	for _, name := range w.Names() {
		other := w.Pools[name]
		roots := !m.IsChild() && !other.IsChild()
		if roots && name != m.Name && m.Spec.Network != "" && other.Spec.Network == m.Spec.Network {
			others = append(others, other)
		}
	}
	return others
}

// Overlaps reports whether the ranges of a pool, or what it holds outside of them, overlap with those of another pool
// in its network.
func (w *World) Overlaps(name string) bool {
	m := w.Pools[name]
	return slices.ContainsFunc(w.neighbours(m), func(other *Pool) bool {
		return len(cidr.Intersection(m.claimed(), other.claimed()).Ranges()) > 0
	})
}

// RangesOverlap reports whether the ranges alone do.
func (w *World) RangesOverlap(name string) bool {
	m := w.Pools[name]
	return slices.ContainsFunc(w.neighbours(m), func(other *Pool) bool {
		return len(cidr.Intersection(cidr.SetOf(m.allRanges()...), cidr.SetOf(other.allRanges()...)).Ranges()) > 0
	})
}

// Stranded are the owners, by pool, who hold something that a pool may hand out before and not after. A lease that has
// ended strands nobody.
func (w *World) Stranded(after *World, names []string) map[string][]string {
	stranded := map[string][]string{}
	for _, name := range names {
		before, now := w.Pools[name], after.Pools[name]
		for _, r := range before.Records {
			out := slices.ContainsFunc(r.addrs(), func(a netip.Addr) bool {
				return before.Allowed[a] && !now.Allowed[a]
			})
			if out && (r.Reserved || !r.Cooling && !r.Expired(w.Now)) {
				stranded[name] = append(stranded[name], r.Owner)
			}
		}
		slices.Sort(stranded[name])
	}
	return stranded
}

// Update is what [pool.Pool.Update] and [pool.Pool.Drain] do with a spec that is valid: the world after it, whom it
// strands in the pool and those delegated from it, and why it is refused.
func (w *World) Update(
	name string, spec pool.Spec, drain bool,
) (after *World, stranded map[string][]string, no Refusals) {
	before, m := w.Pools[name], w.Pools[name].clone()
	m.Spec = spec
	if !m.canMove() {
		return nil, nil, Refusals{pool.ErrInvalid}
	}
	for f := range m.Universe {
		if !slices.Contains(m.Families(), f) {
			delete(m.Cursor, f)
		}
	}
	after = w.with(m)
	after.resolve(name)
	stranded = w.Stranded(after, w.Family(name))
	switch {
	case m.IsChild():
		if spec.Network != before.Spec.Network || !covers(w.Granted(m), Ranges(spec)) {
			no = append(no, pool.ErrInvalid)
		}
	case spec.Network != before.Spec.Network && slices.ContainsFunc(m.Records, (*Record).delegated):
		no = append(no, pool.ErrInUse)
	}
	if after.Overlaps(name) {
		no = append(no, pool.ErrOverlap)
	}
	if !m.IsChild() && !after.Pools[name].HasRoom() {
		no = append(no, pool.ErrInvalid)
	}
	if len(stranded) > 0 && !drain {
		no = append(no, pool.ErrOutOfRange)
	}
	return after, stranded, no
}

// covers reports whether all of the ranges lie in the prefixes.
func covers(prefixes []netip.Prefix, ranges []netipx.IPRange) bool {
	return len(cidr.Difference(cidr.SetOf(ranges...), cidr.SetOf(rangesOf(prefixes)...)).Ranges()) == 0
}

// SetExternal is what [pool.SetExternal] does: the world after it, whom it strands in each pool, and why it is refused.
func (w *World) SetExternal(
	network string, external []netipx.IPRange, drain bool,
) (after *World, stranded map[string][]string, no Refusals) {
	after = w.clone()
	if after.External[network] = cidr.SetOf(external...).Ranges(); len(external) == 0 {
		delete(after.External, network)
	}
	var names []string
	for _, name := range w.Names() {
		if m := w.Pools[name]; m.Spec.Network == network && !m.IsChild() {
			names = append(names, w.Family(name)...)
			after.resolve(name)
			if !after.Pools[name].HasRoom() {
				no = append(no, pool.ErrInvalid)
			}
		}
	}
	stranded = w.Stranded(after, names)
	if len(stranded) > 0 && !drain {
		no = append(no, pool.ErrOutOfRange)
	}
	return after, stranded, no
}

// Delete is what [pool.Delete] does. What a pool was delegated from goes back to its parent.
func (w *World) Delete(name string) (*World, error) {
	m := w.Pools[name]
	switch {
	case m == nil:
		return nil, pool.ErrNoPool
	case len(m.Held()) > 0:
		return nil, pool.ErrInUse
	}
	after := w.without(name)
	for _, owner := range m.Grants {
		after = after.with(after.Pools[m.Parent].freed(w.Now, owner))
	}
	return after, nil
}
