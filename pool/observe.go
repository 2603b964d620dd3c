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
// them; see [CommitBegin.Calls].
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
	BeginCall(ctx context.Context, call CallBegin) context.Context
	// EndCall is called with the outcome of the call. The context is the one that BeginCall returned; it may have
	// ended.
	EndCall(ctx context.Context, call CallEnd)

	// BeginCommit is called before each attempt to commit. Several calls may share an attempt; one of them leads and
	// commits for all. The context has the values of that call's context, but does not end with it: it ends after
	// [Options.CommitTimeout]. The returned context is passed to the store. An attempt that changes several pools is
	// reported once for each of them, nested, as a call over several pools is.
	//
	// A pool in memory commits each change too. The context is then the call's.
	BeginCommit(ctx context.Context, commit CommitBegin) context.Context
	// EndCommit is called with the outcome of the attempt. The context is the one that BeginCommit returned.
	EndCommit(ctx context.Context, commit CommitEnd)
}

// NoObserver is an [Observer] that does nothing. Embed it in an observer, which then needs only the methods that it
// uses. The zero NoObserver is ready for use and may be copied.
type NoObserver struct{}

var _ Observer = NoObserver{}

// BeginCall implements [Observer]. It returns ctx.
func (NoObserver) BeginCall(ctx context.Context, _ CallBegin) context.Context { return ctx }

// EndCall implements [Observer].
func (NoObserver) EndCall(context.Context, CallEnd) {}

// BeginCommit implements [Observer]. It returns ctx.
func (NoObserver) BeginCommit(ctx context.Context, _ CommitBegin) context.Context { return ctx }

// EndCommit implements [Observer].
func (NoObserver) EndCommit(context.Context, CommitEnd) {}

// StepKind is the kind of a [Step]. The zero StepKind is [StepAllocate].
type StepKind uint8

// The kinds of steps.
const (
	StepAllocate StepKind = iota
	StepRelease
	StepRenew
	StepDecline
)

// String returns "allocate", "release", "renew" or "decline".
func (k StepKind) String() string {
	return [...]string{"allocate", "release", "renew", "decline"}[min(k, StepDecline)]
}

// CallBegin is a call that begins.
type CallBegin struct {
	// Pool is the name of the pool; empty for one in memory. For [Delegate] it is the parent.
	Pool string
	// Method is the name of the method or function: "Allocate", for example. Later versions may report more methods.
	Method string
	// Steps are what the call asks for in this pool. A single call has one step. A step that names several pools (see
	// [Step.In]) is reported in each of them. Expire has none, and neither has Reconcile, which finds out later what to
	// release.
	Steps []StepBegin
}

// StepBegin is what a call asks for.
type StepBegin struct {
	Kind StepKind
	// Owner is that of Claim or Held; empty if Held has only an address.
	Owner string
	// Claim is the claim of a step that allocates; the zero Claim otherwise.
	Claim Claim
	// Held identifies what any other step applies to.
	Held Held
	// Duration is the time to live of a step that renews, or the quarantine of one that declines.
	Duration time.Duration
}

// CallEnd is a call that has ended.
type CallEnd struct {
	// Pool is that of the CallBegin. For [Pool.Extend] and [Pool.Retract] it is the parent, if they found it.
	Pool string
	// Method is that of the CallBegin.
	Method string
	// Steps are the outcomes of the steps of the CallBegin, in the same order. A step that names several pools is
	// reported in the pool in which it was done, or else in the first. For Reconcile they are its releases. There are
	// none after a panic.
	Steps []StepEnd
	// Err is what the call returned. For [Pool.Each] it may be nil although steps have failed. After a panic it wraps
	// [store.ErrUnknown].
	Err error
	// Duration is how long the call took, by the handle's clock; 0 if that was set back meanwhile.
	Duration time.Duration
}

// StepEnd is the outcome of a step.
type StepEnd struct {
	Kind  StepKind
	Owner string // empty if it is not known
	// Allocation is what was granted, released or renewed; zero if Err is not nil, or if nothing was held and
	// [Held.Optional] is set.
	Allocation Allocation
	// Err is why the step was not done: [ErrExhausted], for example.
	Err error
}

// CommitBegin is an attempt to commit that begins.
type CommitBegin struct {
	Pool string // empty for a pool in memory
	// Attempt is the number of the attempt for the call that leads, counted from 1. It starts again when some steps are
	// done.
	Attempt int
	// Calls are the contexts of the calls that share the attempt, as BeginCall returned them: for links between spans.
	// A call listed here may get no result from this attempt, and be part of another one.
	Calls []context.Context
	// Others is the number of calls of other handles that share the attempt and wait for their turn meanwhile.
	Others int
}

// CommitEnd is an attempt to commit that has ended.
type CommitEnd struct {
	Pool string // empty for a pool in memory
	// Writes is the number of records beside the head.
	Writes int
	// Bytes is the size of the data of the head and of these records; 0 for a pool in memory.
	Bytes int
	// Freed are the ended leases whose addresses the commit took from their owners: because a claim needed them, by
	// [Pool.Expire], or because the owner itself claimed something else. Releases and ended cooldowns are not included.
	// If Err wraps [store.ErrUnknown], they were freed only if the commit took effect; a later commit may free them
	// again. After any other error there are none.
	Freed []Allocation
	// Revision and Stats are those of the pool after the commit. Both are zero if Err is not nil, and if the commit
	// deleted the pool. Commits of one pool may be reported out of order; their revisions tell the order. Stats must not
	// be used after EndCommit has returned.
	Revision int64
	Stats    Stats
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
	last  CallEnd
	one   struct { // room for a call of one step
		begin [1]StepBegin
		end   [1]StepEnd
	}
}

// observations are used again for calls of one step.
var observations = sync.Pool{New: func() any { return new(observed) }}

// observe tells the pool's observer, if there is one, that a call begins. It returns the context for the rest of the
// call.
func (p *Pool) observe(ctx context.Context, method string, steps ...StepBegin) (*observed, context.Context) {
	if p.options.Observer == nil {
		return nil, ctx
	}
	c := &observed{}
	return c, c.begin(ctx, p, method, steps)
}

func (c *observed) begin(ctx context.Context, p *Pool, method string, steps []StepBegin) context.Context {
	c.pool, c.last = p, CallEnd{Pool: p.name, Method: method, Err: errPanicked}
	c.ctx = p.options.Observer.BeginCall(ctx, CallBegin{Pool: p.name, Method: method, Steps: steps})
	c.start = p.options.Clock()
	return c.ctx
}

// step notes what became of a step.
func (c *observed) step(kind StepKind, owner string, a Allocation, err error) {
	if c != nil {
		c.last.Steps = append(c.last.Steps, StepEnd{Kind: kind, Owner: a.orOwner(owner), Allocation: a, Err: err})
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
	ctx context.Context, method string, s StepBegin, do func(context.Context) (Allocation, error),
) (Allocation, error) {
	if p.options.Observer == nil {
		return do(ctx)
	}
	c := observations.Get().(*observed)
	c.one.begin[0] = s
	ctx = c.begin(ctx, p, method, c.one.begin[:])
	defer func() {
		c.end()
		*c = observed{}
		observations.Put(c)
	}()
	a, err := do(ctx)
	c.last.Steps = c.one.end[:0]
	c.step(s.Kind, s.Owner, a, err)
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
		var asked []StepBegin
		for i := range steps {
			if steps[i].isIn(p, q) {
				asked = append(asked, steps[i].begin())
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
		if len(steps[i].pools) == 0 {
			begin(p)
		}
		for _, q := range steps[i].pools {
			begin(q)
		}
	}
	return calls, ctx
}

// isIn reports whether the step of a call of p may be done in q.
func (s *Step) isIn(p, q *Pool) bool {
	if len(s.pools) == 0 {
		return p == q
	}
	return slices.Contains(s.pools, q)
}

// begin is what observers are told of the step.
func (s *Step) begin() StepBegin {
	b := StepBegin{Kind: s.kind(), Owner: s.held.Owner, Held: s.held}
	switch b.Kind {
	case StepAllocate:
		b.Claim, b.Held = s.claim, Held{}
	case StepRenew:
		b.Duration = s.task.ttl
	case StepDecline:
		b.Duration = s.task.quarantine
	}
	return b
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
	d.sent.writes, d.sent.bytes = sizeOf(d, change)
	begin := CommitBegin{Pool: d.pool.name, Attempt: a.batch[0].attempts + 1}
	a.callers = a.callers[:0]
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
	end := CommitEnd{
		Pool: d.pool.name, Writes: d.sent.writes, Bytes: d.sent.bytes, Freed: d.freed(err), Err: err, Duration: took,
	}
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
