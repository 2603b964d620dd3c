package space

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
)

// Space is which addresses of a pool are free, and what has been done about it since the last commit.
//
// The zero Space is not usable; see [New]. A Space must not be copied, and is not safe for concurrent use.
//
// Prefixes that are given to it should have no host bits. Take and Free refuse those that do; other methods
// ignore them.
type Space struct {
	rules    Rules
	families []*familySpace            // in the order of the rules
	byFamily [numFamilies]*familySpace // the same; nil for a family that the rules do not have
	tallies  tallies                   // what the free space does not say
	owned    map[Whose][numFamilies]cidr.Count
	random   func() uint64 // nil unless the strategy needs it
	limits   limits        // of the pieces
	journal  []change      // what became free or taken in this transaction
	earlier  []earlier     // what the tally of a family was before each of its changes in it
	recounts []recount     // what counters of records were before each of theirs
	ownings  []owning      // what counts of addresses by owner were before each of theirs
	freed    uint64        // how often something may have become free
	broken   bool          // a load has failed, and none has succeeded since
}

// familySpace is the free space of one family, and how the head has it.
type familySpace struct {
	family   Family
	part     *Part // what may be handed out
	free     *allocator.Allocator
	reserved cidr.Count
	pieces   []piece // as committed; empty if nothing is
	rewrite  bool    // pieces and journal together do not make up what is free: the next commit writes all of it
}

// New returns the space of a pool in which nothing is taken. random returns a random number each time; it may be
// nil unless the strategy is [Random].
//
// The only error wraps [allocator.ErrInvalid], if the rules are not what their comments ask for. Cost: O(ranges).
func New(rules Rules, random func() uint64) (*Space, error) {
	if err := rules.check(random); err != nil {
		return nil, err
	}
	s := &Space{rules: rules, random: random, limits: defaultLimits}
	for _, r := range rules.Families {
		f, err := newFamilySpace(r)
		if err != nil {
			return nil, err
		}
		s.families = append(s.families, f)
		s.byFamily[r.Family] = f
	}
	return s, nil
}

func newFamilySpace(r FamilyRules) (*familySpace, error) {
	f := &familySpace{family: r.Family, part: NewPart(nil), free: allocator.Empty(r.Family == V4)}
	if r.Set != nil {
		f.part = NewPart(r.Set.Ranges())
	}
	if ranges := f.part.ranges; len(ranges) > 0 {
		free, err := allocator.New(r.Set)
		if err != nil {
			return nil, err
		}
		if f.free = free; free.Is4() != (r.Family == V4) {
			return nil, fmt.Errorf("%w: the set of %v starts at %v", allocator.ErrInvalid, r.Family, ranges[0].From())
		}
	}
	f.reserved = r.Total.Sub(f.free.Total())
	return f, nil
}

// of returns the part of the space for a family; nil if the rules do not have it.
func (s *Space) of(f Family) *familySpace {
	if f >= numFamilies {
		return nil
	}
	return s.byFamily[f]
}

// Rules returns what New was given.
func (s *Space) Rules() Rules { return s.rules }

// Has reports whether the rules have the family.
func (s *Space) Has(f Family) bool { return s.of(f) != nil }

// Covers reports whether every address of p may be handed out, whether it is free or taken. Cost: O(log ranges).
func (s *Space) Covers(p netip.Prefix) bool {
	f := s.of(FamilyOf(p.Addr()))
	return f != nil && f.free.Covers(p)
}

// CoversSome reports whether any address of p may be handed out, whether it is free or taken. Cost: O(log ranges).
func (s *Space) CoversSome(p netip.Prefix) bool {
	for range s.parts(p) {
		return true
	}
	return false
}

// Inside returns what may be handed out of p, as prefixes in order, and the number of its other addresses. It
// does not matter what is free. Cost: O(log ranges + prefixes returned).
func (s *Space) Inside(p netip.Prefix) (in []netip.Prefix, outside cidr.Count) {
	outside = cidr.PrefixSize(p)
	for r := range s.parts(p) {
		in = r.AppendPrefixes(in)
		outside = outside.Sub(cidr.RangeSize(r))
	}
	return in, outside
}

// IsFreeWithin reports whether all that may be handed out of p is free. It is true if nothing of p may be handed
// out. Cost: O(log ranges + ranges in p × runs).
func (s *Space) IsFreeWithin(p netip.Prefix) bool {
	for r := range s.parts(p) {
		if free := s.byFamily[FamilyOf(p.Addr())].free.FreeIn(r); free != cidr.RangeSize(r) {
			return false
		}
	}
	return true
}

// Longest returns the length, in bits, of the longest free block of the family; -1 if no address is free. Cost: O(1).
func (s *Space) Longest(f Family) int {
	if space := s.of(f); space != nil {
		if bits, ok := space.free.LargestFree(); ok {
			return bits
		}
	}
	return -1
}

// CountFree returns how many prefixes of the length are free in the family; 0 if the rules do not have it.
//
// Errors: [allocator.ErrInvalid] for a length that the family does not have. Cost: O(nodes).
func (s *Space) CountFree(f Family, bits int) (cidr.Count, error) {
	if space := s.of(f); space != nil {
		return space.free.CountFree(bits)
	}
	return cidr.Count{}, nil
}

// FreeSet returns the addresses of the family that are free. It is empty, not nil, for a family that the rules
// do not have. Cost: O(runs).
func (s *Space) FreeSet(f Family) *netipx.IPSet {
	if space := s.of(f); space != nil {
		return setOf(space.free.FreeRanges())
	}
	return &netipx.IPSet{}
}

// TakenSet returns the addresses of the family that are taken, as [Space.FreeSet] does. Addresses that cool down
// are among them; those that are out of range are not.
func (s *Space) TakenSet(f Family) *netipx.IPSet {
	if space := s.of(f); space != nil {
		return setOf(space.free.TakenRanges())
	}
	return &netipx.IPSet{}
}

func setOf(ranges iter.Seq[netipx.IPRange]) *netipx.IPSet {
	return cidr.SetOf(slices.Collect(ranges)...)
}

// parts iterates over the ranges of what may be handed out of p, in order.
func (s *Space) parts(p netip.Prefix) iter.Seq[netipx.IPRange] {
	return func(yield func(netipx.IPRange) bool) {
		whole, f := netipx.RangeOfPrefix(p), s.of(FamilyOf(p.Addr()))
		if f == nil || !whole.IsValid() {
			return
		}
		for _, r := range f.part.ranges[f.part.from(whole.From()):] {
			part, ok := intersection(r, whole)
			if !ok || !yield(part) {
				return
			}
		}
	}
}

// intersection returns the addresses that are in a and in b, two valid ranges; false if there are none.
func intersection(a, b netipx.IPRange) (netipx.IPRange, bool) {
	from, to := a.From(), a.To()
	if from.Less(b.From()) {
		from = b.From()
	}
	if b.To().Less(to) {
		to = b.To()
	}
	r := netipx.IPRangeFrom(from, to)
	return r, r.IsValid()
}

// sizeInside is how many addresses of p may be handed out.
func (s *Space) sizeInside(p netip.Prefix) cidr.Count {
	if s.Covers(p) {
		return cidr.PrefixSize(p)
	}
	var size cidr.Count
	for r := range s.parts(p) {
		size = size.Add(cidr.RangeSize(r))
	}
	return size
}
