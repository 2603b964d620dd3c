package view

import (
	"iter"
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
	record   int // which of what is held it is of, or nobody
}

const nobody = -1

// place is where something that is held begins, and its index.
type place struct {
	position
	index int
}

// placesOf returns where all begin, in the order of the addresses; those that begin at one address are in the order of
// all. It sorts by the bytes of the addresses, the lowest first, but for those that all have in common. Cost: O(all).
func placesOf(all []held) []place {
	places, sorted := make([]place, len(all)), make([]place, len(all))
	var differ position
	for i := range all {
		places[i] = place{positionOf(all[i].prefix.Addr()), i}
		differ.hi |= places[i].hi ^ places[0].hi
		differ.lo |= places[i].lo ^ places[0].lo
	}
	for low := 0; low < 128; low += 8 {
		if differ.bits(low, 8) == 0 {
			continue
		}
		var next [256]int // where the next one with that byte comes
		for _, p := range places {
			next[p.bits(low, 8)]++
		}
		sum := 0
		for i := range next {
			next[i], sum = sum, sum+next[i]
		}
		for _, p := range places {
			b := p.bits(low, 8)
			sorted[next[b]] = p
			next[b]++
		}
		places, sorted = sorted, places
	}
	return places
}

// tilesOf returns a function that returns the next tile of what is held, in the order of the addresses, and false when
// there is none left. If two have the same address, which no pool allows, the first one counts.
func tilesOf(all []held) func() (tile, bool) {
	places := placesOf(all)
	var last netip.Addr
	return func() (tile, bool) {
		for len(places) > 0 {
			i := places[0].index
			places = places[1:]
			h := &all[i]
			t := tile{h.prefix.Addr(), h.last(), h.class, i}
			if last.IsValid() && !last.Less(t.from) {
				if !last.Less(t.to) {
					continue
				}
				t.from = last.Next()
			}
			last = t.to
			return t, true
		}
		return tile{}, false
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

// overlay iterates over the ground with what is held on it, of which next returns one tile after the other. Both are
// in order; the ground has all that is held. Cost: O(both).
func overlay(ground []tile, next func() (tile, bool)) iter.Seq[tile] {
	return func(yield func(tile) bool) {
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
