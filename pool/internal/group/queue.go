package group

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// ErrPanicked is returned by [Do] when a round panicked and [Runner].Fail did not mark the call done, as when it panics
// too. The outcome of the call is unknown then.
var ErrPanicked = errors.New("a call that was run together with this one panicked")

// Queue is where the calls on one thing wait for their turn.
//
// The zero Queue is ready for use. It must not be copied after its first use. It may be used by several goroutines at
// once.
type Queue struct {
	place atomic.Uint64 // in the order of all queues; zero until the queue is first used together with another one

	mu          sync.Mutex
	led         bool  // a call leads; if not, no call waits
	first, last *Call // the calls that wait, or are in the round under way, in the order of their arrival

	count atomic.Int64 // of these calls; changes under mu

	// What follows belongs to the call that leads.

	company int64 // how many calls took part in the last round or arrived during it
	passed  int64 // how many calls waited at the start of the last round and did not take part in it
	scratch any   // a *[]M, for the next batch
}

// places is the number of queues that have a place. A counter shared by all queues is what makes their order total.
var places atomic.Uint64

// position returns the place of q in the order of all queues, which never changes.
func (q *Queue) position() uint64 {
	if q.place.Load() == 0 {
		q.place.CompareAndSwap(0, places.Add(1))
	}
	return q.place.Load()
}

// inOrder returns the queues in the order in which their leads are taken, each once. It leaves the argument as it is.
func inOrder(queues []*Queue) []*Queue {
	if len(queues) < 2 {
		return queues
	}
	byPlace := func(a, b *Queue) int { return cmp.Compare(a.position(), b.position()) }
	ordered := slices.Clone(queues)
	slices.SortFunc(ordered, byPlace)
	return slices.Compact(ordered)
}

// within reports whether all of these queues are among the others. Both are in order.
func within(queues, others []*Queue) bool {
	for _, q := range queues {
		i := slices.Index(others, q)
		if i < 0 {
			return false
		}
		others = others[i+1:]
	}
	return true
}

// state says where a call is.
type state uint8

const (
	away    state = iota // in no queue
	waiting              // in a queue
	taken                // in a queue, and in the round under way
	given                // out of the queue, whose lead it was given
	ended                // out of the queue, after a round
)

// Call is one caller's work on its way through [Do]. A type that embeds it and is used by pointer is a [Member].
//
// The zero Call is ready for use. It must not be copied after its first use. It may be used again when Do has returned.
type Call struct {
	member any      // the M of Do
	queues []*Queue // in order

	// These belong to the call that leads a queue: to another one between taken and ended, to this one when it leads
	// itself.

	done  bool
	bound bool // must not be withdrawn since its last round; its own goroutine reads it under mu, unless taken
	err   error

	// These are guarded by mu of the queue that it is in.

	queue          *Queue
	next, previous *Call
	state          state
	leaving        bool // its context ended while it could not be withdrawn

	wake chan struct{} // gets a token when a leader takes the call out of a queue; nil until it first has to wait
}

// Group returns c. It makes a type that embeds a Call a [Member].
func (c *Call) Group() *Call { return c }

// Done marks the call done: [Do] returns nil when the round is over. Only [Runner].Round and [Runner].Fail may call it,
// for the members of their batch.
func (c *Call) Done() { c.done = true }

// IsDone reports whether the call is marked done. Only the methods of a [Runner] may call it, for the members that they
// are given, and the caller of [Do] when Do has returned.
func (c *Call) IsDone() bool { return c.done }

// begin prepares the call for a new Do.
func (c *Call) begin(member any, queues []*Queue) {
	c.member, c.queues = member, inOrder(queues)
	c.done, c.bound, c.err, c.leaving, c.state = false, false, nil, false, away
}

// enter takes the lead of q for c if no call has it. Otherwise it puts c at the end of the queue, and returns false.
func (q *Queue) enter(c *Call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.led {
		q.led = true
		return true
	}
	if c.wake == nil {
		c.wake = make(chan struct{}, 1)
	}
	c.queue, c.state, c.previous = q, waiting, q.last
	if q.last == nil {
		q.first = c
	} else {
		q.last.next = c
	}
	q.last = c
	q.count.Add(1)
	return false
}

// remove takes c out of the queue, and gives it its next state. The caller holds q.mu.
func (q *Queue) remove(c *Call, next state) {
	if c.previous == nil {
		q.first = c.next
	} else {
		c.previous.next = c.next
	}
	if c.next == nil {
		q.last = c.previous
	} else {
		c.next.previous = c.previous
	}
	c.queue, c.next, c.previous, c.state = nil, nil, nil, next
	q.count.Add(-1)
}

// wait returns when c, which is in q, has been given the lead, or has ended, or has been withdrawn because the context
// ended. The state of c says which of these: given, ended or away.
func (q *Queue) wait(ctx context.Context, c *Call) {
	select {
	case <-c.wake:
	case <-ctx.Done():
		if !q.withdraw(c) {
			<-c.wake
		}
	}
}

// withdraw takes c out of the queue if it may go now. Otherwise it notes that c wants to, and returns false.
func (q *Queue) withdraw(c *Call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.state == waiting && !c.bound {
		q.remove(c, away)
		return true
	}
	c.leaving = true
	return false
}

// handOn gives the lead of q, which the caller has, to the call that waits longest.
func (q *Queue) handOn() {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.first
	if c == nil {
		q.led = false
		return
	}
	q.remove(c, given)
	c.wake <- struct{}{}
}

// release puts a call that was taken back to waiting, in its place, or wakes it if it is done or wants to leave. The
// caller holds q.mu.
func (q *Queue) release(c *Call) {
	switch {
	case c.done:
		q.remove(c, ended)
	case c.leaving && !c.bound:
		q.remove(c, away)
	default:
		c.state = waiting
		return
	}
	c.wake <- struct{}{}
}
