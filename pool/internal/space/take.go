package space

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
)

// Take takes what w asks for, by the strategy of the rules. After an error nothing has changed.
//
// Errors: [allocator.ErrExhausted] if nothing free of the length is in the tiers; for an exact prefix
// [allocator.ErrTaken] and [allocator.ErrOutside], which is also that of a family that the rules do not have;
// [allocator.ErrInvalid] for a length or a prefix that the family does not have; [ErrCorrupt] after a failed Load.
//
// Cost: O(ranges tried × levels), and mostly well under a microsecond. Nothing is allocated on the heap in
// steady state, but for the error of each tier that has nothing.
func (s *Space) Take(w *Want) (netip.Prefix, error) {
	if s.broken {
		return netip.Prefix{}, errBroken
	}
	f := s.of(w.Family)
	if f == nil {
		return netip.Prefix{}, fmt.Errorf("%w: there are no %v addresses", allocator.ErrOutside, w.Family)
	}
	p, err := s.find(f, w)
	if err != nil {
		return netip.Prefix{}, err
	}
	s.journal = append(s.journal, change{f.family, p, false})
	if s.rules.Strategy == Next && !w.Exact.IsValid() {
		s.change().families[f.family].cursor = netipx.PrefixLastIP(p).Next()
	}
	return p, nil
}

// find takes from the free space of f.
func (s *Space) find(f *familySpace, w *Want) (p netip.Prefix, err error) {
	switch {
	case w.Exact.IsValid():
		return w.Exact, f.free.Take(w.Exact)
	case len(w.Tiers) == 0:
		return s.search(f, w.Bits, nil)
	}
	for _, ranges := range w.Tiers {
		if p, err = s.search(f, w.Bits, ranges); !errors.Is(err, allocator.ErrExhausted) {
			return p, err
		}
	}
	return p, err
}

// search takes from one tier. nil ranges are the whole family.
func (s *Space) search(f *familySpace, bits int, ranges []netipx.IPRange) (netip.Prefix, error) {
	switch s.rules.Strategy {
	case Next:
		return s.takeFrom(f, s.tallies.families[f.family].cursor, bits, ranges)
	case Random:
		return s.takeRandom(f, bits, ranges)
	default:
		return f.takeLowest(bits, ranges)
	}
}

func (f *familySpace) takeLowest(bits int, ranges []netipx.IPRange) (netip.Prefix, error) {
	if ranges == nil {
		return f.free.TakeFirst(bits)
	}
	return f.free.TakeFirstIn(bits, ranges...)
}

// takeFrom takes the lowest free prefix at addr or above or, if there is none, of all. The zero Addr is the bottom.
func (s *Space) takeFrom(f *familySpace, addr netip.Addr, bits int, ranges []netipx.IPRange) (netip.Prefix, error) {
	var p netip.Prefix
	var err error
	if !addr.IsValid() {
		return f.takeLowest(bits, ranges)
	}
	if ranges == nil {
		p, err = f.free.TakeFirstFrom(addr, bits)
	} else {
		s.above = appendAbove(s.above[:0], addr, ranges)
		p, err = f.free.TakeFirstIn(bits, s.above...)
	}
	if err == nil {
		return p, nil
	}
	return f.takeLowest(bits, ranges)
}

// appendAbove appends the parts of the ranges at addr and above.
func appendAbove(parts []netipx.IPRange, addr netip.Addr, ranges []netipx.IPRange) []netipx.IPRange {
	for _, r := range ranges {
		switch {
		case r.To().Less(addr):
		case r.From().Less(addr):
			parts = append(parts, netipx.IPRangeFrom(addr, r.To()))
		default:
			parts = append(parts, r)
		}
	}
	return parts
}

// randomTries is how often an address is picked before the next free one is taken. With half of the pool free,
// one of 65,536 requests comes to that.
const randomTries = 16

func (s *Space) takeRandom(f *familySpace, bits int, ranges []netipx.IPRange) (netip.Prefix, error) {
	within := ranges
	if within == nil {
		within = f.ranges
	}
	size := sizeOf(within, f.family)
	var last netip.Addr
	for range randomTries {
		addr, ok := nth(within, f.family, randomBelow(s.random, size))
		if !ok {
			break
		}
		last = addr
		p := netip.PrefixFrom(addr, bits).Masked()
		if p.IsValid() && (ranges == nil || contains(ranges, p)) && f.free.IsFree(p) && f.free.Take(p) == nil {
			return p, nil
		}
	}
	return s.takeFrom(f, last, bits, ranges)
}

// sizeOf is the number of addresses of the family in the ranges.
func sizeOf(ranges []netipx.IPRange, family Family) cidr.Count {
	var size cidr.Count
	for _, r := range ranges {
		if FamilyOf(r.From()) == family {
			size = size.Add(cidr.RangeSize(r))
		}
	}
	return size
}

// nth returns the address of the family that has n others of it before it in the ranges; false if there is none.
func nth(ranges []netipx.IPRange, family Family, n cidr.Count) (netip.Addr, bool) {
	for _, r := range ranges {
		if FamilyOf(r.From()) != family {
			continue
		}
		if size := cidr.RangeSize(r); n.Cmp(size) >= 0 {
			n = n.Sub(size)
			continue
		}
		p, ok := cidr.Subnet(family.whole(), family.Width(), number(r.From()).Add(n))
		return p.Addr(), ok
	}
	return netip.Addr{}, false
}

// number is the address as a number.
func number(addr netip.Addr) cidr.Count {
	if addr.Is4() {
		b := addr.As4()
		return cidr.CountOf(uint64(binary.BigEndian.Uint32(b[:])))
	}
	b := addr.As16()
	return cidr.Count128(binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]))
}

// contains reports whether p lies in one of the ranges.
func contains(ranges []netipx.IPRange, p netip.Prefix) bool {
	first, last := p.Addr(), netipx.PrefixLastIP(p)
	for _, r := range ranges {
		if r.Contains(first) {
			return r.Contains(last)
		}
	}
	return false
}

// randomBelow returns a number from 0 up to but without size, each as likely as any other; 0 if size is 0. More
// than 64 draws are for a source that is not random.
func randomBelow(random func() uint64, size cidr.Count) cidr.Count {
	n := cidr.Count{}
	for range 64 {
		if n = cidr.Count128(random(), random()).Low(size.BitLen()); n.Cmp(size) < 0 {
			return n
		}
	}
	return n.Sub(size)
}
