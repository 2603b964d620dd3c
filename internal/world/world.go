// Package world is what package pool does, done naively: a model of a whole store of pools, with networks, parents and
// children, and addresses that are external. Tests hold it against the real thing.
//
// A [World] is never changed. Each call of package pool is a function from a world to the world after it, or to the
// errors of which the real call may return any. The model looks at each address of a small universe and keeps nothing
// but records, so that it can be checked by reading.
//
// What must be true of any world, [World.Check] tells; [Audit] reads a real store and tells the same of it.
package world

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"
)

// World is all that is in a store, at one moment. The zero World is empty and ready to use. It is not changed, so it
// may be shared.
type World struct {
	Now      time.Time
	Pools    map[string]*Pool
	External map[string][]netipx.IPRange // by network
	Past     map[string][]Past           // by pool, also of pools that are gone
}

// Refusals are the errors of which a call may return any. None means that the call succeeds.
type Refusals []error

// first is one of them, or nil.
func (no Refusals) first() error {
	if len(no) == 0 {
		return nil
	}
	return no[0]
}

// At returns the world at another time.
func (w *World) At(now time.Time) *World {
	after := w.clone()
	after.Now = now
	return after
}

func (w *World) clone() *World {
	after := *w
	after.Pools, after.External, after.Past = maps.Clone(w.Pools), maps.Clone(w.External), maps.Clone(w.Past)
	if after.Pools == nil {
		after.Pools = map[string]*Pool{}
	}
	if after.External == nil {
		after.External = map[string][]netipx.IPRange{}
	}
	if after.Past == nil {
		after.Past = map[string][]Past{}
	}
	return &after
}

// with returns the world with other pools in the place of those of their names.
func (w *World) with(pools ...*Pool) *World {
	after := w.clone()
	for _, m := range pools {
		after.Pools[m.Name] = m
	}
	return after
}

// without returns the world without a pool.
func (w *World) without(name string) *World {
	after := w.clone()
	delete(after.Pools, name)
	return after
}

// Names returns the names of the pools, sorted.
func (w *World) Names() []string { return slices.Sorted(maps.Keys(w.Pools)) }

// children returns the names of the pools that were delegated from one, sorted.
func (w *World) children(name string) []string {
	return slices.DeleteFunc(w.Names(), func(other string) bool {
		return !w.Pools[other].IsChild() || w.Pools[other].Parent != name
	})
}

// Family returns the names of a pool and of all that was delegated from it, parents first.
func (w *World) Family(name string) []string {
	names := []string{name}
	for _, child := range w.children(name) {
		names = append(names, w.Family(child)...)
	}
	return names
}

// ChildOf returns the pool that was delegated out of a record of the pool of that name; nil if there is none.
func (w *World) ChildOf(name string, r *Record) *Pool {
	child := w.Pools[r.Child]
	if r.delegated() && child != nil && child.Parent == name && slices.Contains(child.Grants, r.Owner) {
		return child
	}
	return nil
}

// Granted are the prefixes that the parent of a pool holds for it.
func (w *World) Granted(m *Pool) []netip.Prefix {
	var granted []netip.Prefix
	for _, owner := range m.Grants {
		granted = append(granted, w.grant(m, owner)...)
	}
	return granted
}

// grant are the prefixes of one grant.
func (w *World) grant(m *Pool, owner string) []netip.Prefix {
	parent := w.Pools[m.Parent]
	if parent == nil {
		return nil
	}
	if r := parent.Live(owner); r != nil && r.Child == m.Name {
		return r.Prefixes
	}
	return nil
}

// isExternal reports whether somebody else hands out a in the network of a pool.
func (w *World) isExternal(m *Pool, a netip.Addr) bool {
	return m.Spec.Network != "" && inAny(w.External[m.Spec.Network], a)
}

// resolve finds out what a pool and all that was delegated from it may hand out. It is called on a world that nobody
// else has yet.
func (w *World) resolve(name string) {
	for _, each := range w.Family(name) {
		m := w.Pools[each].clone()
		m.Allowed = map[netip.Addr]bool{}
		granted := rangesOf(w.Granted(m))
		for _, f := range m.Families() {
			for _, a := range AddrsOf(m.Universe[f]) {
				own := m.own(f, a)
				if !m.IsChild() {
					m.Allowed[a] = own && !w.isExternal(m, a) && w.mayMove(m, f, a)
				} else { // what was not granted is not there, so that the parent is if anything was
					m.Allowed[a] = own && inAny(granted, a) && w.Pools[m.Parent].Allowed[a]
				}
			}
		}
		w.Pools[each] = m
	}
}

func inAny(rs []netipx.IPRange, a netip.Addr) bool {
	return slices.ContainsFunc(rs, func(r netipx.IPRange) bool { return r.Contains(a) })
}

func rangesOf(prefixes []netip.Prefix) []netipx.IPRange {
	var ranges []netipx.IPRange
	for _, p := range prefixes {
		ranges = append(ranges, netipx.RangeOfPrefix(p))
	}
	return ranges
}

// AddrsOf returns the addresses of a prefix, in order.
func AddrsOf(p netip.Prefix) []netip.Addr {
	var all []netip.Addr
	for a := p.Masked().Addr(); p.Contains(a); a = a.Next() {
		all = append(all, a)
	}
	return all
}
