package journal

import (
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// setOf returns the addresses of the prefixes.
func setOf(prefixes []netip.Prefix) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, p := range prefixes {
		b.AddPrefix(p)
	}
	set, err := b.IPSet()
	if err != nil { // a prefix that is not valid: it contains nothing
		return &netipx.IPSet{}
	}
	return set
}

// covers reports whether the set contains all addresses of the prefixes.
func covers(set *netipx.IPSet, prefixes []netip.Prefix) bool {
	return !slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return !set.ContainsPrefix(p) })
}

// root returns the place that the place is made of in the end, through all that delegate; itself if none does.
func (h *history) root(place string) string {
	for range len(h.parents) {
		parent, delegated := h.parents[place]
		if !delegated {
			break
		}
		place = parent
	}
	return place
}

// respecs returns the calls that gave the place ranges, or were to.
func (h *history) respecs(place string) []*call {
	var all []*call
	for _, c := range h.calls {
		if c.Op == Respec && len(c.Parts) == 1 && slices.Contains(c.Parts[0], place) {
			all = append(all, c)
		}
	}
	return all
}

// inForce returns those of the calls whose ranges may have been in force at some moment between from and to.
func (h *history) inForce(respecs []*call, place string, from, to int64) []*call {
	var possible []*call
	for _, c := range respecs {
		if !c.possible() || c.Begin >= to {
			continue
		}
		landed := h.landed(c, place)
		superseded := slices.ContainsFunc(respecs, func(later *call) bool {
			return later.Outcome == Done && later.Begin > landed && later.Return <= from
		})
		if !superseded {
			possible = append(possible, c)
		}
	}
	return possible
}

// checkRanges looks whether all that was granted lay in ranges that were in force then, and whether those in force in
// the end are what was asked for last.
func (h *history) checkRanges() {
	byPlace := map[string][]*call{}
	for _, s := range h.slots {
		place := h.root(s.place)
		respecs, known := byPlace[place]
		if !known {
			respecs = h.respecs(place)
			byPlace[place] = respecs
		}
		for _, held := range s.sights() {
			if len(respecs) > 0 && held.by != nil && !held.by.void {
				h.checkInside(s, held, place, respecs)
			}
		}
	}
	for _, p := range h.end.Pools {
		if respecs := h.respecs(p.Place); len(respecs) > 0 {
			h.checkLast(p, respecs)
		}
	}
}

func (h *history) checkInside(s *slot, held sight, place string, respecs []*call) {
	from, to := int64(Forever), min(held.at, h.known(s.place, held.Generation))
	for _, c := range s.calls {
		if s.makes(c, held.Generation) {
			from = min(from, c.Begin)
		}
	}
	inside := func(c *call) bool { return covers(setOf(c.Ranges), held.Prefixes) }
	if slices.ContainsFunc(h.inForce(respecs, place, from, to), inside) {
		return
	}
	for _, c := range respecs {
		// Of a place that another one grants, it is likelier that it does not know what that one withholds.
		if place == s.place && c.failed() && c.Begin < to && inside(c) {
			h.blame(c, []*call{held.by}, "%v was granted", held.Holding)
			return
		}
	}
	h.report(Outside, []*call{held.by}, "%v; no ranges of %q at the time had it", held.Holding, place)
}

func (h *history) checkLast(p Pool, respecs []*call) {
	found := setOf(p.Ranges)
	equal := func(c *call) bool { return setOf(c.Ranges).Equal(found) }
	last := h.inForce(respecs, p.Place, Forever, Forever)
	if slices.ContainsFunc(last, equal) {
		return
	}
	for _, c := range slices.Backward(respecs) {
		if c.failed() && equal(c) {
			h.blame(c, nil, "the ranges of %q in the end are %v", p.Name, p.Ranges)
			return
		}
	}
	h.report(Lost, last, "the ranges of %q in the end are %v", p.Name, p.Ranges)
}
