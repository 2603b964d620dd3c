package group

import "context"

// Member is the type of what a batch consists of: a pointer to a struct that embeds a [Call].
type Member interface {
	// Group returns the member's Call, always the same one.
	Group() *Call
}

// Runner does the work of batches. [Do] calls its methods in the goroutine of a call that leads, and never two of them
// at once for calls that share a queue. So what belongs to a queue needs no other lock in them. No method may call Do
// on a queue of the batch.
type Runner[M Member] interface {
	// Ready is called before each round of the leader own, and may wait until a round is of use. Calls that come
	// meanwhile can join the round. It should return early when own's context ends.
	Ready(own M)

	// Round tries once to do what the members of the batch ask for, and marks those done that it has brought to their
	// end. The first member is the one that leads. The batch is valid until Round returns.
	Round(batch []M)

	// Pause waits between two rounds of the leader own, as long as the runner sees fit. It should return early when
	// own's context ends.
	Pause(own M)

	// Room reports whether next may join the batch. A member for which there is no room keeps its place in the queue.
	// Room is called for waiting members queue by queue, in the order of their arrival, and with the queue locked: it
	// must be quick.
	Room(batch []M, next M) bool

	// Fail is called when another method panicked, with the value of the panic, or with nil if the goroutine ended by
	// runtime.Goexit. The batch is that of the round; it is the leader alone if there was none. Fail records an error
	// for each member that is not done, and marks it done.
	Fail(batch []M, panicked any)

	// MayLeave reports whether a member that was in a round, and was not done, may still be withdrawn when its context
	// ends. It is false when the outcome of that round is uncertain: the member then stays until a round brings it to
	// its end.
	MayLeave(m M) bool
}

// Do brings m to its end. It returns when m is marked done, in a round of its own or of another call's.
//
// Do waits in each of the queues in turn, and leads rounds when it has the lead of all of them; until then another call
// that leads all of them may take m along. A batch has only members that are run by a Runner of the same M, so Runners
// that share a queue must be able to run each other's members. The queues are in any order, and one that is there twice
// counts once. They must not change until Do returns. Without queues, m is run alone.
//
// Errors: the context's error if the context ended before m was in a round, or after a round that left m undone and
// allowed it to leave; nothing was done for m then. [ErrPanicked] if a round panicked, and Fail did not mark m done.
// Otherwise nil, also if the context has ended: how m fared is recorded in m by the Runner. If a method of run panics
// in this goroutine, Do calls Fail, lets the other calls go on, and panics with the same value.
//
// Cost: for one queue that nobody leads, two uncontended locks and no allocation. For several queues, one small
// allocation. A call that waits allocates a channel, unless it was used before. A round costs O(size of the batch)
// beside the work of the Runner.
func Do[M Member](ctx context.Context, m M, queues []*Queue, run Runner[M]) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := m.Group()
	c.begin(m, queues)
	for i, q := range c.queues {
		if q.enter(c) {
			continue
		}
		q.wait(ctx, c)
		switch {
		case c.state == ended:
			return c.outcome(ctx)
		case c.state == away:
			handOn(c.queues[:i])
			return ctx.Err()
		case c.leaves(ctx):
			handOn(c.queues[:i+1])
			return ctx.Err()
		}
	}
	t := turn[M]{own: m, call: c, run: run}
	t.lead(ctx)
	return c.outcome(ctx)
}

// leaves reports whether the call, which is in no round and in no queue, goes away undone.
func (c *Call) leaves(ctx context.Context) bool { return ctx.Err() != nil && !c.bound }

// outcome returns what Do returns for a call that has ended.
func (c *Call) outcome(ctx context.Context) error {
	if c.done {
		return c.err
	}
	return ctx.Err()
}

// handOn gives the leads of the queues to those that wait for them.
func handOn(queues []*Queue) {
	for _, q := range queues {
		q.handOn()
	}
}
