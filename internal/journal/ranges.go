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

// respecs are the calls that gave a place ranges, or were to.
type respecs struct {
	history *history
	place   string
	calls   []*call
	sets    map[*call]*netipx.IPSet
	done    []fence // those that were done, with when the first of it and the later ones returned
}

func (h *history) respecs(place string) *respecs {
	r := &respecs{history: h, place: place, sets: map[*call]*netipx.IPSet{}}
	for _, c := range h.calls {
		if c.Op != Respec || len(c.Parts) != 1 || !slices.Contains(c.Parts[0], place) {
			continue
		}
		r.calls = append(r.calls, c)
		r.sets[c] = setOf(c.Ranges)
		if c.Outcome == Done {
			r.done = append(r.done, fence{c.Begin, c.Return})
		}
	}
	sortFences(r.done)
	return r
}

// inForce returns those of the calls whose ranges may have been in force at some moment between from and to.
func (r *respecs) inForce(from, to int64) []*call {
	var possible []*call
	for _, c := range r.calls {
		if c.possible() && c.Begin < to && passed(r.done, r.history.landed(c, r.place)) > from {
			possible = append(possible, c)
		}
	}
	return possible
}

// checkRanges looks whether all that was granted lay in ranges that were in force then, and whether those in force in
// the end are what was asked for last.
func (h *history) checkRanges() {
	byPlace := map[string]*respecs{}
	for _, s := range h.slots {
		place := h.root(s.place)
		if byPlace[place] == nil {
			byPlace[place] = h.respecs(place)
		}
		if r := byPlace[place]; len(r.calls) > 0 {
			r.checkSlot(s)
		}
	}
	for _, c := range h.calls {
		if c.Op == Look && len(c.InForce) > 0 {
			r := byPlace[c.Parts[0][0]]
			if r == nil {
				r = h.respecs(c.Parts[0][0])
				byPlace[r.place] = r
			}
			r.checkFound(c.Begin, c.Return, c.InForce, c)
		}
	}
	for _, p := range h.end.Pools {
		if r := h.respecs(p.Place); len(r.calls) > 0 {
			r.checkFound(Forever-1, Forever, p.Ranges, nil)
		}
	}
}

func (r *respecs) checkSlot(s *slot) {
	m := s.makers()
	for _, held := range s.sights() {
		if held.by == nil || held.by.void {
			continue
		}
		to := min(held.at, r.history.known(s.place, held.Generation))
		r.checkInside(s, held, m.began(held.Generation), to)
	}
}

// checkInside checks what was granted between from and to.
func (r *respecs) checkInside(s *slot, held sight, from, to int64) {
	inside := func(c *call) bool { return covers(r.sets[c], held.Prefixes) }
	if slices.ContainsFunc(r.inForce(from, to), inside) {
		return
	}
	for _, c := range r.calls {
		// Of a place that another one grants, it is likelier that it does not know what that one withholds.
		if r.place == s.place && c.failed() && c.Begin < to && inside(c) {
			r.history.blame(c, []*call{held.by}, "%v was granted", held.Holding)
			return
		}
	}
	r.history.report(Outside, []*call{held.by}, "%v; no ranges of %q at the time had it", held.Holding, r.place)
}

// checkFound checks ranges that were found in force at some moment between from and to: by a call, or in the end.
func (r *respecs) checkFound(from, to int64, ranges []netip.Prefix, by *call) {
	found := setOf(ranges)
	equal := func(c *call) bool { return r.sets[c].Equal(found) }
	last := r.inForce(from, to)
	if slices.ContainsFunc(last, equal) {
		return
	}
	when := "in the end"
	if by != nil {
		when = "at the time"
	}
	for _, c := range slices.Backward(r.calls) {
		if c.failed() && c.Begin < to && equal(c) {
			r.history.blame(c, []*call{by}, "the ranges of %q %s are %v", r.place, when, ranges)
			return
		}
	}
	const most = 4
	r.history.report(Lost, append([]*call{by}, last[:min(len(last), most)]...),
		"the ranges of %q %s are %v", r.place, when, ranges)
}
