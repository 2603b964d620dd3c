package main

import (
	"slices"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/measure"
)

// tally counts what the handles tell of a run. Its methods may be called by any number of goroutines at once.
type tally struct {
	mu          sync.Mutex
	begun, ends time.Time
	handles     []handleTally
	keep        bool // the calls, for their order
	waits       measure.Histogram
	beside      time.Duration // the longest wait while another handle was down
	busy        int
	errors      map[string]int
	commits     int
	conflicts   int
}

// handleTally is about one handle.
type handleTally struct {
	granted int
	down    []span
	calls   []call // if they are kept
}

// span is from when until when a handle was down, in nanoseconds of Unix time. The end is 0 as long as it is.
type span struct{ from, to int64 }

// meets tells whether the call was under way at any moment of the span.
func (s span) meets(c call) bool { return c.end() > s.from && (s.to == 0 || c.Begin < s.to) }

// newTally is that of a run which begins now.
func newTally(handles int, begun time.Time, length time.Duration, keep bool) *tally {
	return &tally{
		begun: begun, ends: begun.Add(length), handles: make([]handleTally, handles), keep: keep, errors: map[string]int{},
	}
}

// take counts what a handle did.
func (t *tally) take(handle int, b batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.commits += b.Commits
	t.conflicts += b.Conflicts
	for _, c := range b.Calls {
		t.count(handle, c)
	}
}

// count counts a call. One that was granted after the run's end counts as a wait only, and one that was under way while
// its own handle was down counts as a grant only. Calls that failed are waits too.
func (t *tally) count(handle int, c call) {
	h := &t.handles[handle]
	switch {
	case c.Busy:
		t.busy++
	case c.Error != "":
		t.errors[c.Error]++
	case c.end() <= t.ends.UnixNano():
		h.granted++
	}
	meets := func(s span) bool { return s.meets(c) }
	if c.Release || slices.ContainsFunc(h.down, meets) {
		return
	}
	t.waits.Add(c.Took)
	if t.keep && !c.failed() {
		h.calls = append(h.calls, c)
	}
	for other := range t.handles {
		if c.Took > t.beside && slices.ContainsFunc(t.handles[other].down, meets) {
			t.beside = c.Took
		}
	}
}

// goesDown tells that a handle is about to be killed or stopped. What it returns tells that it works again.
func (t *tally) goesDown(handle int) (up func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := &t.handles[handle]
	h.down = append(h.down, span{from: time.Now().UnixNano()})
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		h.down[len(h.down)-1].to = time.Now().UnixNano()
	}
}

// rate is how much a handle was granted in each second in which it was not down; ok is false if it always was.
func (t *tally) rate(handle int) (perSecond float64, ok bool) {
	h, begun, ends := &t.handles[handle], t.begun.UnixNano(), t.ends.UnixNano()
	up := ends - begun
	for _, s := range h.down {
		if s.to == 0 {
			s.to = ends
		}
		up -= max(0, min(s.to, ends)-max(s.from, begun))
	}
	return float64(h.granted) / time.Duration(up).Seconds(), up > 0
}
