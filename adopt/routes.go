package adopt

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// routes find the pool of a prefix. The addresses of each family are cut where the ranges of pools begin and end, so
// that between two cuts the pools are the same.
type routes struct {
	byName   map[string]*home
	sets     map[*home]*netipx.IPSet
	segments map[bool][]segment // by whether the family is IPv4
}

// segment is the addresses from one cut to the next, and the pools that have them, in the order of the pools.
type segment struct {
	from  netip.Addr
	homes []*home
}

// cut is where a range of a pool begins, or the address behind its end.
type cut struct {
	at     netip.Addr
	home   *home
	begins bool
}

func newRoutes(homes []*home) routes {
	r := routes{map[string]*home{}, map[*home]*netipx.IPSet{}, map[bool][]segment{}}
	cuts := map[bool][]cut{}
	for _, h := range homes {
		r.byName[h.info.Name] = h
		r.sets[h] = rangesOf(h.info.Spec)
		for _, one := range r.sets[h].Ranges() {
			is4 := one.From().Is4()
			cuts[is4] = append(cuts[is4], cut{one.From(), h, true})
			if behind := one.To().Next(); behind.IsValid() {
				cuts[is4] = append(cuts[is4], cut{behind, h, false})
			}
		}
	}
	for is4, all := range cuts {
		r.segments[is4] = segmentsOf(all, homes)
	}
	return r
}

// rangesOf are all the addresses of a pool, handed out or not.
func rangesOf(spec pool.Spec) *netipx.IPSet {
	ranges := spec.Ranges
	if len(ranges) == 0 {
		for _, s := range spec.Subnets {
			ranges = append(ranges, netipx.RangeOfPrefix(s.Prefix))
		}
	}
	return cidr.SetOf(ranges...)
}

func segmentsOf(cuts []cut, homes []*home) []segment {
	order := map[*home]int{}
	for i, h := range homes {
		order[h] = i
	}
	slices.SortFunc(cuts, func(a, b cut) int { return a.at.Compare(b.at) })
	var segments []segment
	var open []*home
	for i, c := range cuts {
		if c.begins {
			at, _ := slices.BinarySearchFunc(open, c.home, func(a, b *home) int { return order[a] - order[b] })
			open = slices.Insert(open, at, c.home)
		} else {
			open = slices.DeleteFunc(open, func(h *home) bool { return h == c.home })
		}
		if i+1 == len(cuts) || cuts[i+1].at != c.at {
			segments = append(segments, segment{c.at, slices.Clone(open)})
		}
	}
	return segments
}

// find returns the pool that the prefix is to be taken over into. Cost: O(log ranges), and O(pools that overlap there).
func (r routes) find(p netip.Prefix) (*home, error) {
	var found []*home
	for _, h := range r.at(p.Addr()) {
		if r.sets[h].ContainsPrefix(p) && !isGrant(h.info, p) {
			found = append(found, h)
		}
	}
	for _, h := range found {
		if r.isLast(h, found) {
			return h, nil
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: %v is in the ranges of none", ErrOutside, p)
	}
	var names []string
	for _, h := range found {
		names = append(names, fmt.Sprintf("%q", h.info.Name))
	}
	return nil, fmt.Errorf("%w: %v is in the ranges of %s", ErrAmbiguous, p, strings.Join(names, ", "))
}

// at returns the pools that have an address in their ranges.
func (r routes) at(addr netip.Addr) []*home {
	segments := r.segments[addr.Is4()]
	i, exact := slices.BinarySearchFunc(segments, addr, func(s segment, addr netip.Addr) int {
		return s.from.Compare(addr)
	})
	if !exact {
		i--
	}
	if i < 0 {
		return nil
	}
	return segments[i].homes
}

// isGrant reports whether the prefix is one that the pool was delegated as a whole: then its parent has granted it.
func isGrant(info pool.Info, p netip.Prefix) bool {
	return slices.ContainsFunc(info.Grants, func(g pool.Grant) bool { return slices.Contains(g.Prefixes, p) })
}

// isLast reports whether the pool was delegated from all the others.
func (r routes) isLast(h *home, found []*home) bool {
	above := map[*home]bool{h: true}
	for parent := r.byName[h.info.Parent]; parent != nil && !above[parent]; parent = r.byName[parent.info.Parent] {
		above[parent] = true
	}
	return !slices.ContainsFunc(found, func(other *home) bool { return !above[other] })
}
