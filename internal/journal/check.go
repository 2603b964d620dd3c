package journal

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Rule is what a violation breaks.
type Rule string

// The rules.
const (
	// Lost is a grant that was acknowledged, that nobody took away, and that is not held. Also a change of the ranges
	// that was acknowledged and is not in force.
	Lost Rule = "an acknowledged grant is lost"
	// Shared is an address that two owners hold at one time, in whatever pools of a network.
	Shared Rule = "an address is held by two owners"
	// Changed is an owner that was told two things without a release in between, or one that holds two things in one
	// place.
	Changed Rule = "an owner was told two different answers"
	// TookEffect is a call that failed, with an error that says that nothing took effect, and yet did.
	TookEffect Rule = "a call that failed took effect"
	// Partial is a call over several pools that is in effect in some only.
	Partial Rule = "a call over several pools is in effect in some only"
	// Outside is an address that was granted, or is held, where the pool does not hand it out.
	Outside Rule = "an address is held outside of the pool"
	// Unasked is what an owner holds though nobody has asked for it, or has no more.
	Unasked Rule = "an owner holds what nobody asked for"
	// Malformed is an answer that does not fit its call.
	Malformed Rule = "an answer does not fit its call"
)

// Violation is a rule that a history breaks. It is a value; the copy shares Calls.
type Violation struct {
	Rule Rule
	// Text says what is wrong.
	Text string
	// Calls are those that show it, at most a few.
	Calls []Call
}

// String returns the rule, the text and the calls, one in a line.
func (v Violation) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s", v.Rule, v.Text)
	for _, c := range v.Calls {
		fmt.Fprintf(&text, "\n\t%v", c)
	}
	return text.String()
}

// Check compares what clients were told with what was found in the end, and returns each violation that the history
// proves, in the order of the rules above. It finds none if there is any way in which all calls could have taken
// effect, each in its time. The calls are in the order in which they began; see [Calls].
//
// A call that must have taken effect though it failed is reported once, and then taken as one of which it is not
// known. Cost: O(calls²) for each owner in each place.
func Check(calls []Call, end State) []Violation {
	h := newHistory(calls, end)
	h.checkAnswers()
	for _, s := range h.slots {
		s.check()
	}
	h.checkRanges()
	h.checkShared()
	h.checkTogether()
	h.checkEnd()
	slices.SortStableFunc(h.violations, func(a, b Violation) int { return cmp.Compare(a.Rule.order(), b.Rule.order()) })
	return h.violations
}

func (r Rule) order() int {
	return slices.Index([]Rule{Lost, Shared, Changed, TookEffect, Partial, Outside, Unasked, Malformed}, r)
}

func sortCalls(calls []Call) {
	slices.SortFunc(calls, func(a, b Call) int { return cmp.Compare(a.Begin, b.Begin) })
}

// history is what the rules are checked against.
type history struct {
	end        State
	calls      []*call
	slots      []*slot           // in the order in which they came up
	parents    map[string]string // of places that another delegates to
	fences     map[string][]fence
	died       map[string]int64 // when processes were known to be dead
	newest     map[string][]seen
	found      map[slotKey][]Found
	violations []Violation
}

// call is a call with what the checker makes of it.
type call struct {
	Call
	guilty bool // it failed, and took effect
	void   bool // its answer is reported as wrong already, and is not to be believed
}

// slotKey is an owner in a place.
type slotKey struct{ place, owner string }

func newHistory(calls []Call, end State) *history {
	h := &history{
		end: end, parents: map[string]string{}, fences: map[string][]fence{}, died: map[string]int64{},
		newest: map[string][]seen{}, found: map[slotKey][]Found{},
	}
	for _, c := range calls {
		if c.Op == Died {
			h.died[c.Owner] = c.Begin
			continue
		}
		h.calls = append(h.calls, &call{Call: c})
	}
	h.index()
	for _, p := range end.Pools {
		for _, f := range p.Held {
			h.delegates(f.Holding)
			key := slotKey{f.Place, f.Owner}
			h.found[key] = append(h.found[key], f)
		}
	}
	h.makeSlots()
	h.findFences()
	return h
}

// index keeps what calls tell of places: who delegates to them, and when a generation was seen.
func (h *history) index() {
	for _, c := range h.calls {
		for _, held := range c.Held {
			h.delegates(held)
			if h.end.Places[held.Place].Several {
				continue
			}
			h.newest[held.Place] = append(h.newest[held.Place], seen{held.Generation, c.Return})
		}
	}
	for place := range h.newest {
		h.newest[place] = earliest(h.newest[place])
	}
}

// findFences keeps the releases that committed for sure after they had begun.
func (h *history) findFences() {
	for _, s := range h.slots {
		if h.end.Places[s.place].Several {
			continue
		}
		h.fences[s.place] = append(h.fences[s.place], s.fences()...)
	}
	for _, all := range h.fences {
		sortFences(all)
	}
}

func (h *history) delegates(held Holding) {
	if held.Child != "" {
		h.parents[held.Child] = held.Place
	}
}

// makeSlots gives each owner in each place the calls that are about it.
func (h *history) makeSlots() {
	slots := map[slotKey]*slot{}
	get := func(key slotKey) *slot {
		s, known := slots[key]
		if !known {
			s = &slot{slotKey: key, history: h, found: h.found[key]}
			slots[key] = s
			h.slots = append(h.slots, s)
		}
		return s
	}
	for _, c := range h.calls {
		if c.Op == Respec {
			continue
		}
		for _, part := range c.Parts {
			for _, place := range part {
				s := get(slotKey{place, c.Owner})
				s.calls = append(s.calls, c)
			}
		}
	}
	for _, p := range h.end.Pools {
		for _, f := range p.Held {
			get(slotKey{f.Place, f.Owner})
		}
	}
}

// report keeps a violation.
func (h *history) report(rule Rule, calls []*call, format string, arguments ...any) {
	v := Violation{Rule: rule, Text: fmt.Sprintf(format, arguments...)}
	for _, c := range calls {
		if c != nil && !slices.ContainsFunc(v.Calls, func(known Call) bool { return known.Begin == c.Begin }) {
			v.Calls = append(v.Calls, c.Call)
		}
	}
	h.violations = append(h.violations, v)
}

// blame reports a call that failed and took effect.
func (h *history) blame(guilty *call, witnesses []*call, format string, arguments ...any) {
	guilty.guilty = true
	h.report(TookEffect, append([]*call{guilty}, witnesses...), format, arguments...)
}

// possible reports whether the call may have taken effect.
func (c *call) possible() bool {
	return c.guilty || c.Outcome == Done || c.Outcome == Unknown || c.Return == Forever
}

// failed reports whether the call is one that must not have taken effect, and is not yet known to have.
func (c *call) failed() bool { return !c.possible() }

// landed returns the stamp from which on the call does nothing any more in the place.
func (h *history) landed(c *call, place string) int64 {
	switch {
	case c.Outcome == Done:
		return c.Return
	case !c.possible():
		return c.Begin
	}
	return passed(h.fences[place], h.sent(c))
}

// sent returns the stamp from which on nothing is sent for the call any more.
func (h *history) sent(c *call) int64 {
	if c.Return < Forever {
		return c.Return
	}
	if died, known := h.died[c.Process]; known {
		return died
	}
	return Forever
}

// fence is a call that was done: nothing lands after passed that was sent before began.
type fence struct {
	began, passed int64
}

// sortFences brings fences in the order in which they began, and has each tell when the first of it and the later ones
// was passed.
func sortFences(all []fence) {
	slices.SortFunc(all, func(a, b fence) int { return cmp.Compare(a.began, b.began) })
	for i := len(all) - 2; i >= 0; i-- {
		all[i].passed = min(all[i].passed, all[i+1].passed)
	}
}

// passed returns when the first of the sorted fences was passed that began after at; Forever if none was.
func passed(all []fence, at int64) int64 {
	if at == Forever {
		return Forever
	}
	i, _ := slices.BinarySearchFunc(all, at+1, func(f fence, at int64) int { return cmp.Compare(f.began, at) })
	if i == len(all) {
		return Forever
	}
	return all[i].passed
}

// in returns the call's answer about the slot; nil if it has none.
func (c *call) in(key slotKey) *Holding {
	for i := range c.Held {
		if h := &c.Held[i]; h.Place == key.place && h.Owner == key.owner {
			return h
		}
	}
	return nil
}

// seen is a generation that was known in a place at a time.
type seen struct {
	generation, at int64
}

// earliest returns when each generation, or a newer one, was first known, from the lowest generation on.
func earliest(all []seen) []seen {
	slices.SortFunc(all, func(a, b seen) int { return cmp.Compare(a.generation, b.generation) })
	for i := len(all) - 2; i >= 0; i-- {
		all[i].at = min(all[i].at, all[i+1].at)
	}
	return all
}

// known returns the stamp at which the generation, or a newer one, was first known to exist in the place.
func (h *history) known(place string, generation int64) int64 {
	all := h.newest[place]
	i, _ := slices.BinarySearchFunc(all, generation, func(s seen, g int64) int { return cmp.Compare(s.generation, g) })
	if i == len(all) || generation == 0 {
		return Forever
	}
	return all[i].at
}

// checkAnswers looks whether each answer is of the form that its call asks for.
func (h *history) checkAnswers() {
	for _, c := range h.calls {
		if c.Outcome != Done || len(c.Held) == 0 || c.Op == Respec {
			continue
		}
		for _, part := range c.Parts {
			n := 0
			for _, held := range c.Held {
				if slices.Contains(part, held.Place) && held.Owner == c.Owner {
					n++
				}
			}
			if n > 1 || n == 0 && c.Op != Free {
				h.report(Malformed, []*call{c}, "%d answers about %v", n, part)
			}
		}
	}
}
