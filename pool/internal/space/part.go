package space

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
)

// Part is a set of addresses of one family, ready to be searched; see [Want]. A nil Part is the whole of the family,
// and the zero Part has no addresses. A Part is not changed, and may be used by any number of goroutines.
type Part struct {
	ranges []netipx.IPRange

	sum  sync.Once
	ends []cidr.Count // how many addresses there are up to the end of each range; see sums
}

// NewPart returns the part that has these ranges. They are valid and of one family, in order, and do not touch, as in
// [netipx.IPSet.Ranges]. The part keeps the slice. Cost: O(1).
func NewPart(ranges []netipx.IPRange) *Part { return &Part{ranges: ranges} }

// Ranges returns the ranges of the part, in order, which must not be changed; none for a nil Part.
func (p *Part) Ranges() []netipx.IPRange {
	if p == nil {
		return nil
	}
	return p.ranges
}

// Contains reports whether every address of prefix is in the part. Cost: O(log ranges).
func (p *Part) Contains(prefix netip.Prefix) bool {
	r := netipx.RangeOfPrefix(prefix)
	i := p.from(r.From())
	return i < len(p.ranges) && p.ranges[i].Contains(r.From()) && p.ranges[i].Contains(r.To())
}

// Overlaps reports whether any address of prefix is in the part. Cost: O(log ranges).
func (p *Part) Overlaps(prefix netip.Prefix) bool {
	r := netipx.RangeOfPrefix(prefix)
	i := p.from(r.From())
	return i < len(p.ranges) && p.ranges[i].Overlaps(r)
}

// from returns the index of the first range that ends at addr or above.
func (p *Part) from(addr netip.Addr) int { return firstRange(p.ranges, addr) }

// firstRange is the index of the first range that ends at addr or above.
func firstRange(ranges []netipx.IPRange, addr netip.Addr) int {
	i, _ := slices.BinarySearchFunc(ranges, addr, func(r netipx.IPRange, addr netip.Addr) int {
		return r.To().Compare(addr)
	})
	return i
}

// sums returns how many addresses there are up to the end of each range. Cost: O(ranges) the first time.
func (p *Part) sums() []cidr.Count {
	p.sum.Do(func() {
		p.ends = make([]cidr.Count, len(p.ranges))
		var sum cidr.Count
		for i, r := range p.ranges {
			sum = sum.Add(cidr.RangeSize(r))
			p.ends[i] = sum
		}
	})
	return p.ends
}

// size is the number of addresses.
func (p *Part) size() cidr.Count {
	if ends := p.sums(); len(ends) > 0 {
		return ends[len(ends)-1]
	}
	return cidr.Count{}
}

// nth returns the address that has n others before it; false if there is none. Cost: O(log ranges).
func (p *Part) nth(n cidr.Count) (netip.Addr, bool) {
	ends := p.sums()
	i, found := slices.BinarySearchFunc(ends, n, cidr.Count.Cmp)
	if found { // that many are before the next range
		i++
	}
	if i >= len(ends) {
		return netip.Addr{}, false
	}
	first := p.ranges[i].From()
	before := ends[i].Sub(cidr.RangeSize(p.ranges[i]))
	f := FamilyOf(first)
	at, ok := cidr.Subnet(f.whole(), f.Width(), number(first).Add(n.Sub(before)))
	return at.Addr(), ok
}

// firstFree returns the lowest free prefix of the length that lies in one range of the part and starts at addr or
// above, with the index of that range. The search begins at the range with the index i. The zero Addr is the bottom.
//
// Each step either leaps over ranges that end before the next free prefix, or over free prefixes that start before the
// next range. Cost: O(log ranges + levels) a step, and at most as many steps as there are ranges or free runs.
func (p *Part) firstFree(free searcher, bits, i int, addr netip.Addr) (netip.Prefix, int, error) {
	if addr.IsValid() {
		i = max(i, p.from(addr))
	}
	for i < len(p.ranges) {
		from := p.ranges[i].From()
		if from.Less(addr) {
			from = addr
		}
		found, err := free.FirstFree(from, bits)
		if err != nil {
			return netip.Prefix{}, i, err
		}
		last := netipx.PrefixLastIP(found)
		if !p.ranges[i].To().Less(last) {
			return found, i, nil
		}
		i += 1 + firstRange(p.ranges[i+1:], last)
	}
	return netip.Prefix{}, i, errPartFull
}

// lastFree returns the highest free prefix of the length that lies in one range of the part. It goes down as firstFree
// goes up, at the same cost.
func (p *Part) lastFree(free searcher, bits int) (netip.Prefix, error) {
	for i := len(p.ranges) - 1; i >= 0; {
		start, ok := lastStart(p.ranges[i].To(), bits)
		if !ok {
			break
		}
		found, err := free.LastFree(start, bits)
		if err != nil {
			return netip.Prefix{}, err
		}
		if !found.Addr().Less(p.ranges[i].From()) {
			return found, nil
		}
		i = min(i-1, p.from(found.Addr())) // those between begin above it
	}
	return netip.Prefix{}, errPartFull
}

// lastStart returns where the highest prefix of the length begins that ends at addr or below; false if there is none.
func lastStart(addr netip.Addr, bits int) (netip.Addr, bool) {
	p, err := addr.Prefix(bits)
	if err != nil {
		return addr, true // and the search says what is wrong with the length
	}
	if netipx.PrefixLastIP(p) == addr {
		return p.Addr(), true
	}
	below := p.Addr().Prev()
	if !below.IsValid() {
		return below, false
	}
	return netip.PrefixFrom(below, bits).Masked().Addr(), true
}

// searcher is what is searched: an [allocator.Allocator], but for tests.
type searcher interface {
	FirstFree(addr netip.Addr, bits int) (netip.Prefix, error)
	LastFree(addr netip.Addr, bits int) (netip.Prefix, error)
}

// errPartFull is why a search in a part finds nothing.
var errPartFull = fmt.Errorf("%w: no free prefix of the length is left in the ranges asked for", allocator.ErrExhausted)
