package view

import (
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"sort"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

const (
	maxPanels = 12       // of one family
	minFilled = 1.0 / 16 // of a panel; what is sparser is drawn as two
)

// panel is one rectangle of a picture: all addresses of a prefix along a Hilbert curve.
type panel struct {
	prefix netip.Prefix
	grid   grid
}

// limits say how many cells there may be.
type limits struct{ family, panel int }

// panelsOf returns the panels that show all addresses of the set, which is of one family and not empty, in the order
// of the addresses. It starts with the smallest prefix that covers all, and divides the sparsest panel while that
// panel is mostly empty and there are not too many.
func panelsOf(set *netipx.IPSet, most limits) []panel {
	groups := [][]netip.Prefix{set.Prefixes()}
	for len(groups) < maxPanels {
		sparsest, filled := 0, math.Inf(1)
		for i, group := range groups {
			if f := filledBy(group); f < filled {
				sparsest, filled = i, f
			}
		}
		if filled >= minFilled {
			break
		}
		low, high := divide(groups[sparsest])
		groups = slices.Replace(groups, sparsest, sparsest+1, low, high)
	}
	mostBits := bits.Len(uint(min(most.panel, most.family/len(groups)))) - 1
	panels := make([]panel, len(groups))
	for i, group := range groups {
		p := cover(group)
		n := p.Addr().BitLen() - p.Bits()
		if n > mostBits {
			n = mostBits &^ 1 // a square
		}
		panels[i] = panel{p, grid{n}}
	}
	return panels
}

// cover returns the smallest prefix that has all of the prefixes, which are sorted.
func cover(group []netip.Prefix) netip.Prefix {
	first, last := group[0].Addr(), netipx.PrefixLastIP(group[len(group)-1])
	a, b := positionOf(first), positionOf(last)
	common := bits.LeadingZeros64(a.hi ^ b.hi)
	if common == 64 {
		common += bits.LeadingZeros64(a.lo ^ b.lo)
	}
	return netip.PrefixFrom(first, common-(128-first.BitLen())).Masked()
}

// filledBy returns which part of the prefix that covers the group is in it.
func filledBy(group []netip.Prefix) float64 {
	whole, sum := cover(group).Bits(), 0.0
	for _, p := range group {
		sum += math.Ldexp(1, whole-p.Bits())
	}
	return sum
}

// divide cuts a group of at least two prefixes where the halves of its cover meet.
func divide(group []netip.Prefix) (low, high []netip.Prefix) {
	whole := cover(group)
	lower := netip.PrefixFrom(whole.Addr(), whole.Bits()+1)
	i := slices.IndexFunc(group, func(p netip.Prefix) bool { return !lower.Contains(p.Addr()) })
	return group[:i], group[i:]
}

// hostBits is the number of address bits below the panel's prefix.
func (p panel) hostBits() int { return p.prefix.Addr().BitLen() - p.prefix.Bits() }

// cell returns the cell that an address of the panel is in.
func (p panel) cell(addr netip.Addr) int {
	return positionOf(addr).bits(p.hostBits()-p.grid.bits, p.grid.bits)
}

// block returns the addresses of 2^n cells from cell i on.
func (p panel) block(i, n int) netip.Prefix {
	// It is an aligned block of the panel, so there is such a prefix.
	prefix, _ := cidr.Subnet(p.prefix, p.prefix.Bits()+p.grid.bits-n, cidr.CountOf(uint64(i>>n)))
	return prefix
}

// cellSize is the number of addresses of each cell.
func (p panel) cellSize() float64 { return math.Ldexp(1, p.hostBits()-p.grid.bits) }

// visible is what a picture of the family shows: the ranges and subnets, and all that is held elsewhere.
func visible(spec pool.Spec, family pool.Family, held []held) *netipx.IPSet {
	var b netipx.IPSetBuilder
	b.AddSet(cidr.SetOf(rangesOf(spec, family)...))
	for _, subnet := range spec.Subnets {
		if pool.FamilyOf(subnet.Prefix.Addr()) == family {
			b.AddPrefix(subnet.Prefix)
		}
	}
	shown, _ := b.Clone().IPSet() // nothing invalid was added
	ranges := shown.Ranges()
	var around netipx.IPRange // one of its ranges, which had the one before
	for i := range held {
		first, last := held[i].prefix.Addr(), held[i].last()
		if around.Contains(first) && around.Contains(last) {
			continue
		}
		if around = rangeAround(ranges, first); !around.Contains(last) {
			b.AddPrefix(held[i].prefix)
		}
	}
	shown, _ = b.IPSet()
	return shown
}

// rangeAround returns the range that contains addr, of ranges in order; the zero range if there is none. Cost: O(log
// ranges).
func rangeAround(ranges []netipx.IPRange, addr netip.Addr) netipx.IPRange {
	i := sort.Search(len(ranges), func(i int) bool { return !ranges[i].To().Less(addr) })
	if i < len(ranges) && ranges[i].Contains(addr) {
		return ranges[i]
	}
	return netipx.IPRange{}
}

// rangesOf returns the ranges of the spec that are of the family. None at all means all of the subnets.
func rangesOf(spec pool.Spec, family pool.Family) []netipx.IPRange {
	all := spec.Ranges
	if len(all) == 0 {
		for _, subnet := range spec.Subnets {
			all = append(all, netipx.RangeOfPrefix(subnet.Prefix))
		}
	}
	return ofFamily(all, family)
}

func ofFamily(ranges []netipx.IPRange, family pool.Family) []netipx.IPRange {
	var of []netipx.IPRange
	for _, r := range ranges {
		if r.IsValid() && pool.FamilyOf(r.From()) == family {
			of = append(of, r)
		}
	}
	return of
}
