package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/pool/internal/group"
	"github.com/ipalloc/ipalloc/store"
)

// How a call becomes true, whatever it is about.
//
// Each method makes an [op]: for one pool or several, of tasks or with a plan of its own. The op waits for its turn in
// the queues of its pools (package group), together with others. The op that leads plans a batch of them in an
// [attempt], which is one commit. An attempt that fails is undone; what its error says about the pools is kept, and the
// ops that are not done are planned again.

// op is a call on its way.
type op struct {
	group.Call

	ctx     context.Context
	parts   []part               // what is asked for in which pools
	whole   bool                 // all of it is granted in one commit, or nothing
	repeats bool                 // some owner has several steps, each of which sees what those before it do
	looks   bool                 // probably there is nothing to commit, so no turn is taken before it is known
	plan    func(*attempt) error // instead of parts: what is to be done while no other call uses the pools
	pools   []*Pool              // all that take part

	over     bool // it has been brought to its end
	err      error
	attempts int               // commits that came to nothing
	lost     bool              // the last of them, to another handle, outside of a turn
	guest    bool              // it is another handle's, and in a batch of this one
	seen     int64             // the latest revision of the pool that a guest's handle knew
	asked    bool              // another handle could not do it
	heads    []store.Key       // that it was about
	callers  []context.Context // of an observed op for several calls: theirs

	// An op is uncertain from the moment that one of its commits may have taken effect, or may yet, until a later plan
	// settles it. Until deadline it may try to find out.
	uncertain bool
	cause     error // why
	deadline  context.Context
	settled   context.CancelFunc

	one struct { // room for an op of one task, so that it is one object
		part  [1]part
		step  [1]step
		pool  [1]*Pool
		claim Claim
	}
}

// part is what is asked for in one pool, or in the first of several alternatives that has room.
type part struct {
	pools  []*Pool
	order  Order  // in which to try them
	steps  []step // no two of one owner
	chosen *Pool  // the alternative that the last plan found
}

// step is a task on its way.
type step struct {
	task
	outcome outcome
	looked  bool  // the plan is made of the owner's record as the store has it, and not of what the handle remembers
	waits   int   // how often it was put off
	pool    *Pool // of an op for which that matters: where it is done, or the first of several
	byAddr  bool  // its owner is whoever was found to hold its address
	// releasing is the generation that a commit of unknown outcome was to release, or to renew if that is
	// releasingNothing; 0 if there was no such commit.
	releasing int64

	done   bool
	result Allocation
	err    error
}

// releasingNothing is the generation that a step releases or renews which finds that nothing is held, and is content
// with that.
const releasingNothing = -1

// foundNothing reports whether the step was content with finding nothing held that it could release or renew.
func (s *step) foundNothing() bool {
	return s.outcome.verdict == verdictDone && (s.undoes() || s.kind == taskRenew && s.outcome.result.Owner == "")
}

// newOp returns an op of one task in one pool.
func newOp(ctx context.Context, p *Pool, t *task) *op {
	o := &op{}
	o.become(ctx, p, t)
	return o
}

// become makes the op one of one task in one pool.
func (o *op) become(ctx context.Context, p *Pool, t *task) {
	o.ctx = ctx
	o.one.step[0].task, o.one.pool[0] = *t, p
	o.one.part[0] = part{pools: o.one.pool[:], steps: o.one.step[:]}
	o.parts, o.pools = o.one.part[:], o.one.pool[:]
}

// opOf returns an op of these steps in one pool.
func opOf(ctx context.Context, p *Pool, whole bool, steps []step) *op {
	o := newOp(ctx, p, &task{})
	o.whole, o.one.part[0].steps = whole, steps
	return o
}

// ops are used again for calls of one task.
var ops = sync.Pool{New: func() any { return new(op) }}

// do brings one task to its end, for the claim if that is not nil. It fills in the result, which is zero and stays so
// if there is an error.
func (p *Pool) do(ctx context.Context, t *task, claim *Claim, result *Allocation) (err error) {
	if m, ok := p.home.(*memory); ok && t.isDirect() {
		if done, err := m.directly(ctx, p, t, claim, result); done {
			return err
		}
	}
	o := ops.Get().(*op)
	o.become(ctx, p, t)
	if claim != nil {
		o.one.claim = *claim
		o.one.step[0].claim = &o.one.claim
	}
	if err = o.run(); err == nil {
		*result, err = o.one.step[0].result, o.one.step[0].err // the result is empty if there is an error
	}
	*o = op{} // without what it waited with, which may belong to a test's bubble
	ops.Put(o)
	return err
}

// exclusively calls plan, which plans in an attempt while no other call changes these pools through their handles. The
// plan is then committed; after a conflict plan is called again.
func exclusively(ctx context.Context, plan func(*attempt) error, pools ...*Pool) error {
	o := &op{ctx: ctx, plan: plan, pools: pools, whole: true}
	return o.run()
}

// run brings an op to its end. The pools must be of one store, or all in memory, each there once.
func (o *op) run() error {
	err := o.runAlone()
	for _, p := range o.pools {
		if p.line.waits() && o.mayFree() {
			p.line.stir()
		}
	}
	return err
}

// mayFree reports whether the op may have freed addresses.
func (o *op) mayFree() bool {
	for i := range o.parts {
		for j := range o.parts[i].steps {
			s := &o.parts[i].steps[j]
			if s.undoes() || s.kind == taskExpire || len(s.outcome.writes) > 1 {
				return true
			}
		}
	}
	return o.plan != nil
}

// runAlone is run without telling the claims that wait in the lines of the pools.
func (o *op) runAlone() error {
	if err := o.ctx.Err(); err != nil {
		return err
	}
	defer o.settle()
	if err := o.pools[0].home.lead(o); err != nil {
		return err
	}
	return o.err
}

// settle ends the time in which the op has to find out what became of a commit.
func (o *op) settle() {
	if o.settled != nil {
		o.settled()
	}
}

// finish ends the op, and those of its steps that have not ended, with an error or with none.
func (o *op) finish(err error) {
	if o.over {
		return
	}
	o.end()
	o.err = err
	for i := range o.parts {
		for j := range o.parts[i].steps {
			if s := &o.parts[i].steps[j]; !s.done {
				s.finish(err)
			}
		}
	}
}

// end marks the op done.
func (o *op) end() {
	o.over = true
	o.Done()
}

func (s *step) finish(err error) {
	s.done, s.err = true, err
	if err != nil {
		s.result = Allocation{}
	}
}

// fail ends the op with an error. If one of its commits may have taken effect, the error says so.
func (o *op) fail(err error) { o.finish(o.withDoubt(err)) }

// withDoubt is the error, or one that says that a commit of the op may have taken effect, if that is so.
func (o *op) withDoubt(err error) error {
	if o.uncertain && !errors.Is(err, store.ErrUnknown) {
		return fmt.Errorf("%w, and then: %w", store.ErrUnknown, err)
	}
	return err
}

// doubt notes that the commit of this attempt, which is bounded by timeout, may have taken effect or may yet, and why.
func (o *op) doubt(timeout time.Duration, cause error) {
	for i := range o.parts {
		for j := range o.parts[i].steps {
			s := &o.parts[i].steps[j]
			switch {
			case s.done:
			case s.undoes() && s.outcome.verdict == verdictWrite:
				s.releasing = s.outcome.result.Generation
			case o.repeats && s.foundNothing():
				s.releasing = releasingNothing
			}
		}
	}
	if o.uncertain {
		return
	}
	o.uncertain, o.cause = true, cause
	o.deadline, o.settled = context.WithTimeout(context.WithoutCancel(o.ctx), timeout)
}

// changes reports whether the last plan of the op wants to change anything.
func (o *op) changes() bool {
	return o.plan != nil || o.some(func(s *step) bool { return s.outcome.verdict == verdictWrite })
}

// some reports whether f is true for some step that is not done.
func (o *op) some(f func(*step) bool) bool {
	for i := range o.parts {
		for j := range o.parts[i].steps {
			if s := &o.parts[i].steps[j]; !s.done && f(s) {
				return true
			}
		}
	}
	return false
}

// unplanned reports whether some step was refused or put off.
func (o *op) unplanned() bool {
	return o.some(func(s *step) bool { return s.outcome.verdict == verdictRefuse || s.outcome.verdict == verdictLater })
}

// size is the number of tasks.
func (o *op) size() int {
	n := 0
	for i := range o.parts {
		n += len(o.parts[i].steps)
	}
	return max(n, 1)
}

// refusal is that of the first step that has one.
func (o *op) refusal() error {
	for i := range o.parts {
		if err := o.parts[i].refusal(); err != nil {
			return err
		}
	}
	return nil
}

// refusal is the error of the first step that was refused; nil if none was.
func (p *part) refusal() error {
	for i := range p.steps {
		if s := &p.steps[i]; !s.done && s.outcome.verdict == verdictRefuse {
			return s.outcome.refusal
		}
	}
	return nil
}

// expired ends an op that has been tried often enough or for long enough, or whose caller has gone before the first
// attempt. It reports whether it did.
func (o *op) expired(attempts int) bool {
	switch {
	case o.uncertain && o.deadline.Err() != nil:
		o.finish(fmt.Errorf("%w; the outcome could not be found out in time", o.cause))
	case o.uncertain && o.attempts >= attempts:
		o.finish(fmt.Errorf("%w; the outcome could not be found out in %d attempts", o.cause, o.attempts))
	case o.uncertain:
		return false
	case o.attempts >= attempts:
		o.finish(fmt.Errorf("%w: %d attempts", ErrBusy, o.attempts))
	case o.ctx.Err() != nil:
		o.finish(turnless(o.ctx.Err()))
	default:
		return false
	}
	return true
}
