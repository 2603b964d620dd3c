package view

import (
	"iter"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// tile is a run of addresses of one class.
type tile struct {
	from, to netip.Addr
	class    class
	record   int // which of what is held it is of, or nobody
}

const nobody = -1

// sortHeld sorts by address, and by owner where several have the same.
func sortHeld(all []held) {
	slices.SortFunc(all, func(a, b held) int {
		if byAddr := a.prefix.Masked().Addr().Compare(b.prefix.Masked().Addr()); byAddr != 0 {
			return byAddr
		}
		return strings.Compare(a.owner, b.owner)
	})
}

// tilesOf iterates over the tiles of what is held, which is sorted. If two have the same address, which no pool allows,
// the first one counts.
func tilesOf(all []held) iter.Seq[tile] {
	return func(yield func(tile) bool) {
		var last netip.Addr
		for i, h := range all {
			t := tile{h.prefix.Masked().Addr(), netipx.PrefixLastIP(h.prefix), h.class, i}
			if i > 0 && !last.Less(t.from) {
				if !last.Less(t.to) {
					continue
				}
				t.from = last.Next()
			}
			last = t.to
			if !yield(t) {
				return
			}
		}
	}
}

// groundSets returns, by class, what the addresses of the family would be if none were held. No two
// of the sets overlap.
func groundSets(info pool.Info, family pool.Family) [classes]*netipx.IPSet {
	spec := info.Spec
	var gateways []netipx.IPRange
	for _, subnet := range spec.Subnets {
		if subnet.Gateway.IsValid() && pool.FamilyOf(subnet.Gateway) == family {
			gateways = append(gateways, netipx.IPRangeFrom(subnet.Gateway, subnet.Gateway))
		}
	}
	var sets [classes]*netipx.IPSet
	ranges := cidr.SetOf(rangesOf(spec, family)...)
	theirs := cidr.SetOf(ofFamily(info.Withheld, family)...)
	sets[gateway] = cidr.SetOf(gateways...)
	sets[free] = cidr.Difference(spec.Set(family), theirs)
	rest := cidr.Difference(cidr.Difference(ranges, sets[gateway]), sets[free])
	for _, other := range []struct {
		class class
		set   *netipx.IPSet
	}{{excluded, cidr.SetOf(ofFamily(spec.Exclude, family)...)}, {external, theirs}, {reserved, rest}} {
		sets[other.class] = cidr.Intersection(rest, other.set)
		rest = cidr.Difference(rest, other.set)
	}
	return sets
}

// groundTiles returns the tiles that the sets make of a panel's addresses, in order and without gaps.
func groundTiles(sets *[classes]*netipx.IPSet, p netip.Prefix) []tile {
	whole := netipx.RangeOfPrefix(p)
	within := cidr.SetOf(whole)
	rest := within
	var tiles []tile
	add := func(set *netipx.IPSet, c class) {
		for _, r := range set.Ranges() {
			tiles = append(tiles, tile{r.From(), r.To(), c, nobody})
		}
	}
	for c, set := range sets {
		if set != nil {
			add(cidr.Intersection(set, within), class(c))
			rest = cidr.Difference(rest, set)
		}
	}
	add(rest, outside)
	slices.SortFunc(tiles, func(a, b tile) int { return a.from.Compare(b.from) })
	return tiles
}

// overlay iterates over the ground with what is held on it. Both are in order; the ground has all of held. Cost:
// O(both).
func overlay(ground []tile, held iter.Seq[tile]) iter.Seq[tile] {
	return func(yield func(tile) bool) {
		next, stop := iter.Pull(held)
		defer stop()
		on, more := next()
		for _, rest := range ground {
			for left := true; left; {
				if !more || rest.to.Less(on.from) {
					if !yield(rest) {
						return
					}
					break
				}
				if rest.from.Less(on.from) {
					if !yield(tile{rest.from, on.from.Prev(), rest.class, nobody}) {
						return
					}
					rest.from = on.from
				}
				part := on
				part.from = rest.from
				if rest.class != free {
					part.class = outOfRange
				}
				if rest.to.Less(on.to) {
					part.to = rest.to
				} else {
					on, more = next()
				}
				if !yield(part) {
					return
				}
				left = part.to != rest.to
				rest.from = part.to.Next()
			}
		}
	}
}
