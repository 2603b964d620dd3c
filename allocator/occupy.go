package allocator

import (
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// Occupy takes all free addresses in r, and returns how many it took. Addresses in r that are taken already stay taken,
// and addresses outside the set are ignored. It is for a program that knows which addresses are in use, but not which
// of them are marked as taken: a second call with the same range takes nothing.
//
// Errors, after which nothing has changed: [ErrInvalid] for a range that is invalid or of the other family.
//
// Cost: O(nodes in r + levels × prefixes in r). The prefixes are the fewest that cover r: one if r is a prefix, and at
// most 62 for IPv4 and 254 for IPv6.
func (a *Allocator) Occupy(r netipx.IPRange) (cidr.Count, error) {
	if err := a.checkRange(r); err != nil {
		return cidr.Count{}, err
	}
	s := a.spanOf(r)
	changed := a.countFree(s)
	if !changed.IsZero() {
		a.tree.paintRange(s, false) // nothing is free outside the set, so nothing changes there
		a.free = a.free.Sub(changed)
	}
	return changed, nil
}

// Vacate frees all taken addresses in r, and returns how many it freed. Addresses in r that are free already stay free,
// and addresses outside the set are ignored. It is the opposite of [Allocator.Occupy].
//
// Errors, after which nothing has changed: [ErrInvalid] for a range that is invalid or of the other family.
//
// Cost: that of Occupy, for each range of the set that overlaps r.
func (a *Allocator) Vacate(r netipx.IPRange) (cidr.Count, error) {
	if err := a.checkRange(r); err != nil {
		return cidr.Count{}, err
	}
	within := a.spanOf(r)
	var changed cidr.Count
	for _, u := range a.overlapping(within) {
		s := span{later(u.first, within.first), earlier(u.last, within.last)}
		taken := s.size().Sub(a.countFree(s))
		if !taken.IsZero() {
			a.tree.paintRange(s, true)
			changed = changed.Add(taken)
		}
	}
	a.free = a.free.Add(changed)
	return changed, nil
}

// overlapping returns the ranges of the set that overlap s.
func (a *Allocator) overlapping(s span) []span {
	from, _ := slices.BinarySearchFunc(a.universe, s.first, func(u span, x uint128) int { return compare(u.last, x) })
	to, found := slices.BinarySearchFunc(a.universe, s.last, func(u span, x uint128) int { return compare(u.first, x) })
	if found {
		to++
	}
	return a.universe[from:to]
}

// paintRange makes all addresses of s free or taken.
func (t *tree) paintRange(s span, free bool) {
	for x := s.first; ; {
		order := x.trailingZeros()
		if room := s.last.sub(x).next(); room != (uint128{}) {
			order = min(order, room.bitLen()-1)
		} // else s is the whole of IPv6, and order is 128
		t.paint(x, order, free)
		if x.last(order) == s.last {
			return
		}
		x = x.last(order).next()
	}
}
