package main

import (
	"math/rand/v2"
	"time"
)

// What the tests use as it is.
type (
	Row    = row
	Call   = call
	Strike = strike
)

var (
	Command   = command
	RunHandle = runHandle
	Overtaken = overtaken
	Compare   = compare
)

// Missed names the aims that a row misses.
func Missed(r Row) string { return r.missed() }

// Told is what one handle did in a run.
type Told struct {
	Calls   []Call
	From    time.Duration // since the run's begin: when it went down
	To      time.Duration // and came up again; 0 for never
	WasDown bool
}

// Sum is the row of a run that began at the begin of Unix time.
func Sum(length time.Duration, commits, conflicts int, told ...Told) Row {
	t := newTally(len(told), time.Unix(0, 0), length, true)
	for n, of := range told {
		if of.WasDown {
			t.handles[n].down = []span{{int64(of.From), int64(of.To)}}
		}
	}
	for n, of := range told {
		t.take(n, batch{Calls: of.Calls})
	}
	t.take(0, batch{Commits: commits, Conflicts: conflicts})
	return t.row(writers{len(told), 1})
}

// Strikes are the strikes on so many handles, chosen by the seed.
func Strikes(seed uint64, handles int, kill, stop float64, length time.Duration) []Strike {
	return planStrikes(rand.New(rand.NewPCG(seed, 0)), handles, kill, stop, length)
}

// Of are the parts of a strike.
func (s strike) Of() (handle int, after, stop time.Duration) { return s.handle, s.after, s.stop }
