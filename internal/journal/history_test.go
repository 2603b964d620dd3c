package journal_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/journal"
)

// story is a history that a test tells, one event after the other.
type story struct {
	calls []journal.Call
	end   journal.State
	now   int64
}

// newStory is of two places of one network, which have all of 10.0.0.0/24 and of 10.0.1.0/24.
func newStory() *story {
	s := &story{end: journal.State{Places: map[string]journal.Place{
		"blue": {Network: "n"}, "green": {Network: "n"}, "blocks": {Several: true},
	}}}
	for place, ranges := range map[string]string{"blue": "10.0.0.0/24", "green": "10.0.1.0/24"} {
		s.end.Pools = append(s.end.Pools, journal.Pool{Name: place, Place: place, Ranges: prefixes(ranges)})
	}
	s.respec("blue", "10.0.0.0/24").done()
	s.respec("green", "10.0.1.0/24").done()
	return s
}

func prefixes(text string) []netip.Prefix {
	var all []netip.Prefix
	for _, each := range strings.Fields(text) {
		if !strings.Contains(each, "/") {
			each += "/32"
		}
		all = append(all, netip.MustParsePrefix(each))
	}
	return all
}

// running is a call that has begun.
type running struct {
	story *story
	index int
}

func (s *story) begin(process string, intent journal.Intent) running {
	s.now++
	s.calls = append(s.calls, journal.Call{
		Process: process, Number: s.now, Begin: s.now, Return: journal.Forever, Intent: intent,
	})
	return running{s, len(s.calls) - 1}
}

// partsOf reads "blue green|red": parts, and their alternatives.
func partsOf(places string) [][]string {
	var parts [][]string
	for _, part := range strings.Fields(places) {
		parts = append(parts, strings.Split(part, "|"))
	}
	return parts
}

func (s *story) grant(owner, places string) running {
	return s.begin("p", journal.Intent{Op: journal.Grant, Call: "Allocate", Owner: owner, Parts: partsOf(places)})
}

func (s *story) free(owner, places string) running {
	return s.begin("p", journal.Intent{Op: journal.Free, Call: "Release", Owner: owner, Parts: partsOf(places)})
}

func (s *story) look(owner, place string) running {
	return s.begin("p", journal.Intent{Op: journal.Look, Call: "Get", Owner: owner, Parts: partsOf(place)})
}

// finds has a look find ranges in force in the place.
func (s *story) finds(place, ranges string) {
	r := s.look("", place)
	r.done()
	s.calls[r.index].InForce = prefixes(ranges)
}

func (s *story) respec(place, ranges string) running {
	return s.begin("p", journal.Intent{
		Op: journal.Respec, Call: "Update", Parts: partsOf(place), Ranges: prefixes(ranges),
	})
}

// died tells that the process was killed.
func (s *story) died(process string) {
	s.begin("parent", journal.Intent{Op: journal.Died, Owner: process})
}

// by says which process it is.
func (r running) by(process string) {
	r.story.calls[r.index].Process = process
}

func (r running) returns(outcome journal.Outcome, held ...journal.Holding) {
	r.story.now++
	c := &r.story.calls[r.index]
	c.Return, c.Result = r.story.now, journal.Result{Outcome: outcome, Held: held}
	for i := range c.Held {
		c.Held[i].Owner = c.Owner
	}
}

func (r running) done(held ...journal.Holding) { r.returns(journal.Done, held...) }
func (r running) fails()                       { r.returns(journal.Failed) }
func (r running) unknown()                     { r.returns(journal.Unknown) }

// at is a holding.
func at(place, what string, generation int64) journal.Holding {
	return journal.Holding{Place: place, Prefixes: prefixes(what), Generation: generation}
}

// to is a holding that is delegated.
func to(child string, h journal.Holding) journal.Holding {
	h.Child = child
	return h
}

// pool returns the pool of that name in the end.
func (s *story) pool(name string) *journal.Pool {
	for i := range s.end.Pools {
		if s.end.Pools[i].Name == name {
			return &s.end.Pools[i]
		}
	}
	s.end.Pools = append(s.end.Pools, journal.Pool{Name: name, Place: name, Delegated: true})
	return &s.end.Pools[len(s.end.Pools)-1]
}

// holds says what the owner holds in the end, in the place's pool of the same name.
func (s *story) holds(owner string, h journal.Holding) {
	h.Owner = owner
	p := s.pool(h.Place)
	p.Held = append(p.Held, journal.Found{Holding: h, Delegates: h.Child})
}

// breaks checks that the history breaks just these rules, and that the text of the first violation contains some words.
func (s *story) breaks(t *testing.T, words string, rules ...journal.Rule) {
	t.Helper()
	found := journal.Check(s.calls, s.end)
	var broken []journal.Rule
	for _, v := range found {
		broken = append(broken, v.Rule)
	}
	require.Equal(t, rules, broken, "%v", found)
	if len(found) > 0 {
		require.Contains(t, found[0].String(), words)
	}
}

// sound checks that the history breaks no rule.
func (s *story) sound(t *testing.T) {
	t.Helper()
	s.breaks(t, "")
}
