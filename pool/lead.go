package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/pool/internal/group"
	"github.com/ipalloc/ipalloc/store"
)

// runner runs the attempts of one leader at a time. It implements [group.Runner].
type runner struct {
	attempt attempt
	turn    store.Turn // at the heads of the next attempt; nil if it is made without
	noTurn  error      // why it is made without, although one was waited for
	owners  owners     // of the batch that is being made
	tasks   int        // in it

	// Of a turn in which handles commit for one another.
	shared store.GroupTurn // the same as turn; nil if it is another one
	asking asked           // what others may do of the batch
	guests []guest         // that the batch does for others
	all    []*op           // of the batch and of the guests
	alone  bool            // the next batch has no guests, because it failed with them
}

// owners tells which op of a batch is for an owner in a pool.
type owners map[owner]*op

type owner struct {
	pool *Pool
	name string
}

// find returns the op of the batch that is for the owner in the pool; nil if there is none.
func (w owners) find(p *Pool, name string, batch []*op) *op {
	if len(batch) == 1 && batch[0].size() == 1 {
		if o := batch[0]; o.plan == nil && o.parts[0].steps[0].owner == name && o.pools[0] == p {
			return o
		}
		return nil
	}
	return w[owner{p, name}]
}

// reserve notes the owners of an op. It reports false if one of them is noted already.
func (w owners) reserve(o *op) bool {
	free := true
	each := func(f func(owner)) {
		for i := range o.parts {
			for j := range o.parts[i].steps {
				if s := &o.parts[i].steps[j]; !s.done && s.owner != "" {
					for _, p := range o.parts[i].pools {
						f(owner{p, s.owner})
					}
				}
			}
		}
	}
	each(func(k owner) { free = free && (w[k] == nil || w[k] == o) })
	if free {
		each(func(k owner) { w[k] = o })
	}
	return free
}

// Room implements [group.Runner]: no two ops of a batch are for one owner, it has no more tasks than a commit takes,
// and an op with a plan of its own is alone.
func (r *runner) Room(batch []*op, next *op) bool {
	if batch[0].plan != nil || next.plan != nil || !batch[0].samePools(next) {
		return false
	}
	if r.tasks == 0 {
		r.begin(batch[0])
	}
	if r.tasks+next.size() > next.pools[0].home.batch() || !r.owners.reserve(next) {
		return false
	}
	r.tasks += next.size()
	return true
}

// samePools reports whether both ops are for the same pools. The outcome of an op on other
// pools must not depend on them.
func (o *op) samePools(other *op) bool {
	return len(o.pools) == len(other.pools) &&
		!slices.ContainsFunc(other.pools, func(p *Pool) bool { return !slices.Contains(o.pools, p) })
}

// begin begins to make a batch.
func (r *runner) begin(first *op) {
	if r.owners == nil {
		r.owners = owners{}
	}
	r.owners.reserve(first)
	r.tasks = first.size()
}

// Round implements [group.Runner]: it makes one attempt.
func (r *runner) Round(batch []*op) {
	if r.tasks == 0 && (len(batch) > 1 || batch[0].size() > 1) {
		r.begin(batch[0])
	}
	a, returned := &r.attempt, false
	defer func() {
		if !returned { // it panics
			a.rollback(attemptMark{})
		}
		r.end()
	}()
	returned = r.try(batch)
}

// try makes an attempt. It returns true.
func (r *runner) try(batch []*op) bool {
	a := &r.attempt
	options := &batch[0].pools[0].options
	tries, again := false, true
	for _, o := range batch {
		tries = !o.over && !o.expired(options.Attempts) || tries
		again = again && o.attempts > 0
	}
	if !tries {
		return true
	}
	if r.join(batch) {
		return true
	}
	ctx, cancel := batch[0].pools[0].home.reading(batch[0])
	defer cancel()
	own, batch := batch, r.invite(ctx, batch[0].pools[0], batch)
	r.start(ctx, batch, again)
	a.meet()
	if err := a.plan(options.Attempts); err != nil {
		a.rollback(attemptMark{})
		r.unplanned(own, r.afterWait(err))
		return true
	}
	if a.needsTurn() || !r.mayEnd() {
		a.rollback(attemptMark{})
		return true
	}
	if err := a.commit(); err != nil {
		r.failed(r.afterWait(err))
		return true
	}
	a.committed()
	if len(r.guests) > 0 {
		own[0].pools[0].home.(*stored).rivalry = mostRivalry
		r.stir(own[0].pools[0])
	}
	if r.shared != nil {
		r.serve(context.WithoutCancel(ctx), own[0].pools[0])
	}
	return true
}

// stir lets the claims that wait in the pool's line be tried again if a guest has freed something: in the commit in
// which they were refused, so that no later change of the pool tells of it.
func (r *runner) stir(p *Pool) {
	for _, g := range r.guests {
		if slices.ContainsFunc(g.ops, (*op).mayFree) {
			p.line.stir()
			return
		}
	}
}

// start begins an attempt for a batch, in the turn that the runner has.
func (r *runner) start(ctx context.Context, batch []*op, again bool) {
	a, p := &r.attempt, batch[0].pools[0]
	a.ctx, a.batch, a.again, a.owners, a.turn, a.took, a.moved = ctx, batch, again, r.owners, r.turn, 0, false
	a.now, a.room = now(&p.options), p.home.batch()
}

// unplanned fails a batch that could not be planned.
func (r *runner) unplanned(own []*op, err error) {
	if _, unknown := r.overtaken(); unknown != nil {
		r.asking.unserved(unknown)
	}
	for _, o := range own {
		o.fail(err)
	}
}

// mayEnd answers the guests, and reports whether what is planned may be committed. If that is nothing, or if a commit
// has come between, it looks first whether the batch has been done by another handle: no conflict would tell. After a
// commit that has come between, what is planned for guests waits for another turn.
func (r *runner) mayEnd() bool {
	changes := r.attempt.hasChanges()
	if changes && (!r.attempt.moved || len(r.asking.ops) == 0) {
		r.alone = !r.answer()
		return !r.alone
	}
	done, unknown := r.overtaken()
	if unknown != nil {
		r.asking.unserved(unknown)
	}
	return !changes && !done && unknown == nil
}

// failed takes from a failed commit what the next attempt needs. Perhaps another handle has done, meanwhile, what the
// batch asked for. If the guests may be why it failed, the batch is tried without them, and nobody fails.
func (r *runner) failed(err error) {
	a := &r.attempt
	_, unknown := r.overtaken()
	if r.isForGuests(err) {
		r.alone = true
		switch {
		case errors.Is(err, store.ErrTooLarge):
			a.takeLess(a.drafts)
		case errors.Is(err, store.ErrExists):
			a.batch[0].pools[0].home.learn(a.ctx, err)
		}
		a.rollback(attemptMark{})
	} else {
		a.learn(err)
	}
	if unknown != nil {
		r.asking.unserved(unknown)
	}
}

// end forgets the batch, and ends its turn.
func (r *runner) end() {
	if r.turn != nil {
		r.turn.End()
		r.turn = nil
	}
	r.noTurn = nil
	clear(r.all)
	r.shared, r.asking, r.guests, r.all = nil, asked{}, nil, r.all[:0]
	if r.tasks > 0 {
		clear(r.owners)
		r.tasks = 0
	}
	a := &r.attempt
	clear(a.drafts)
	clear(a.nets)
	clear(a.one.writes)
	a.one.next, a.one.others, a.one.outside, a.one.names = nil, nil, nil, nil
	a.ctx, a.turn, a.batch, a.drafts, a.nets = nil, nil, nil, a.drafts[:0], a.nets[:0]
}

// Pause implements [group.Runner]: it waits before another attempt, longer the more attempts have failed. It does not
// wait if none has failed, or if there is to be no other attempt, or if the op only lost to others and now waits for
// its turn.
func (r *runner) Pause(own *op) {
	options := &own.pools[0].options
	if own.attempts == 0 || own.attempts >= options.Attempts || own.lost {
		return
	}
	longest := options.Backoff << min(own.attempts-1, 6)
	timer := time.NewTimer(time.Duration(fraction(options.Random()) * float64(longest)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-own.ctx.Done():
	}
}

// fraction makes a random number one from 0 up to but without 1.
func fraction(n uint64) float64 { return float64(n>>11) / (1 << 53) }

// MayLeave implements [group.Runner].
func (r *runner) MayLeave(o *op) bool { return !o.uncertain }

// Fail implements [group.Runner]: the store, the clock or other code of the caller has
// panicked, perhaps after a commit.
func (r *runner) Fail(batch []*op, _ any) {
	err := fmt.Errorf("%w: a panic while committing", store.ErrUnknown)
	for _, o := range batch {
		for _, p := range o.pools {
			p.home.learn(o.ctx, err)
			if s, ok := p.home.(*stored); ok {
				s.astray = true // if it has asked for anything
			}
		}
		o.finish(err)
	}
}

// lead implements [home].
func (s *stored) lead(o *op) error {
	run, queues := &s.runner, s.queues[:]
	if len(o.pools) > 1 {
		run, queues = &runner{}, make([]*group.Queue, 0, len(o.pools))
		for _, p := range o.pools {
			queues = append(queues, p.home.(*stored).queues[0])
		}
	}
	err := group.Do(o.ctx, o, queues, group.Runner[*op](run))
	if errors.Is(err, group.ErrPanicked) {
		err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	if err != nil && !o.over {
		return turnless(err)
	}
	return o.err
}

// reading implements [home]. A batch is read for all its callers, so the context of the leading one must not end the
// reading; an op that is alone may end it.
func (s *stored) reading(first *op) (context.Context, context.CancelFunc) {
	switch {
	case first.uncertain:
		return first.deadline, func() {}
	case first.plan != nil:
		return first.ctx, func() {}
	}
	return context.WithTimeout(context.WithoutCancel(first.ctx), s.options.CommitTimeout)
}
