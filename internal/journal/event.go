package journal

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strings"
)

// Op is what a call is for.
type Op string

// The ops.
const (
	// Grant asks for something for the owner.
	Grant Op = "grant"
	// Free gives back what the owner holds.
	Free Op = "free"
	// Look asks what the owner holds, and leaves that as it is. A renewal of a lease is one.
	Look Op = "look"
	// Respec gives a place other ranges. Creating the place is one too.
	Respec Op = "respec"
	// Died is no call: the process that Owner names was killed, and has sent its last.
	Died Op = "died"
)

// Intent is what a call asks for. The zero Intent is none. It may be copied; the copy shares its slices.
type Intent struct {
	Op Op `json:"op"`
	// Call is the name of the function, for people.
	Call string `json:"call"`
	// Owner is for whom; empty for Respec.
	Owner string `json:"owner,omitempty"`
	// Parts are the places that it is about: one of each part, the others of a part being alternatives. All parts or
	// none.
	Parts [][]string `json:"parts,omitempty"`
	// Ranges are what a Respec gives the place.
	Ranges []netip.Prefix `json:"ranges,omitempty"`
	// Asks says the rest, for people.
	Asks string `json:"asks,omitempty"`
}

// Outcome is how a call ended, as far as its effect goes.
type Outcome string

// The outcomes.
const (
	// Done calls took effect, or found that all is so already.
	Done Outcome = "done"
	// Unknown calls may have taken effect, or may yet.
	Unknown Outcome = "unknown"
	// Nothing is a Failed call that was told that the owner holds nothing.
	Nothing Outcome = "nothing"
	// NoPool is a Failed call that was told that there is no such pool.
	NoPool Outcome = "no pool"
	// Failed calls had no effect.
	Failed Outcome = "failed"
)

// Holding is what an owner holds in a place. It may be copied; the copy shares Prefixes.
type Holding struct {
	Place string `json:"place"`
	Owner string `json:"owner"`
	// Prefixes are what is held; none means that it is not known.
	Prefixes []netip.Prefix `json:"prefixes,omitempty"`
	// Generation tells one grant from another. It rises with each commit of a pool.
	Generation int64 `json:"generation,omitempty"`
	// Child is the place that the prefixes are delegated to; empty if the owner uses them.
	Child string `json:"child,omitempty"`
}

// String says who holds what where.
func (h Holding) String() string {
	what := "something"
	if len(h.Prefixes) > 0 {
		what = strings.Trim(fmt.Sprint(h.Prefixes), "[]")
	}
	return fmt.Sprintf("%s of %q in %q (generation %d)", what, h.Owner, h.Place, h.Generation)
}

// Result is how a call ended. It may be copied; the copy shares its slices.
type Result struct {
	Outcome Outcome `json:"outcome"`
	// Held are what was granted, found or freed: one for each part in which that was something. None with Done means
	// that the call does not tell.
	Held []Holding `json:"held,omitempty"`
	// InForce are the ranges that a Look found in force in its place.
	InForce []netip.Prefix `json:"inForce,omitempty"`
	// Error is the text of the error, for people.
	Error string `json:"error,omitempty"`
}

// Event is a line of a journal: a call that begins, with an Intent, or one that has returned, with a Result.
type Event struct {
	Process string  `json:"process"`
	Call    int64   `json:"call"` // the number of the call in its process, from 1
	At      int64   `json:"at"`   // the stamp
	Intent  *Intent `json:"intent,omitempty"`
	Result  *Result `json:"result,omitempty"`
}

// Forever is later than every stamp.
const Forever = math.MaxInt64

// Call is a call as a journal tells it. It may be copied; the copy shares what Intent and Result share.
type Call struct {
	Process string
	Number  int64
	// Begin and Return are the stamps. Return is Forever if the call did not return; Result is then zero.
	Begin, Return int64
	Intent
	Result
}

// String says what was called when by whom, and how it ended.
func (c Call) String() string {
	at := fmt.Sprintf("%d to %d", c.Begin, c.Return)
	if c.Return == Forever {
		at = fmt.Sprintf("%d, no return", c.Begin)
	}
	text := fmt.Sprintf("%s#%d %s(%q in %v%s)", c.Process, c.Number, c.Intent.Call, c.Owner, c.Parts, c.asks())
	text += fmt.Sprintf(" [%s] %s", at, c.Outcome)
	if len(c.Held) > 0 {
		held, _ := json.Marshal(c.Held) // has nothing that cannot be written
		text += " " + string(held)
	}
	if len(c.InForce) > 0 {
		text += fmt.Sprintf(" %v", c.InForce)
	}
	if c.Error != "" {
		text += ": " + c.Error
	}
	return text
}

func (c Call) asks() string {
	text := ""
	if len(c.Ranges) > 0 {
		text = fmt.Sprintf(", %v", c.Ranges)
	}
	if c.Asks != "" {
		text += ", " + c.Asks
	}
	return text
}

// Calls pairs the events of each process, which are in the order in which it wrote them, and returns the calls in the
// order of their beginnings. The Died events are among them, as calls without a return.
//
// It is an error if a call begins twice, returns without a beginning, or has stamps that do not rise.
func Calls(processes ...[]Event) ([]Call, error) {
	var calls []Call
	for _, events := range processes {
		open := map[int64]int{}
		for _, e := range events {
			i, begun := open[e.Call]
			switch {
			case (e.Intent == nil) == (e.Result == nil):
				return nil, fmt.Errorf("call %d of %s: an event has either an intent or a result", e.Call, e.Process)
			case e.Intent != nil && begun:
				return nil, fmt.Errorf("call %d of %s begins twice", e.Call, e.Process)
			case e.Intent != nil:
				open[e.Call] = len(calls)
				calls = append(calls, Call{
					Process: e.Process, Number: e.Call, Begin: e.At, Return: Forever, Intent: *e.Intent,
				})
			case !begun || calls[i].Return != Forever:
				return nil, fmt.Errorf("call %d of %s returns, but does not run", e.Call, e.Process)
			case e.At <= calls[i].Begin:
				return nil, fmt.Errorf("call %d of %s returns at %d, before it begins at %d",
					e.Call, e.Process, e.At, calls[i].Begin)
			default:
				calls[i].Return, calls[i].Result = e.At, *e.Result
			}
		}
	}
	sortCalls(calls)
	return calls, nil
}
