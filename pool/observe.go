package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// Observer is told when calls and commits of a handle begin and end, for metrics, logs and traces.
//
// Each Begin method returns a context: the one that it was given, or one derived from it. That context is used from
// then on, and is passed to the End method. So a span that a Begin method puts into it is the parent of what follows:
// of the call's commits, and of what the store does. Several calls may share a commit, which has the context of one of
// them; see [Commit.Calls].
//
// Each Begin has exactly one End, after errors and panics too. An observer should not panic itself: a Begin may then
// have no End. Its panic reaches the caller, and the pool stays usable. If BeginCall panics, nothing was done. If
// EndCall panics, the call is over. A panic in BeginCommit or EndCommit is like one in the store: it reaches the call
// that leads the commit, the other calls that share it end with [store.ErrUnknown], and the commit may have taken
// effect.
//
// The methods are called by the goroutine of the call, or of another call that commits for it. Calls wait for them, so
// they should be quick. They may be called by any number of goroutines at once, and must not use the pool. Slices, maps
// and pointers in their arguments are shared: do not change them, and copy them to use them after the method has
// returned.
//
// Embed [NoObserver] in an implementation: later versions may add methods. [Observers] makes one of several.
type Observer interface {
	// BeginCall is called before a call does anything. The calls are those that allocate, release or renew, and
	// [Pool.Expire] and [Pool.Reconcile]. [Pool.Each] is one call for every batch of up to 4,096 steps. A call over
	// several pools is reported once for each of them, nested: the context that the first BeginCall returned is passed
	// to the second, and the second call ends first.
	//
	// [Delegate] is reported to the parent's observer. [Blocks] makes such calls on the writer's pool and on the
	// parent.
	BeginCall(ctx context.Context, call Call) context.Context
	// EndCall is called with the outcome of the call. The context is the one that BeginCall returned; it may have
	// ended.
	EndCall(ctx context.Context, call Call)

	// BeginCommit is called before each attempt to commit. Several calls may share an attempt; one of them leads and
	// commits for all. The context has the values of that call's context, but does not end with it: it ends after
	// [Options.CommitTimeout]. The returned context is passed to the store. An attempt that changes several pools is
	// reported once for each of them, nested, as a call over several pools is.
	//
	// A pool in memory commits each change too. The context is then the call's.
	BeginCommit(ctx context.Context, commit Commit) context.Context
	// EndCommit is called with the outcome of the attempt. The context is the one that BeginCommit returned.
	EndCommit(ctx context.Context, commit Commit)
}

// NoObserver is an [Observer] that does nothing. Embed it in an observer, which then needs only the methods that it
// uses. The zero NoObserver is ready for use and may be copied.
type NoObserver struct{}

var _ Observer = NoObserver{}

// BeginCall implements [Observer]. It returns ctx.
func (NoObserver) BeginCall(ctx context.Context, _ Call) context.Context { return ctx }

// EndCall implements [Observer].
func (NoObserver) EndCall(context.Context, Call) {}

// BeginCommit implements [Observer]. It returns ctx.
func (NoObserver) BeginCommit(ctx context.Context, _ Commit) context.Context { return ctx }

// EndCommit implements [Observer].
func (NoObserver) EndCommit(context.Context, Commit) {}

// Call is a call, as an [Observer] is told of it.
type Call struct {
	// Pool is the name of the pool; empty for one in memory. For [Delegate] it is the parent, and for [Pool.Extend] and
	// [Pool.Retract] too when they end, if they found it.
	Pool string
	// Method is the name of the method or function: "Allocate", for example. Later versions may report more methods.
	Method string
	// Steps are what the call asks for in this pool. A single call has one step. When the call begins, a step that names
	// several pools (see [Step.In]) is reported in each of them; when it ends, in the pool in which it was done, or else
	// in the first. Expire has none. Reconcile finds out what to release, and has these releases when it ends.
	Steps []Step

	// What follows is set when the call ends.

	// Results are the outcomes of the steps, in the same order. There are neither after a panic.
	Results []Result
	// Err is what the call returned. For [Pool.Each] it may be nil although steps have failed. After a panic it wraps
	// [store.ErrUnknown].
	Err error
	// Duration is how long the call took, by the handle's clock; 0 if that was set back meanwhile.
	Duration time.Duration
}

// Commit is an attempt to commit, as an [Observer] is told of it.
type Commit struct {
	Pool string // empty for a pool in memory
	// Attempt is the number of the attempt for the call that leads, counted from 1. It starts again when some steps are
	// done.
	Attempt int
	// Calls are the contexts of the calls that share the attempt, as BeginCall returned them: for links between spans.
	// A call listed here may get no result from this attempt, and be part of another one. Empty when the attempt ends.
	Calls []context.Context
	// Others is the number of calls of other handles that share the attempt and wait for their turn meanwhile.
	Others int
	// Writes is the number of records beside the head.
	Writes int
	// Bytes is the size of the data of the head and of these records; 0 for a pool in memory.
	Bytes int

	// What follows is set when the attempt ends.

	// Freed are the ended leases whose addresses the commit took from their owners: because a claim needed them, by
	// [Pool.Expire], or because the owner itself claimed something else. Releases and ended cooldowns are not included.
	// If Err wraps [store.ErrUnknown], they were freed only if the commit took effect; a later commit may free them
	// again. After any other error there are none.
	Freed []Allocation
	// Revision and Stats are those of the pool after the commit. Both are zero if Err is not nil, and if the commit
	// deleted the pool. Commits of one pool may be reported out of order; their revisions tell the order. Stats must not
	// be used after EndCommit has returned.
	Revision int64
	Stats    []Stats
	// Err is nil if the commit took effect. It wraps [store.ErrConflict] if another handle was faster, and
	// [store.ErrUnknown] if it is not known whether the commit took effect, as after a panic. The pool deals with
	// conflicts and unknown outcomes on its own.
	Err error
	// Duration is how long the store took, by the handle's clock; 0 if that was set back meanwhile, and in memory.
	Duration time.Duration
}

// errPanicked is the error of what has ended by a panic.
var errPanicked = fmt.Errorf("%w: a panic", store.ErrUnknown)

// observed is a call of which the pool's observer is told. A nil one is that of no observer.
type observed struct {
	pool  *Pool
	ctx   context.Context // which BeginCall returned
	start time.Time
	last  Call
	one   struct { // room for a call of one step
		steps   [1]Step
		results [1]Result
	}
}

// observations are used again for calls of one step.
var observations = sync.Pool{New: func() any { return new(observed) }}

// observe tells the pool's observer, if there is one, that a call begins. It returns the context for the rest of the
// call.
func (p *Pool) observe(ctx context.Context, method string, steps ...Step) (*observed, context.Context) {
	if p.options.Observer == nil {
		return nil, ctx
	}
	c := &observed{}
	return c, c.begin(ctx, p, method, steps)
}

func (c *observed) begin(ctx context.Context, p *Pool, method string, steps []Step) context.Context {
	c.pool, c.last = p, Call{Pool: p.name, Method: method, Err: errPanicked}
	c.ctx = p.options.Observer.BeginCall(ctx, Call{Pool: p.name, Method: method, Steps: steps})
	c.start = p.options.Clock()
	return c.ctx
}

// step notes what became of a step.
func (c *observed) step(s Step, r Result) {
	if c != nil {
		c.last.Steps, c.last.Results = append(c.last.Steps, s), append(c.last.Results, r)
	}
}

// in notes in which pool it was done, if that is known.
func (c *observed) in(pool string) {
	if c != nil && pool != "" {
		c.last.Pool = pool
	}
}

// result notes what the call returns, and returns that.
func (c *observed) result(err error) error {
	if c != nil {
		c.last.Err = err
	}
	return err
}

// end tells the observer that the call has ended, without a result by a panic.
func (c *observed) end() {
	if c != nil {
		c.last.Duration = max(0, c.pool.options.Clock().Sub(c.start))
		c.pool.options.Observer.EndCall(c.ctx, c.last)
	}
}

// observeOne does a call of one step.
func (p *Pool) observeOne(
	ctx context.Context, method string, s Step, do func(context.Context) (Allocation, error),
) (Allocation, error) {
	if p.options.Observer == nil {
		return do(ctx)
	}
	c := observations.Get().(*observed)
	c.one.steps[0] = s
	ctx = c.begin(ctx, p, method, c.one.steps[:])
	defer func() {
		c.end()
		*c = observed{}
		observations.Put(c)
	}()
	a, err := do(ctx)
	c.one.results[0] = Result{Pool: p, Allocation: a, Err: err}
	c.last.Steps, c.last.Results = c.one.steps[:], c.one.results[:]
	return a, c.result(err)
}

// observedCalls are one call over several pools, by pool.
type observedCalls []*observed

// observeSteps tells the observers of all pools of the steps, which are in p unless they name others, that a call
// begins. It returns the context for the rest of the call.
func (p *Pool) observeSteps(ctx context.Context, method string, steps []Step) (observedCalls, context.Context) {
	var calls observedCalls
	begin := func(q *Pool) {
		if q.options.Observer == nil || calls.of(q) != nil {
			return
		}
		var asked []Step
		for i := range steps {
			if steps[i].isIn(p, q) {
				asked = append(asked, steps[i])
			}
		}
		var c *observed
		c, ctx = q.observe(ctx, method, asked...)
		calls = append(calls, c)
	}
	if len(steps) == 0 {
		begin(p)
	}
	for i := range steps {
		if len(steps[i].Pools) == 0 {
			begin(p)
		}
		for _, q := range steps[i].Pools {
			begin(q)
		}
	}
	return calls, ctx
}

// isIn reports whether the step of a call of p may be done in q.
func (s *Step) isIn(p, q *Pool) bool {
	if len(s.Pools) == 0 {
		return p == q
	}
	return slices.Contains(s.Pools, q)
}

// of returns the call in the pool; nil if its observer is not told.
func (calls observedCalls) of(p *Pool) *observed {
	for _, c := range calls {
		if c.pool == p {
			return c
		}
	}
	return nil
}

// result notes what the call returns, and returns that.
func (calls observedCalls) result(err error) error {
	for _, c := range calls {
		c.last.Err = err
	}
	return err
}

// end tells the observers that the call has ended, those first that were told last that it begins.
func (calls observedCalls) end() {
	for _, c := range slices.Backward(calls) {
		c.end()
	}
}

// isObserved reports whether an observer is told of the draft's commit.
func (d *draft) isObserved() bool { return d.pool.options.Observer != nil }

// beginCommit tells the observer of the draft's pool, if there is one, that the change that the draft comes to is about
// to be committed; nil for a pool in memory. It returns the context for the rest of the commit.
func (a *attempt) beginCommit(ctx context.Context, d *draft, change *store.Change) context.Context {
	if !d.isObserved() {
		return ctx
	}
	begin := Commit{Pool: d.pool.name, Attempt: 1}
	begin.Writes, begin.Bytes = sizeOf(d, change)
	a.callers = a.callers[:0]
	if len(a.batch) > 0 {
		begin.Attempt += a.batch[0].attempts
	} else { // a call that does without an op
		a.callers = append(a.callers, a.ctx)
	}
	for _, o := range a.batch {
		switch {
		case o.over:
		case o.guest:
			begin.Others++
		case o.callers != nil:
			a.callers = append(a.callers, o.callers...)
		default:
			a.callers = append(a.callers, o.ctx)
		}
	}
	d.sent.commit = begin
	begin.Calls = a.callers
	d.sent.ctx = d.pool.options.Observer.BeginCommit(ctx, begin)
	return d.sent.ctx
}

// sizeOf returns how many records beside the head a commit writes, and how large their data and that of the head is.
func sizeOf(d *draft, change *store.Change) (writes, bytes int) {
	if change == nil {
		return len(d.writes), 0
	}
	bytes = len(change.Head.Data)
	for i := range change.Writes {
		bytes += len(change.Writes[i].Record.Data)
	}
	return len(change.Writes), bytes
}

// endCommit tells those observers of the end of the commit that were told of its begin, the last one first.
func (a *attempt) endCommit(took time.Duration, err error) {
	clear(a.callers)
	for _, d := range slices.Backward(a.drafts) {
		if d.sent.ctx != nil {
			a.endCommitOf(d, max(0, took), err)
		}
	}
}

func (a *attempt) endCommitOf(d *draft, took time.Duration, err error) {
	end := d.sent.commit
	end.Freed, end.Err, end.Duration = d.freed(err), err, took
	if err == nil && !d.gone {
		var room [2]space.Counts
		a.stats = appendStats(a.stats[:0], d.state().space.AppendCounts(room[:0]))
		end.Revision, end.Stats = d.sent.revision, a.stats
	}
	ctx := d.sent.ctx
	d.sent.ctx = nil
	d.pool.options.Observer.EndCommit(ctx, end)
}

// freed returns the leases that had ended and that the draft frees, unless a commit with this error has not.
func (d *draft) freed(err error) (freed []Allocation) {
	if err != nil && !errors.Is(err, store.ErrUnknown) {
		return nil
	}
	for _, w := range d.writes {
		if w.ended {
			freed = append(freed, w.old.Allocation)
		}
	}
	return freed
}
