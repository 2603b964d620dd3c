package world

import (
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// Pools within pools.

// Delegate is what [pool.Delegate] does for a child of a spec without ranges: the world after it, and what is granted
// in the parent. A child that is there already is returned as it is.
func (w *World) Delegate(
	parent string, c pool.Claim, child *Pool, seen Sight,
) (after *World, granted *Record, no Refusals) {
	network := w.Pools[parent].Spec.Network
	if child.Name == parent {
		return nil, nil, Refusals{pool.ErrInvalid}
	}
	if child.Spec.Network != "" && child.Spec.Network != network {
		no = append(no, pool.ErrInvalid)
	}
	old := w.Pools[parent].Live(c.Owner)
	m, granted, err := w.Pools[parent].allocate(w.Now, c, child.Name, false, seen)
	if err != nil {
		return nil, nil, append(no, err)
	}
	after = w.with(m)
	if old != nil && old.Child == child.Name {
		return after, granted, nil // whatever the spec
	}
	fresh := child.clone()
	fresh.Parent, fresh.Grants = parent, []string{c.Owner}
	fresh.Spec.Network, fresh.Spec.Ranges = network, rangesOf(granted.Prefixes)
	if fresh.Spec.Validate() != nil {
		no = append(no, pool.ErrInvalid)
	}
	after, refused := after.place(fresh)
	return after, granted, append(no, refused...)
}

// Extend is what the pool's Extend does: it takes what the claim asks for from the parent, and adds it to the child's
// ranges.
func (w *World) Extend(name string, c pool.Claim, seen Sight) (after *World, granted *Record, no Refusals) {
	child := w.Pools[name]
	if !child.IsChild() {
		return nil, nil, Refusals{pool.ErrInvalid}
	}
	parent, granted, err := w.Pools[child.Parent].allocate(w.Now, c, name, false, seen)
	if err != nil {
		return nil, nil, Refusals{err}
	}
	after = w.with(parent)
	if slices.Contains(child.Grants, c.Owner) {
		return after, granted, nil
	}
	larger := child.clone()
	larger.Grants = append(larger.Grants, c.Owner)
	larger.Spec.Ranges = append(slices.Clone(Ranges(child.Spec)), rangesOf(granted.Prefixes)...)
	after = after.with(larger)
	after.resolve(name)
	if larger.Spec.Validate() != nil {
		no = append(no, pool.ErrInvalid)
	}
	return after, granted, no
}

// Retract is what the pool's Retract does: it gives one grant back to the parent.
func (w *World) Retract(name, owner string) (after *World, no Refusals) {
	child := w.Pools[name]
	if !slices.Contains(child.Grants, owner) {
		return nil, Refusals{pool.ErrNotFound}
	}
	if !w.IsEmpty(child, owner) {
		return nil, Refusals{pool.ErrInUse}
	}
	given := cidr.SetOf(rangesOf(w.grant(child, owner))...)
	smaller := child.clone()
	smaller.Grants = slices.DeleteFunc(smaller.Grants, func(other string) bool { return other == owner })
	smaller.Spec.Ranges = nil
	for _, r := range Ranges(child.Spec) {
		smaller.Spec.Ranges = append(smaller.Spec.Ranges, cidr.Difference(cidr.SetOf(r), given).Ranges()...)
	}
	if len(smaller.Spec.Ranges) == 0 || smaller.Spec.Validate() != nil {
		return nil, Refusals{pool.ErrInvalid, pool.ErrInUse}
	}
	after = w.with(w.Pools[child.Parent].freed(w.Now, owner), smaller)
	after.resolve(name)
	return after, nil
}

// IsEmpty reports whether a child holds nothing in one of its grants, and nothing cools down there.
func (w *World) IsEmpty(child *Pool, owner string) bool {
	grant := rangesOf(w.grant(child, owner))
	return !slices.ContainsFunc(child.Records, func(r *Record) bool { return overlap(rangesOf(r.Prefixes), grant) })
}

// hasRoom reports whether each family of one of a child's grants has something free there.
func (w *World) hasRoom(child *Pool, owner string) bool {
	free := child.Free()
	families := map[pool.Family]bool{}
	for _, p := range w.grant(child, owner) {
		f := pool.FamilyOf(p.Addr())
		for _, a := range AddrsOf(p) {
			families[f] = families[f] || free[a]
		}
	}
	for _, room := range families {
		if !room {
			return false
		}
	}
	return true
}

func overlap(some, others []netipx.IPRange) bool {
	return len(cidr.Intersection(cidr.SetOf(some...), cidr.SetOf(others...)).Ranges()) > 0
}
