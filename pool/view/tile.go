package view

import (
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// tile is a run of addresses of one class.
type tile struct {
	from, to netip.Addr
	class    class
	record   int // which of the picture's records holds it, or nobody
}

const nobody = -1

// heldTiles returns what the records hold of the family, in order. If two records hold the same address,
// which no pool allows, the first one counts.
func heldTiles(records []record, family pool.Family) []tile {
	var tiles []tile
	for i, r := range records {
		for _, p := range r.Prefixes {
			if p.IsValid() && pool.FamilyOf(p.Addr()) == family {
				tiles = append(tiles, tile{p.Masked().Addr(), netipx.PrefixLastIP(p), r.class, i})
			}
		}
	}
	slices.SortStableFunc(tiles, func(a, b tile) int { return a.from.Compare(b.from) })
	apart := tiles[:0]
	for _, t := range tiles {
		if n := len(apart); n > 0 && !apart[n-1].to.Less(t.from) {
			if !apart[n-1].to.Less(t.to) {
				continue
			}
			t.from = apart[n-1].to.Next()
		}
		apart = append(apart, t)
	}
	return apart
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
	}{{excluded, cidr.SetOf(ofFamily(spec.Exclude, family)...)}, {foreign, theirs}, {reserved, rest}} {
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

// overlay returns the ground with what is held on it. Both are in order; the ground has all of held. Cost: O(both).
func overlay(ground, held []tile) []tile {
	out := make([]tile, 0, len(ground)+2*len(held))
	for _, rest := range ground {
		for left := true; left; {
			if len(held) == 0 || rest.to.Less(held[0].from) {
				out = append(out, rest)
				break
			}
			on := held[0]
			if rest.from.Less(on.from) {
				out = append(out, tile{rest.from, on.from.Prev(), rest.class, nobody})
			} else {
				on.from = rest.from
			}
			if !rest.to.Less(on.to) {
				held = held[1:]
			} else {
				on.to = rest.to
			}
			if rest.class != free {
				on.class = outOfRange
			}
			out = append(out, on)
			rest.from, left = on.to.Next(), on.to != rest.to
		}
	}
	return out
}
