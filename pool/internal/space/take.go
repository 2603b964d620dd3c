package space

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sort"

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
// Cost: a few searches of O(log ranges + levels) in each tier, and mostly well under a microsecond. A Want that is used
// again, with nothing freed in between, goes on where it has found something last, unless the strategy is another than
// [Lowest]; a tier that had nothing is not tried again. Nothing is allocated on the heap in steady state.
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
	if s.rules.Strategy == Next {
		s.change(f.family).cursor = netipx.PrefixLastIP(p).Next()
	}
	return p, nil
}

// find takes from the free space of f.
func (s *Space) find(f *familySpace, w *Want) (p netip.Prefix, err error) {
	switch {
	case w.Exact.IsValid():
		return w.Exact, f.free.Take(w.Exact)
	case len(w.Tiers) == 0:
		return s.search(f, w, nil)
	case w.Bits < 0 || w.Bits > f.family.Width():
		return p, fmt.Errorf("%w: prefix length %d: want 0 to %d", allocator.ErrInvalid, w.Bits, f.family.Width())
	}
	w.resume(s.freed)
	for ; w.tier < len(w.Tiers); w.tier, w.at = w.tier+1, 0 {
		if p, err = s.search(f, w, w.Tiers[w.tier]); !errors.Is(err, allocator.ErrExhausted) {
			return p, err
		}
	}
	return p, cmp.Or(err, errPartFull)
}

// resume makes a search go on where the last one with the same Want ended, unless something has been freed since.
func (w *Want) resume(freed uint64) {
	if w.freed != freed+1 {
		w.tier, w.at, w.freed = 0, 0, freed+1
	}
}

// search takes from one tier. A nil part is the whole family.
func (s *Space) search(f *familySpace, w *Want, part *Part) (netip.Prefix, error) {
	switch s.rules.Strategy {
	case Next:
		return s.takeFrom(f, s.tallies.families[f.family].cursor, w.Bits, part)
	case Random:
		return s.takeRandom(f, w.Bits, part)
	case Highest:
		return f.takeHighest(w.Bits, part)
	case Spread:
		return f.takeSpread(w.Bits, part)
	case Best:
		return f.takeBest(w.Bits, part)
	default:
		return f.takeLowest(w.Bits, part, &w.at)
	}
}

// takeLowest takes the lowest free prefix, the search for which begins at the range of the part with the index at. It
// sets at to the index of the range in which it was found.
func (f *familySpace) takeLowest(bits int, part *Part, at *int) (netip.Prefix, error) {
	if part == nil {
		return f.free.TakeFirst(bits)
	}
	p, i, err := part.firstFree(f.free, bits, *at, netip.Addr{})
	if err != nil {
		return p, err
	}
	*at = i
	return p, f.free.Take(p)
}

// takeHighest takes the highest free prefix.
func (f *familySpace) takeHighest(bits int, part *Part) (p netip.Prefix, err error) {
	if part == nil {
		p, err = f.free.LastFree(f.family.all().To(), bits)
	} else {
		p, err = part.lastFree(f.free, bits)
	}
	return f.takeFound(p, err)
}

// takeFound takes what was found, if there is no error.
func (f *familySpace) takeFound(p netip.Prefix, err error) (netip.Prefix, error) {
	if err != nil {
		return netip.Prefix{}, err
	}
	return p, f.free.Take(p)
}

// takeSpread takes the beginning of the lowest one of the largest free blocks.
func (f *familySpace) takeSpread(bits int, part *Part) (netip.Prefix, error) {
	longest, ok := f.free.LargestFree()
	if !ok || longest > bits {
		return f.takeLowest(bits, part, new(int)) // which finds nothing, and says so
	}
	first := func(length int) (p netip.Prefix, err error) {
		if part == nil {
			return f.free.FirstFree(f.family.all().From(), length)
		}
		p, _, err = part.firstFree(f.free, length, 0, netip.Addr{})
		return p, err
	}
	if part != nil { // what has a free block of a length also has one of each greater length
		longest += sort.Search(bits-longest, func(more int) bool {
			_, err := first(longest + more)
			return err == nil
		})
	}
	block, err := first(longest)
	return f.takeFound(netip.PrefixFrom(block.Addr(), bits), err)
}

// takeBest takes the beginning of the lowest one of the smallest free blocks that have room.
func (f *familySpace) takeBest(bits int, part *Part) (netip.Prefix, error) {
	if part != nil {
		return f.takeLowest(bits, part, new(int))
	}
	return f.takeFound(f.free.BestFree(bits))
}

// takeFrom takes the lowest free prefix at addr or above or, if there is none, of all. The zero Addr is the bottom.
func (s *Space) takeFrom(f *familySpace, addr netip.Addr, bits int, part *Part) (netip.Prefix, error) {
	if !addr.IsValid() {
		return f.takeLowest(bits, part, new(int))
	}
	var p netip.Prefix
	var err error
	if part == nil {
		p, err = f.free.TakeFirstFrom(addr, bits)
	} else if p, _, err = part.firstFree(f.free, bits, 0, addr); err == nil {
		err = f.free.Take(p)
	}
	if err == nil {
		return p, nil
	}
	return f.takeLowest(bits, part, new(int))
}

// randomTries is how often an address is picked before the next free one is taken. With half of the pool free,
// one of 65,536 requests comes to that.
const randomTries = 16

func (s *Space) takeRandom(f *familySpace, bits int, part *Part) (netip.Prefix, error) {
	within := part
	if within == nil {
		within = f.part
	}
	size := within.size()
	var last netip.Addr
	for range randomTries {
		addr, ok := within.nth(randomBelow(s.random, size))
		if !ok {
			break
		}
		last = addr
		p := netip.PrefixFrom(addr, bits).Masked()
		if p.IsValid() && (part == nil || part.Contains(p)) && f.free.IsFree(p) && f.free.Take(p) == nil {
			return p, nil
		}
	}
	return s.takeFrom(f, last, bits, part)
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
