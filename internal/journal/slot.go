package journal

import (
	"cmp"
	"slices"
)

// slot is an owner in a place, with the calls that are about it, in the order in which they began.
type slot struct {
	slotKey
	history *history
	calls   []*call
	found   []Found
	unasked bool // what was found is reported as unasked for already
}

// span is the time for which an answer holds for sure: from its call's return until a call begins that could have
// taken it away, or until the end.
type span struct {
	slot     *slot
	call     *call
	holding  Holding // its prefixes are not known if there are none
	from, to int64
}

// takes reports whether the call may have taken away what the slot held.
func (s *slot) takes(c *call) bool {
	if c.Op != Free || !c.possible() {
		return false
	}
	return c.Outcome != Done || len(c.Held) == 0 || c.in(s.slotKey) != nil
}

// makes reports whether the call may have granted something of this generation to the slot. A generation of 0 is not
// known.
func (s *slot) makes(c *call, generation int64) bool {
	if c.Op != Grant || !c.possible() {
		return false
	}
	if c.Outcome != Done || len(c.Held) == 0 {
		return true
	}
	held := c.in(s.slotKey)
	return held != nil && (held.Generation == generation || generation == 0)
}

// answers returns the spans of all answers that say that the slot holds something, in the order of the answers. Those
// that do not hold for any time are left out.
func (s *slot) answers() []span {
	var takers []*call
	for _, c := range s.calls {
		if s.takes(c) {
			takers = append(takers, c)
		}
	}
	landed := make([]int64, len(takers))
	for i, r := range takers {
		landed[i] = s.history.landed(r, s.place)
	}
	var spans []span
	for _, c := range s.calls {
		holding, told := s.told(c)
		if !told || c.Op == Free || c.void {
			continue
		}
		own := span{slot: s, call: c, holding: holding, from: c.Return, to: Forever}
		for i, r := range takers {
			if landed[i] > c.Begin {
				own.to = min(own.to, r.Begin)
			}
		}
		if own.from < own.to {
			spans = append(spans, own)
		}
	}
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	return spans
}

// told returns what the call says that the slot held.
func (s *slot) told(c *call) (Holding, bool) {
	if c.Outcome != Done {
		return Holding{}, false
	}
	if held := c.in(s.slotKey); held != nil {
		return *held, true
	}
	// A grant that does not tell what was granted.
	return Holding{Place: s.place, Owner: s.owner}, c.Op == Grant && len(c.Held) == 0
}

// same reports whether two answers may be about the same grant.
func same(a, b Holding) bool {
	if len(a.Prefixes) == 0 || len(b.Prefixes) == 0 {
		return true
	}
	return a.Generation == b.Generation && slices.Equal(a.Prefixes, b.Prefixes)
}

// check checks what can be seen in the slot alone. Each violation makes one more call guilty, or void, and then all
// is looked at again.
func (s *slot) check() {
	for s.contradiction(s.answers()) || s.unexplained() {
	}
	s.checkReturned()
}

// contradiction finds something that does not agree with the spans, reports it, and returns whether it did.
func (s *slot) contradiction(spans []span) bool {
	for _, c := range s.calls { // these first: they tell best when it was
		if s.belies(c, spans) {
			return true
		}
	}
	for i := 1; i < len(spans); i++ {
		a, b := spans[i-1], spans[i]
		if b.from < a.to && !same(a.holding, b.holding) {
			s.explain(Changed, a, b.from, []*call{a.call, b.call},
				"%v, and then %v, without a release in between", a.holding, b.holding)
			return true
		}
	}
	for _, a := range spans {
		if a.to != Forever {
			continue
		}
		if len(s.found) == 0 {
			s.explain(Lost, a, Forever, []*call{a.call}, "%v is not held in the end", a.holding)
			return true
		}
		if !same(a.holding, s.found[0].Holding) {
			s.explain(Changed, a, Forever, []*call{a.call},
				"%v, and in the end it holds %v", a.holding, s.found[0].Holding)
			return true
		}
	}
	return false
}

// belies reports whether the call's answer contradicts a span, and keeps it as a violation: the call was told that
// the owner holds nothing, or it freed something else.
func (s *slot) belies(c *call, spans []span) bool {
	for _, a := range spans {
		switch {
		case a.from > c.Begin || a.to < c.Begin:
		case s.toldNothing(c) && a.to >= c.Return:
			s.explain(Lost, a, c.Return, []*call{a.call, c}, "%v, and then %s", a.holding, c.Outcome)
			return true
		case a.to == c.Begin && c.Op == Free && c.Outcome == Done && !c.void && s.alone(c):
			freed, told := s.told(c)
			if told && !same(a.holding, freed) {
				c.void = true
				s.explain(Changed, a, c.Return, []*call{a.call, c}, "%v, and then %v was freed", a.holding, freed)
				return true
			}
		}
	}
	return false
}

// toldNothing reports whether the call was told that the slot holds nothing.
func (s *slot) toldNothing(c *call) bool {
	switch c.Outcome {
	case Nothing: // in any of the places
		return !c.guilty
	case NoPool: // but not which
		return !c.guilty && len(c.Parts) == 1 && len(c.Parts[0]) == 1
	case Done: // here, but something elsewhere
		return c.Op == Free && len(c.Held) > 0 && c.in(s.slotKey) == nil && !s.partOf(c)
	}
	return false
}

// partOf reports whether the call has an answer in another place of the slot's part.
func (s *slot) partOf(c *call) bool {
	for _, part := range c.Parts {
		if slices.Contains(part, s.place) {
			return slices.ContainsFunc(part, func(place string) bool { return c.in(slotKey{place, s.owner}) != nil })
		}
	}
	return false
}

// alone reports whether no other call could have freed what the slot held, or granted it something, while c ran.
func (s *slot) alone(c *call) bool {
	return !slices.ContainsFunc(s.calls, func(other *call) bool {
		return other != c && s.takes(other) && other.Begin < c.Return && s.history.landed(other, s.place) > c.Begin
	})
}

// explain reports that an answer is contradicted, by what was known at a later time: as the work of a release that
// failed in between, the last one if there are several, or else as what it is.
func (s *slot) explain(rule Rule, a span, until int64, witnesses []*call, format string, arguments ...any) {
	var suspects []*call
	for _, c := range s.calls {
		if c.Op == Free && c.failed() && !s.toldNothing(c) && c.Begin < until && c.Return > a.call.Begin {
			suspects = append([]*call{c}, suspects...)
		}
	}
	if len(suspects) > 0 {
		const most = 3
		witnesses = append(slices.Clip(witnesses), suspects[1:min(len(suspects), most)]...)
		s.history.blame(suspects[0], witnesses, format, arguments...)
		return
	}
	for _, other := range s.answers() { // all that say the same at the time
		if same(other.holding, a.holding) && other.from < a.to && a.from < other.to {
			other.call.void = true
		}
	}
	s.history.report(rule, witnesses, format, arguments...)
}

// sight is something that the slot held, and the stamp at which that was known.
type sight struct {
	Holding
	at int64
	by *call // nil in the end
}

// sights returns all that the slot is known to have held, each grant once, when it was known first.
func (s *slot) sights() []sight {
	var all []sight
	add := func(held Holding, at int64, by *call) {
		i := slices.IndexFunc(all, func(known sight) bool {
			return known.Generation == held.Generation && same(known.Holding, held)
		})
		switch {
		case i < 0:
			all = append(all, sight{held, at, by})
		case at < all[i].at:
			all[i].at, all[i].by = at, by
		}
	}
	for _, c := range s.calls {
		if held := c.in(s.slotKey); held != nil && c.Outcome == Done {
			add(*held, c.Return, c)
		}
	}
	for _, f := range s.found {
		add(f.Holding, Forever, nil)
	}
	return all
}

// unexplained finds a grant that no call can have made, reports it, and returns whether it did.
func (s *slot) unexplained() bool {
	if len(s.calls) == 0 {
		return false // a delegation that another place looks after
	}
	for _, held := range s.sights() {
		at := min(held.at, s.history.known(s.place, held.Generation))
		if slices.ContainsFunc(s.calls, func(c *call) bool { return s.makes(c, held.Generation) && c.Begin < at }) {
			continue
		}
		if held.by != nil && held.by.void {
			continue
		}
		var suspect *call
		for _, c := range s.calls {
			if c.Op == Grant && c.failed() && c.Begin < at {
				suspect = c
			}
		}
		if suspect != nil {
			s.history.blame(suspect, []*call{held.by}, "%v was granted", held.Holding)
			return true
		}
		if held.by != nil {
			held.by.void = true
		} else if s.unasked {
			continue
		}
		s.unasked = s.unasked || held.by == nil
		s.history.report(Unasked, []*call{held.by}, "%v", held.Holding)
		return true
	}
	return false
}

// checkReturned looks whether a grant is there again that was freed.
func (s *slot) checkReturned() {
	if s.history.end.Places[s.place].Several {
		return
	}
	for _, r := range s.calls {
		freed, told := s.told(r)
		if r.Op != Free || !told || freed.Generation == 0 || r.void {
			continue
		}
		for _, c := range s.calls {
			again, told := s.told(c)
			if told && !c.void && again.Generation != 0 && same(freed, again) && c.Begin > r.Return {
				s.history.report(Unasked, []*call{r, c}, "%v was freed, and is there again", freed)
				c.void = true
			}
		}
		for _, f := range s.found {
			if same(freed, f.Holding) {
				s.history.report(Unasked, []*call{r}, "%v was freed, and is held in the end", freed)
			}
		}
	}
}
