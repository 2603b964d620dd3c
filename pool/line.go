package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// line is where the claims of a handle wait that nothing free meets, in the order of their arrival, together with the
// releases that come meanwhile.
//
// One of the calls in it leads: it tries for all of them, and watches the pool in between (see [leading]). The others
// sleep. A leader that leaves hands the lead on, however it leaves: with an answer, by the end of its context, by a
// panic or by runtime.Goexit. So the lead is free only if the line is empty, and a call that finds it free takes it;
// both are decided under mu.
//
// No wake-up is lost. A leader that is about to sleep looks under mu whether there is anything to try, and says under
// mu how it is woken. Who enters, or has freed something, notes that under mu first and then wakes it. What becomes
// free elsewhere is a change of the head, and the leader watches that from the revision at which the claims were
// refused.
//
// The order holds. Only the leader grants anything to those in the line, one try at a time. A try has the claims in
// their order, and the attempt plans them in that order, after all that its batch frees. With the claims of other
// handles in the batch they are one line, in the order of how long they have waited. If a try does not have all claims,
// none is granted what one that comes before it, and is not in the try, might want: see [lineOrder].
//
// The zero line is empty.
type line struct {
	length atomic.Int64 // of claims

	mu        sync.Mutex
	claims    []*waiter // in the order of arrival
	releases  []*waiter // the same
	demands   map[string]*demand
	led       bool
	interrupt context.CancelFunc // ends what the leader waits in; nil if it does not wait, or is awake already
	stirred   bool               // something may have become free since the last try was made
	looking   chan struct{}      // closed when the owners of all claims are to be looked up; nil if nobody waits for that
	abandon   context.CancelFunc // ends the try under way, unless that commits already; nil if there is none

	// What follows belongs to the leader.

	most     int   // claims of one demand in a try
	revision int64 // of the pool when claims were refused last
	next     time.Time
	unlooked bool // the pool was changed by others since the owners of all claims were looked up
	lookBy   time.Time
	busy     bool // the last watch was cut short by a call of this handle
	courtesy courtesy
}

// demand is what claims have in common that the same addresses meet. While the first of them is refused, so are the
// others.
type demand struct {
	waiting int   // how many claims in the line have it
	refused bool  // it was when it was last tried, and nothing has happened since
	refusal error // the last one

	// In the try that is being made: how many claims are in it, whether others are not, and the last one's outcome.
	taken int
	full  bool
	last  *outcome
}

// place says where a call is.
type place uint8

const (
	inLine    place = iota
	inTry           // in the line, and in the try under way
	inFront         // it was given the lead
	outOfLine       // it has come to its end
)

// waiter is a call in a line. All but the first fields are guarded by the line's mu.
type waiter struct {
	task
	ctx  context.Context
	wake chan struct{} // gets a token when the call is given the lead, or has ended

	since   time.Time // when a claim came
	demand  *demand   // of a claim; nil for a release
	after   *waiter   // a claim of the same owner that came before
	look    bool      // whether the owner holds something already is to be looked up, even if the claim is refused
	place   place
	leaving bool // its context ended during a try
	result  Allocation
	err     error
}

func newWaiter(ctx context.Context, t task) *waiter {
	return &waiter{task: t, ctx: ctx, wake: make(chan struct{}, 1)}
}

// waits reports whether any claim waits.
func (l *line) waits() bool { return l.length.Load() > 0 }

// enter puts a call at the end of the line. It reports whether it is to lead.
func (l *line) enter(w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.demand == nil && w.claim != nil {
		l.admit(w)
	} else {
		l.releases = append(l.releases, w)
	}
	if !l.led {
		l.led = true
		return true
	}
	if l.due() {
		l.rouse()
	}
	return false
}

// admit puts a claim at the end of the line. The caller holds mu.
func (l *line) admit(w *waiter) {
	if l.demands == nil {
		l.demands = map[string]*demand{}
	}
	name := demandOf(w.claim)
	if w.demand = l.demands[name]; w.demand == nil {
		w.demand = &demand{}
		l.demands[name] = w.demand
		w.look = true // it is tried anyway
	}
	w.demand.waiting++
	if n := len(l.claims); n > 0 && l.claims[n-1].since.After(w.since) { // the clock was set back
		w.since = l.claims[n-1].since
	}
	for _, other := range l.claims {
		if other.owner == w.owner {
			w.after, w.look = other, true
		}
	}
	l.claims = append(l.claims, w)
	l.length.Add(1)
}

// demandOf names what the claim demands.
func demandOf(c *Claim) string {
	requests := c.Requests
	if len(requests) == 0 {
		requests = defaultRequests
	}
	var name strings.Builder
	fmt.Fprintf(&name, "%q", c.Policy)
	if c.Share != "" {
		fmt.Fprintf(&name, " %s", shareName(c.Scope, c.Share))
	}
	for i := range requests {
		r := &requests[i]
		fmt.Fprintf(&name, " %d/%d %v %q %p", r.Family, r.Bits, r.Exact, r.Band, r.Within)
	}
	return name.String()
}

// rouse wakes the leader if it waits. The caller holds mu.
func (l *line) rouse() {
	if l.interrupt != nil {
		l.interrupt()
		l.interrupt = nil
	}
}

// due reports whether there is anything to try. The caller holds mu.
func (l *line) due() bool {
	return len(l.releases) > 0 || slices.ContainsFunc(l.claims, func(w *waiter) bool {
		return !w.blocked() && (w.look || !w.demand.refused)
	})
}

// blocked reports whether the claim has to wait for another one of its owner.
func (w *waiter) blocked() bool { return w.after != nil && w.after.place != outOfLine }

// stir lets the claims be tried again, because something may have become free.
func (l *line) stir() {
	if !l.waits() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stirred = true
	l.reopen()
	l.rouse()
}

// reopen forgets that claims were refused. The caller holds mu.
func (l *line) reopen() {
	for _, d := range l.demands {
		d.refused = false
	}
}

// willLook reports whether the owner of a claim is looked up by the next try.
func (l *line) willLook(w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return w.look
}

// lookUp lets the owner of a claim be looked up, because it may hold something already.
func (l *line) lookUp(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.look = true
	l.rouse()
}

// wait returns when the call has ended, or has been given the lead, which it reports. Meanwhile it calls look each time
// that the owner of a claim is to be looked up.
func (l *line) wait(w *waiter, look func()) bool {
	for {
		select {
		case <-l.looks(w):
			look()
			continue
		case <-w.wake:
		case <-w.ctx.Done():
			if l.withdraw(w) {
				return false
			}
			<-w.wake
		}
		return l.hasFront(w)
	}
}

// hasFront reports whether the call has been given the lead.
func (l *line) hasFront(w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return w.place == inFront
}

// looks returns a channel that is closed when the owner of the call is to be looked up; nil if it is not.
func (l *line) looks(w *waiter) <-chan struct{} {
	if w.demand == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.looking == nil {
		l.looking = make(chan struct{})
	}
	return l.looking
}

// lookAll lets the owners of all claims be looked up.
func (l *line) lookAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.looking != nil {
		close(l.looking)
		l.looking = nil
	}
}

// withdraw ends a call whose context has ended, and reports true, unless it is in a try or leads. A try is given up for
// it if nothing was committed yet.
func (l *line) withdraw(w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch w.place {
	case inLine:
		l.end(w, Allocation{}, w.gone())
		return true
	case inTry:
		w.leaving = true
		if l.abandon != nil {
			l.abandon()
		}
	}
	return false
}

// gone is the error of a call whose context has ended.
func (w *waiter) gone() error {
	if w.demand == nil || w.demand.refusal == nil {
		return turnless(w.ctx.Err())
	}
	refusal := w.demand.refusal
	var exhausted *exhaustedError
	if errors.As(refusal, &exhausted) { // each caller gets its own
		own := *exhausted
		refusal = &own
	}
	return errors.Join(w.ctx.Err(), causedBy(refusal, Error{Op: w.task.kind.String(), Owner: w.owner}))
}

// end takes a call out of the line, and wakes it. The caller holds mu.
func (l *line) end(w *waiter, result Allocation, err error) {
	if w.place == outOfLine {
		return
	}
	w.place, w.result, w.err = outOfLine, result, err
	same := func(other *waiter) bool { return other == w }
	if w.demand == nil {
		l.releases = slices.DeleteFunc(l.releases, same)
	} else {
		l.claims = slices.DeleteFunc(l.claims, same)
		l.length.Add(-1)
		if w.demand.waiting--; w.demand.waiting == 0 {
			delete(l.demands, demandOf(w.claim))
		}
	}
	w.wake <- struct{}{}
}

// handOn ends the leader's call, if it has not ended, and gives the lead to another one: the last claim, since it will
// wait longest.
func (l *line) handOn(own *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if own.place != outOfLine {
		l.end(own, Allocation{}, own.gone())
	}
	l.interrupt, l.abandon = nil, nil
	var next *waiter
	switch {
	case len(l.claims) > 0:
		next = l.claims[len(l.claims)-1]
	case len(l.releases) > 0:
		next = l.releases[0]
	default:
		l.led = false
		l.unlooked = false
		return
	}
	next.place = inFront
	next.wake <- struct{}{}
}

// lineOrder is what a claim must know of those before it in a line that are planned in the same op.
type lineOrder struct {
	since  time.Time  // when the claim came; in one line no earlier than those before it
	look   bool       // the owner's record is to be read even if the claim waits on
	ahead  *outcome   // of the last claim that has the same demand; nil if there is none
	behind []*outcome // of the last claims in the op that have other demands, where not all such claims are in it
}

// canAsk reports whether another handle can keep the order.
func (l *lineOrder) canAsk() bool { return l == nil || len(l.behind) == 0 }

// refusal refuses a claim because of one before it; nil if none is in its way.
func (l *lineOrder) refusal(out *outcome) error {
	if l == nil {
		return nil
	}
	if a := l.ahead; a != nil && (a.verdict == verdictWait || a.verdict == verdictLater) {
		out.verdict = a.verdict
		return a.refusal
	}
	for _, b := range l.behind {
		if b.verdict != verdictWait {
			return errBehind
		}
	}
	return nil
}

// refused is the verdict on a task that cannot be done for this reason.
func (t *task) refused(err error) verdict {
	if t.line != nil && (errors.Is(err, ErrExhausted) || errors.Is(err, ErrTaken) || errors.Is(err, errBehind)) {
		return verdictWait
	}
	return verdictRefuse
}

// waitsUnseen reports whether the claim of the step waits on, and its owner's record need not be read for that.
func (s *step) waitsUnseen(o *op) bool {
	return s.outcome.verdict == verdictWait && !s.line.look && !o.uncertain
}
