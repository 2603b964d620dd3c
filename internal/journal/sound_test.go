package journal_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/journal"
)

// truth is a store that breaks no rule, with clients that are killed and answers that are lost.
type truth struct {
	*story
	t        *rapid.T
	held     map[string]map[string]journal.Holding // by place and owner
	revision map[string]int64
	running  map[int]*attempt // by process
	sent     []*attempt       // of clients that do not wait for them any more
	killed   int
	lie      lie
	lied     bool
}

// lie is a rule that a store breaks.
type lie string

const (
	failsLate  lie = "says that a call failed that took effect"
	forgets    lie = "forgets what is held"
	givesTwice lie = "grants an address that is held"
	landsHalf  lie = "does half of a call over two places"
)

// lies reports whether the store breaks this rule now.
func (w *truth) lies(how lie) bool {
	now := w.lie == how && rapid.IntRange(0, 3).Draw(w.t, "lie") == 0
	w.lied = w.lied || now
	return now
}

// attempt is a call, which takes effect at most once.
type attempt struct {
	running
	intent journal.Intent
	placed []int64 // the revisions that it was planned on
	landed bool
	told   []journal.Holding

	changed bool
}

var truePlaces = []string{"blue", "green"}

func newTruth(t *rapid.T) *truth {
	return &truth{
		story: newStory(), t: t, held: map[string]map[string]journal.Holding{"blue": {}, "green": {}},
		revision: map[string]int64{}, running: map[int]*attempt{},
	}
}

// step lets one thing happen in a process.
func (w *truth) step(process int) {
	if n := len(w.sent); n > 0 && rapid.IntRange(0, 4).Draw(w.t, "late") == 0 {
		late := w.sent[n-1]
		w.sent = w.sent[:n-1]
		if w.current(late) {
			w.land(late)
		}
		return
	}
	a := w.running[process]
	if a == nil {
		w.start(process)
		return
	}
	switch rapid.IntRange(0, 29).Draw(w.t, "step") {
	case 0: // killed
		delete(w.running, process)
		w.killed++
		w.story.calls[a.index].Process = fmt.Sprint("victim-", w.killed)
		w.died(w.story.calls[a.index].Process)
		w.sent = append(w.sent, a)
	case 1: // told that nobody knows
		delete(w.running, process)
		a.unknown()
		w.sent = append(w.sent, a)
	case 2, 7, 8: // fails
		if !a.landed || a.changed && w.lies(failsLate) {
			delete(w.running, process)
			a.fails()
		}
	case 3, 4, 5, 6: // somebody else was faster
		w.plan(a)
	default:
		w.goOn(process, a)
	}
}

func (w *truth) start(process int) {
	owner := rapid.SampledFrom([]string{"a", "b", "c", "both"}).Draw(w.t, "owner")
	places := rapid.SampledFrom(truePlaces).Draw(w.t, "place")
	if owner == "both" {
		places = "blue green"
	}
	op := rapid.SampledFrom([]journal.Op{journal.Grant, journal.Free, journal.Look}).Draw(w.t, "op")
	if owner == "both" && op == journal.Look {
		op = journal.Grant
	}
	intent := journal.Intent{Op: op, Call: string(op), Owner: owner, Parts: partsOf(places)}
	a := &attempt{running: w.begin(fmt.Sprint("process-", process), intent), intent: intent}
	w.plan(a)
	w.running[process] = a
}

// plan reads the revisions, unless the call has taken effect.
func (w *truth) plan(a *attempt) {
	if a.landed {
		return
	}
	a.placed = nil
	for _, part := range a.intent.Parts {
		a.placed = append(a.placed, w.revision[part[0]])
	}
}

func (w *truth) current(a *attempt) bool {
	for i, part := range a.intent.Parts {
		if a.placed[i] != w.revision[part[0]] {
			return false
		}
	}
	return !a.landed
}

// goOn lands what has not landed, or returns.
func (w *truth) goOn(process int, a *attempt) {
	switch {
	case a.landed:
		delete(w.running, process)
		if len(a.told) == 0 {
			a.returns(journal.Nothing)
		} else {
			a.done(a.told...)
		}
	case w.current(a):
		w.land(a)
	default:
		w.plan(a)
	}
}

// land makes the call take effect.
func (w *truth) land(a *attempt) {
	a.landed = true
	for i, part := range a.intent.Parts {
		place, owner := part[0], a.intent.Owner
		if i > 0 && w.lies(landsHalf) {
			return
		}
		held, holds := w.held[place][owner]
		switch {
		case a.intent.Op == journal.Grant && !holds:
			w.revision[place]++
			a.changed = true
			held = journal.Holding{
				Place: place, Owner: owner, Prefixes: []netip.Prefix{w.free(place)}, Generation: w.revision[place],
			}
			w.held[place][owner] = held
		case a.intent.Op == journal.Free && holds:
			w.revision[place]++
			a.changed = true
			delete(w.held[place], owner)
			if w.lies(forgets) {
				clear(w.held[place])
			}
		case !holds:
			continue
		}
		a.told = append(a.told, held)
	}
}

// free is the lowest address of the place that nobody holds.
func (w *truth) free(place string) netip.Prefix {
	taken := map[netip.Addr]bool{}
	for _, h := range w.held[place] {
		taken[h.Prefixes[0].Addr()] = true
	}
	addr := w.pool(place).Ranges[0].Addr()
	for taken[addr] && !w.lies(givesTwice) {
		addr = addr.Next()
	}
	return netip.PrefixFrom(addr, 32)
}

// run draws a history of at least so many steps, and tells what is held in the end.
func (w *truth) run(least int) {
	for range rapid.IntRange(least, 300).Draw(w.t, "steps") {
		w.step(rapid.IntRange(0, 4).Draw(w.t, "process"))
	}
	for _, place := range truePlaces {
		for owner, h := range w.held[place] {
			w.holds(owner, h)
		}
	}
}

// TestSoundHistories checks that a history of a store that breaks no rule is found sound, whatever is killed and lost
// in it.
func TestSoundHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newTruth(t)
		w.run(1)
		require.Empty(t, journal.Check(w.calls, w.end))
	})
}

// TestLiesAreFound has stores break rules now and then, each in one way, and checks that this is seen in many of the
// histories. It cannot be seen in each, since calls whose outcome is unknown can often explain it.
func TestLiesAreFound(t *testing.T) {
	for _, lie := range []lie{failsLate, forgets, givesTwice, landsHalf} {
		t.Run(string(lie), func(t *testing.T) {
			drawn, found := 0, 0
			rapid.Check(t, func(t *rapid.T) {
				w := newTruth(t)
				w.lie = lie
				w.run(200)
				if w.lied {
					drawn++
					found += min(1, len(journal.Check(w.calls, w.end)))
				}
			})
			t.Logf("%d of %d", found, drawn)
			require.Greater(t, found, drawn/20)
		})
	}
}
