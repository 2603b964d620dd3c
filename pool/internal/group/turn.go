package group

import (
	"context"
	"runtime"
)

const (
	// patience is how often a leader yields for the calls that it expects. That takes much less time than a commit.
	patience = 256
	// maxRefused is how many calls in a row may be passed over before the rest of the queue is left for another round.
	// It keeps a full batch from costing a look at every call that waits.
	maxRefused = 256
)

// turn is the time in which one call leads all of its queues.
type turn[M Member] struct {
	own   M
	call  *Call // of own
	run   Runner[M]
	batch []M  // own first, then what was taken from the queues, queue by queue
	over  bool // no method of run panicked, and none will be called
}

// lead runs rounds until the turn's own call is done or leaves, and hands the leads on.
func (t *turn[M]) lead(ctx context.Context) {
	scratch := t.scratch()
	t.batch = (*scratch)[:0]
	t.batch = append(t.batch, t.own)
	defer t.end(scratch)
	for {
		t.run.Ready(t.own)
		t.gather()
		t.collect()
		t.run.Round(t.batch)
		t.settle()
		if t.call.done {
			break
		}
		t.run.Pause(t.own)
		if t.call.leaves(ctx) {
			break
		}
	}
	t.over = true
	t.leave(scratch)
}

// scratch returns the memory for batches that the first queue keeps.
func (t *turn[M]) scratch() *[]M {
	if len(t.call.queues) == 0 {
		return new([]M)
	}
	q := t.call.queues[0]
	s, ok := q.scratch.(*[]M)
	if !ok {
		s = new([]M)
		q.scratch = s
	}
	return s
}

// end does nothing if the turn is over. Otherwise a method of the runner panicked, or the goroutine exits: it fails the
// batch at hand, hands the leads on, and lets the panic go on. It must itself be deferred.
func (t *turn[M]) end(scratch *[]M) {
	if t.over {
		return
	}
	defer t.leave(scratch)
	panicked := recover()
	t.run.Fail(t.batch, panicked)
	if panicked != nil {
		panic(panicked) //nolint:forbidigo // the panic of the caller's own code goes on
	}
}

// leave hands the leads on. If the turn is not over, it first sees to it that all members of the batch at hand return.
// In both cases only the own call is in the batch then.
func (t *turn[M]) leave(scratch *[]M) {
	if !t.over {
		for _, m := range t.batch {
			if c := m.Group(); !c.done {
				c.done, c.err = true, ErrPanicked
			}
		}
		t.release()
	}
	var none M
	t.batch[0] = none
	*scratch = t.batch[:0]
	handOn(t.call.queues)
}

// gather lets the callers come back that were in the last round or waited for it, so that they share one round instead
// of taking turns in two. It does not wait for a call that does not come.
func (t *turn[M]) gather() {
	for range patience {
		missing := false
		for _, q := range t.call.queues {
			missing = missing || 1+q.count.Load() < q.company
		}
		if !missing {
			return
		}
		runtime.Gosched()
	}
}

// collect makes a batch of the own call and of those that wait and want no other queues.
func (t *turn[M]) collect() {
	for _, q := range t.call.queues {
		q.passed = 0
		if q.count.Load() > 0 {
			t.take(q)
		}
	}
}

// take adds to the batch what waits in q, in the order of arrival.
func (t *turn[M]) take(q *Queue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	before, refused := len(t.batch), 0
	for c := q.first; c != nil && refused < maxRefused; c = c.next {
		m, ok := c.member.(M)
		if !ok || !within(c.queues, t.call.queues) || !t.run.Room(t.batch, m) {
			refused++
			continue
		}
		c.state, refused = taken, 0
		t.batch = append(t.batch, m)
	}
	q.passed = q.count.Load() - int64(len(t.batch)-before)
}

// settle ends a round: it lets the members go that are done.
func (t *turn[M]) settle() {
	for _, m := range t.batch {
		if c := m.Group(); !c.done {
			c.bound = !t.run.MayLeave(m)
		}
	}
	t.release()
}

// release wakes the members of the batch that are done or want to leave, and lets the others wait again where they
// were. It leaves only the own call in the batch.
func (t *turn[M]) release() {
	rest := t.batch[1:]
	for _, q := range t.call.queues {
		q.company = 1 + q.count.Load() - q.passed
		if len(rest) == 0 || rest[0].Group().queue != q {
			continue
		}
		q.mu.Lock()
		for len(rest) > 0 && rest[0].Group().queue == q {
			q.release(rest[0].Group())
			rest = rest[1:]
		}
		q.mu.Unlock()
	}
	if len(t.batch) > 1 {
		clear(t.batch[1:])
		t.batch = t.batch[:1]
	}
}
