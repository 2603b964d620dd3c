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

// makers tell when the first call began that may have granted something of a generation.
type makers struct {
	told  map[int64]int64 // those that were told of the generation
	vague int64           // those that were not told of any
	// Those that looked afterwards what was delegated, and may have found a newer grant than theirs; and those of which
	// an answer was lost on the way from the store: they may have lost that grant to a release, and made another one.
	looked []seen
}

func (s *slot) makers() makers {
	m := makers{told: map[int64]int64{}, vague: Forever}
	for _, c := range s.calls {
		if c.Op != Grant || !c.possible() {
			continue
		}
		held := c.in(s.slotKey)
		switch {
		case held != nil && c.Outcome == Done:
			m.told[held.Generation] = min(m.first(held.Generation), c.Begin)
			if held.Child != "" || s.freedAmid(c) {
				m.looked = append(m.looked, seen{held.Generation, c.Begin})
			}
		case c.Outcome != Done || len(c.Held) == 0:
			m.vague = min(m.vague, c.Begin)
		}
	}
	return m
}

// freedAmid reports whether a call may have taken away what the slot held, while c ran.
func (s *slot) freedAmid(c *call) bool {
	return slices.ContainsFunc(s.calls, func(other *call) bool {
		return s.takes(other) && other.Begin < c.Return && s.history.landed(other, s.place) > c.Begin
	})
}

// first returns when the first call began that was told of the generation.
func (m makers) first(generation int64) int64 {
	if began, known := m.told[generation]; known {
		return began
	}
	return Forever
}

// began returns when the first call began that may have granted something of the generation.
func (m makers) began(generation int64) int64 {
	began := min(m.first(generation), m.vague)
	for _, l := range m.looked {
		if l.generation >= generation {
			began = min(began, l.at)
		}
	}
	return began
}

// answers returns the spans of all answers that say that the slot holds something, in the order of the answers. Those
// that do not hold for any time are left out.
func (s *slot) answers() []span {
	taken := s.taken()
	var spans []span
	for _, c := range s.calls {
		holding, told := s.told(c)
		if !told || c.Op == Free || c.void {
			continue
		}
		if to := taken(c.Begin); c.Return < to {
			spans = append(spans, span{slot: s, call: c, holding: holding, from: c.Return, to: to})
		}
	}
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	return spans
}

// taken returns a function that returns when the first call began that may have taken away what the slot held at a
// stamp, or later: of those that still do something then.
func (s *slot) taken() func(at int64) int64 {
	type taker struct{ landed, began int64 }
	var takers []taker
	for _, c := range s.calls {
		if s.takes(c) {
			takers = append(takers, taker{s.history.landed(c, s.place), c.Begin})
		}
	}
	slices.SortFunc(takers, func(a, b taker) int { return cmp.Compare(a.landed, b.landed) })
	for i := len(takers) - 2; i >= 0; i-- { // the first of this one and those that land later
		takers[i].began = min(takers[i].began, takers[i+1].began)
	}
	return func(at int64) int64 {
		i, _ := slices.BinarySearchFunc(takers, at+1, func(t taker, at int64) int { return cmp.Compare(t.landed, at) })
		if i == len(takers) {
			return Forever
		}
		return takers[i].began
	}
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
	if c.Op == Grant && c.Outcome == Done {
		return false
	}
	for i := range spans {
		a := &spans[i]
		switch {
		case a.from > c.Begin || a.to < c.Begin:
		case s.toldNothing(c) && a.to >= c.Return:
			s.explain(Lost, *a, c.Return, []*call{a.call, c}, "%v, and then %s", a.holding, c.Outcome)
			return true
		case a.to == c.Begin && c.Op == Free && c.Outcome == Done && !c.void && s.alone(c):
			freed, told := s.told(c)
			if told && !same(a.holding, freed) {
				c.void = true
				s.explain(Changed, *a, c.Return, []*call{a.call, c}, "%v, and then %v was freed", a.holding, freed)
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
		matters := s.takes(other) || other.Op == Grant && other.possible()
		return other != c && matters && other.Begin < c.Return && s.history.landed(other, s.place) > c.Begin
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
	known := map[int64][]int{} // by generation
	add := func(held Holding, at int64, by *call) {
		for _, i := range known[held.Generation] {
			if same(all[i].Holding, held) {
				if at < all[i].at {
					all[i].at, all[i].by = at, by
				}
				return
			}
		}
		known[held.Generation] = append(known[held.Generation], len(all))
		all = append(all, sight{held, at, by})
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
	m := s.makers()
	for _, held := range s.sights() {
		at := min(held.at, s.history.known(s.place, held.Generation))
		if m.began(held.Generation) < at {
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

// fences returns the releases that committed for sure after they had begun. One whose answer was lost on the way from
// the store may find the grant gone, and say that it is freed, though somebody else has freed it before: that one is
// none.
func (s *slot) fences() []fence {
	m, frees := s.makers(), map[int64]int{}
	var unsure []*call
	for _, c := range s.calls {
		if !s.takes(c) {
			continue
		}
		if freed, told := s.told(c); told {
			frees[freed.Generation]++
		} else {
			unsure = append(unsure, c)
		}
	}
	var all []fence
	for _, c := range s.calls {
		freed, told := s.told(c)
		if c.Op != Free || !told || frees[freed.Generation] > 1 || m.first(freed.Generation) == Forever {
			continue
		}
		other := slices.ContainsFunc(unsure, func(u *call) bool {
			return u.Begin < c.Return && s.history.sent(u) > m.first(freed.Generation)
		})
		if !other {
			all = append(all, fence{c.Begin, c.Return})
		}
	}
	return all
}

// checkReturned looks whether a grant is there again that was freed. Two releases may both say that they freed it,
// see fences.
func (s *slot) checkReturned() {
	if s.history.end.Places[s.place].Several {
		return
	}
	freed := map[int64]*call{} // the release that returned first
	for _, r := range s.calls {
		held, told := s.told(r)
		first := freed[held.Generation]
		if r.Op == Free && told && !r.void && (first == nil || r.Return < first.Return) {
			freed[held.Generation] = r
		}
	}
	for _, c := range s.calls {
		again, told := s.told(c)
		if r := freed[again.Generation]; told && c.Op != Free && !c.void && r != nil && c.Begin > r.Return {
			s.history.report(Unasked, []*call{r, c}, "%v was freed, and is there again", again)
			c.void = true
		}
	}
	for _, f := range s.found {
		if r := freed[f.Generation]; r != nil {
			s.history.report(Unasked, []*call{r}, "%v was freed, and is held in the end", f.Holding)
		}
	}
}
