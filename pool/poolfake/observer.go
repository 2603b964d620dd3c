package poolfake

import (
	"context"
	"errors"

	"github.com/ipalloc/ipalloc/pool"
)

// observer is told of the calls of pools, for what concerns one call: [Fake.InjectNext] and [Fake.Refuse].
type observer struct {
	pool.NoObserver
	fake *Fake
}

// call is a call as one pool is told of it. It is there to be pointed to, so it has a size.
type call struct{ _ byte }

// callKey is the key under which a context has its call.
type callKey struct{}

// BeginCall implements [pool.Observer].
func (o observer) BeginCall(ctx context.Context, begin pool.Call) context.Context {
	c := &call{}
	o.fake.begin(c)
	ctx = context.WithValue(ctx, callKey{}, c)
	for _, step := range begin.Steps {
		if step.Op != "allocate" {
			continue
		}
		if err := o.fake.refusalOf(ctx, begin, step); err != nil {
			return refused(ctx, err)
		}
	}
	return ctx
}

// EndCall implements [pool.Observer].
func (o observer) EndCall(ctx context.Context, _ pool.Call) {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		o.fake.end(c)
	}
}

// begin notes that a call begins, which may be the one for which faults are injected.
func (f *Fake) begin(c *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next {
		f.next, f.only = false, c
	}
}

func (f *Fake) end(c *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.only == c {
		f.choose, f.only = nil, nil
	}
}

// refusedContext is the context of a call that is refused. A pool begins no call whose context has ended, and returns
// the context's error: so the call fails alone, whatever it would have shared a commit with.
type refusedContext struct {
	context.Context
	done chan struct{} // closed
	err  error
}

func refused(ctx context.Context, err error) context.Context {
	c := &refusedContext{ctx, make(chan struct{}), err}
	close(c.done)
	return c
}

// Done implements [context.Context].
func (c *refusedContext) Done() <-chan struct{} { return c.done }

// Err returns why the call is refused.
func (c *refusedContext) Err() error { return c.err }

// Refuse makes claims fail as if the pool were full, from now on: those for which refuses returns true. It is called
// with the name of a pool in the fake's store and with each claim there, one at a time, and must
// not use the Fake or the pool. nil refuses none, as at first. It is for handles with [Fake.Options].
//
// A claim that a full pool would not refuse goes through: that of an owner that already holds something. Otherwise the
// call returns what such a pool returns if other owners hold all of its addresses, [pool.ErrExhausted] or, for an exact
// prefix, [pool.ErrTaken], and changes nothing. AllocateWait waits until its context ends or another Refuse no longer
// refuses the claim.
//
// Other claims are not affected, and the pool is not full: its counts, and [pool.Pool.DryRun], say what is really free.
// A call of several steps is refused whole if one of its steps is, and so is a step that names several pools.
// [pool.Pool.Each] ends with the error, where a full pool would refuse single steps. To have a pool that is full for
// all, see [Fake.Fill].
func (f *Fake) Refuse(refuses func(pool string, claim pool.Claim) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuses = refuses
	close(f.refused)
	f.refused = make(chan struct{})
}

// refusalOf returns the error with which a step is refused; nil if it is not. A call that waits is refused only when
// its context has ended.
func (f *Fake) refusalOf(ctx context.Context, begin pool.Call, step pool.Step) error {
	for ctx.Err() == nil {
		chosen, changed := f.chooses(begin.Pool, step)
		if !chosen {
			return nil
		}
		refusal := f.fullAnswer(context.WithoutCancel(ctx), begin.Pool, step.Claim)
		switch {
		case refusal == nil:
			return nil
		case begin.Method != "AllocateWait":
			return refusal
		}
		select {
		case <-changed:
		case <-ctx.Done():
			refusal.Op, refusal.Owner = step.Op, step.Claim.Owner
			return errors.Join(ctx.Err(), refusal)
		}
	}
	return nil // the pool itself refuses a call whose context has ended
}

// chooses reports whether the step is one to refuse. The channel is closed when the answer may be another one.
func (f *Fake) chooses(name string, step pool.Step) (chosen bool, changed <-chan struct{}) {
	f.mu.Lock()
	refuses, changed := f.refuses, f.refused
	f.mu.Unlock()
	if refuses == nil {
		return false, changed
	}
	f.asking.Lock()
	defer f.asking.Unlock()
	return refuses(name, step.Claim), changed
}
