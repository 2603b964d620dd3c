package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"
)

// Step is one change to what one owner holds: [Allocate], [Release], [Renew], [Decline], [Reserve]
// or [Unreserve]. [Pool.All] does several
// steps in one commit, all of them or none. [Pool.Each] does any number of independent steps in few commits.
//
// The zero Step is refused with [ErrInvalid]. A Step may be copied; the copies share the slices and maps of the claim.
type Step struct {
	// Op is what the step does: "allocate", "release", "renew", "decline", "reserve" or "unreserve".
	Op string
	// Claim is the claim of a step that allocates or reserves. Other steps do not use it.
	Claim Claim
	// Held identifies what any other step applies to. For a step with a claim, its Owner is that of the claim.
	Held Held
	// Duration is the time to live of a step that renews, or the quarantine of one that declines.
	Duration time.Duration
	// Pools are where the step may be done; see [Step.In]. None means the pool of the call.
	Pools []*Pool
	// Order says in which order an allocate step tries several pools. Default: [AsGiven].
	Order Order

	task task
	err  error // what is wrong with it
}

// The operations of steps.
const (
	opAllocate  = "allocate"
	opRelease   = "release"
	opRenew     = "renew"
	opDecline   = "decline"
	opReserve   = "reserve"
	opUnreserve = "unreserve"
)

var stepOps = []string{opAllocate, opRelease, opRenew, opDecline, opReserve, opUnreserve}

// Allocate is a step that does what [Pool.Allocate] does.
func Allocate(claim Claim) Step {
	return Step{Op: opAllocate, Claim: claim, Held: Held{Owner: claim.Owner}}
}

// Release is a step that does what [Pool.Release] does.
func Release(held Held) Step { return Step{Op: opRelease, Held: held} }

// Renew is a step that does what [Pool.Renew] does.
func Renew(held Held, ttl time.Duration) Step { return Step{Op: opRenew, Held: held, Duration: ttl} }

// Decline is a step that does what [Pool.Decline] does.
func Decline(held Held, quarantine time.Duration) Step {
	return Step{Op: opDecline, Held: held, Duration: quarantine}
}

// In returns the step for pools other than the one whose method is called; all must be in one store. An [Allocate] step
// may name several pools: it is done in the first of them, as given, in which the owner already holds something, or
// else in the first one that has room, in the step's Order. Any other step names one pool.
func (s Step) In(pools ...*Pool) Step {
	s.Pools = pools
	return s
}

// plan makes the task of the step, which must be a copy of the caller's. It returns an error, and keeps it, if nothing
// held could meet the step.
func (s *Step) plan() error {
	s.err = nil // of a step that an observer was told of, and that is used again
	switch s.Op {
	case opAllocate, opReserve:
		s.Held = Held{Owner: s.Claim.Owner}
		s.task = task{kind: taskAllocate, owner: s.Claim.Owner, reserve: s.Op == opReserve}
	case opRelease:
		s.task.about(&s.Held, taskRelease)
		s.err = s.Held.check()
	case opRenew:
		s.task.about(&s.Held, taskRenew)
		s.err = cmp.Or(s.Held.check(), checkTime("time to live", s.Duration))
		s.task.ttl = s.Duration
	case opDecline:
		s.task.about(&s.Held, taskRelease)
		s.err = cmp.Or(s.Held.check(), checkTime("quarantine", s.Duration))
		s.task.quarantine = s.Duration
	case opUnreserve:
		s.task.about(&s.Held, taskUnreserve)
		s.err = s.Held.check()
	default:
		s.err = invalid("%q is not what a step can do, want %q", s.Op, stepOps)
	}
	return s.err
}

// Result is the outcome of a step. A Result may be copied; the copies share the slices and maps of the Allocation.
type Result struct {
	// Pool is where the step was done. If an Allocate step over several pools failed, it is the first of them.
	Pool *Pool
	// Allocation is what the owner was granted, renewed or lost; zero if Err is not nil, or if nothing was held and
	// [Held.Optional] is set.
	Allocation Allocation
	// Err is the error that the single call would have returned.
	Err error
}

// All does all the steps in one commit, or none of them, and returns the results in the order of the steps. The steps
// are in this pool, unless [Step.In] says otherwise. Each step sees the effects of those before it. For example:
//
//   - An owner exchanges what it holds for something else, and is never without an address:
//     p.All(ctx, pool.Release(held), pool.Allocate(claim)).
//   - An address is transferred from one owner to another: release it for the one, and allocate it to the other with
//     [Request.Exact]. It does not cool down in between.
//   - An owner declines an address and gets another one.
//   - An owner gets something from each of several pools, such as IPv4 from one and IPv6 from another:
//     v4.All(ctx, pool.Allocate(claim), pool.Allocate(claim).In(v6)).
//
// Like the single calls, All may be repeated: what an owner already holds is granted again. Set [Held.Optional] in
// steps that may already have been done. Among the steps of one owner in one pool, those that release must come first.
// A step that names only an address applies to the owner that holds it when the call begins.
//
// Errors: those of the single calls, for the first step that cannot be done, which the error names; [ErrInvalid] also
// for pools in different stores, and for two handles of one pool; [store.ErrTooLarge] if there are more steps than the
// store takes in one commit. After any error except [store.ErrUnknown], nothing has changed in any pool. Cost: one
// commit, and at most one read for each step. Meanwhile, other calls through the handles of these pools wait, or share
// the commit.
func (p *Pool) All(ctx context.Context, steps ...Step) ([]Result, error) {
	return p.allFor(ctx, "All", steps)
}

// allFor is All for a method.
func (p *Pool) allFor(ctx context.Context, method string, steps []Step) ([]Result, error) {
	calls, ctx := p.observeSteps(ctx, method, steps)
	defer calls.end()
	results, err := p.all(ctx, steps)
	for i := range steps {
		s := &steps[i]
		in, a := p, Allocation{}
		if err == nil {
			in, a = results[i].Pool, results[i].Allocation
		} else if len(s.Pools) > 0 {
			in = s.Pools[0]
		}
		calls.of(in).step(*s, Result{Pool: in, Allocation: a, Err: err})
	}
	return results, calls.result(err)
}

func (p *Pool) all(ctx context.Context, steps []Step) ([]Result, error) {
	steps = slices.Clone(steps)
	for i := range steps {
		if err := steps[i].prepare(p); err != nil {
			return nil, p.failedFor(steps[i].name(), steps[i].Held, err)
		}
	}
	if len(steps) == 0 {
		return nil, p.failed("all", "", ctx.Err())
	}
	holder := "" // of an address, whom the last attempt found to hold it no longer
	for range p.options.Attempts {
		o, err := opOfSteps(ctx, steps)
		if err != nil {
			return nil, err
		}
		err = o.run()
		if err == nil {
			return o.results(), nil
		}
		s := o.refused()
		switch {
		case s == nil:
			return nil, wrapped(err, Error{Op: "all", Pool: p.name})
		case !s.byAddr || !errors.Is(err, ErrNotFound) || s.owner == holder:
			return nil, s.refusal(err)
		}
		holder = s.owner // perhaps somebody else has the address by now
	}
	return nil, p.failed("all", "", ErrBusy)
}

// refusal is the error that says that the step was refused, unless err, of one of several pools, does.
func (s *step) refusal(err error) error {
	var inner *Error
	if errors.As(err, &inner) && inner.Op != "" {
		return err
	}
	return s.pool.failed(s.op(), s.owner, err)
}

// name is what errors call the step.
func (s *Step) name() string {
	if slices.Contains(stepOps, s.Op) {
		return s.Op
	}
	return "step"
}

// prepare makes the step, which must be a copy of the caller's, one in the pool, unless it names others. It returns an
// error, and keeps it, if no pool could do the step.
func (s *Step) prepare(p *Pool) error {
	if len(s.Pools) == 0 {
		s.Pools = p.self[:]
	}
	switch s.err = cmp.Or(s.plan(), s.Order.validate()); {
	case s.err != nil:
	case s.task.kind == taskAllocate:
		s.err = s.Claim.prepareFor(s.Op, &s.Pools[0].sets)
	case len(s.Pools) > 1:
		s.err = invalid("a step to %s names %d pools, want one", s.Op, len(s.Pools))
	}
	return s.err
}

// opOfSteps returns an op of all the steps.
func opOfSteps(ctx context.Context, steps []Step) (*op, error) {
	o := &op{ctx: ctx, whole: true}
	seen := make(map[owner]bool, len(steps))
	for i := range steps {
		s, in := &steps[i], steps[i].Pools
		t := s.task
		if t.kind == taskAllocate {
			t.claim = &s.Claim
		}
		if err := in[0].resolve(ctx, &t); s.Held.unlessOptional(err) != nil {
			return nil, in[0].failedFor(s.Op, s.Held, err)
		} else if err == nil {
			o.add(in, s.Order, step{task: t, pool: in[0], byAddr: s.task.owner == ""})
			if err := o.noteOwner(seen, in, &t); err != nil {
				return nil, in[0].failedFor(s.Op, s.Held, err)
			}
		} else {
			o.add(in, s.Order, step{task: t, pool: in[0], done: true})
		}
	}
	o.noteTransfers()
	return o, o.checkPools()
}

// noteOwner notes whose task is in which pools, and returns an error if one that releases comes behind another one.
// What was seen before says so of each owner: whether it has a step that does not.
func (o *op) noteOwner(seen map[owner]bool, pools []*Pool, t *task) error {
	for _, p := range pools {
		keeps, again := seen[owner{p, t.owner}]
		if keeps && t.kind == taskRelease {
			return invalid("a step that releases comes after one of the owner %q that does not; want it first", t.owner)
		}
		o.repeats = o.repeats || again
		seen[owner{p, t.owner}] = keeps || t.kind != taskRelease
	}
	return nil
}

// add adds a step to the op, in the last part if that is for the same pool.
func (o *op) add(pools []*Pool, order Order, s step) {
	if n := len(o.parts); n > 0 && len(pools) == 1 && slices.Equal(o.parts[n-1].pools, pools) {
		o.parts[n-1].steps = append(o.parts[n-1].steps, s)
		return
	}
	o.parts = append(o.parts, part{pools: pools, order: order, steps: []step{s}})
	for _, p := range pools {
		if !slices.Contains(o.pools, p) {
			o.pools = append(o.pools, p)
		}
	}
}

// noteTransfers tells each release what later steps ask for of what it frees: that does not cool down.
func (o *op) noteTransfers() {
	wanted := map[*Pool][]netip.Prefix{}
	for i := range slices.Backward(o.parts) {
		for j := range slices.Backward(o.parts[i].steps) {
			s := &o.parts[i].steps[j]
			for _, p := range o.parts[i].pools {
				if s.kind == taskRelease {
					s.transferred = wanted[p]
				} else if s.kind == taskAllocate {
					for _, r := range s.claim.Requests {
						if r.Exact.IsValid() {
							wanted[p] = append(wanted[p], r.Exact)
						}
					}
				}
			}
		}
	}
}

// checkPools returns an error unless the pools are all in one place, each there once.
func (o *op) checkPools() error {
	names := make(map[string]bool, len(o.pools))
	for i, p := range o.pools {
		if slices.Contains(o.pools[:i], p) || p.name != "" && names[p.name] {
			return p.failed("all", "", invalid("the pool %q is named by two handles", p.name))
		}
		names[p.name] = true
		if !p.home.beside(o.pools[0].home) {
			return p.failed("all", "",
				invalid("the pools %q and %q are in different stores", o.pools[0].name, p.name))
		}
	}
	return nil
}

// results are those of an op that has been done.
func (o *op) results() []Result {
	results := make([]Result, 0, o.size())
	for i := range o.parts {
		for j := range o.parts[i].steps {
			results = append(results, Result{Pool: o.parts[i].chosen, Allocation: o.parts[i].steps[j].result})
		}
	}
	return results
}

// refused is the first step of an op that was ended by a refusal; nil if it was not.
func (o *op) refused() *step {
	for i := range o.parts {
		for j := range o.parts[i].steps {
			s := &o.parts[i].steps[j]
			if s.outcome.verdict == verdictRefuse && errors.Is(o.err, s.outcome.refusal) {
				if chosen := o.parts[i].chosen; chosen != nil {
					s.pool = chosen
				}
				return s
			}
		}
	}
	return nil
}

// Each does any number of independent steps, in order and in few commits. It yields the result of each step. A step
// that fails has its error in the result, and does not affect the others. To take over addresses that are already in
// use, such as a DHCP server's leases, do [Allocate] steps with [Request.Exact]. A step fails with [ErrTaken] if its
// prefix is taken; [Pool.Get] by address then returns the holder.
//
// The steps are taken from the iterator as the loop goes on, and are committed up to 4,096 at a time, before their
// results are yielded. If the loop ends early, steps whose results were not yielded may have been done.
//
// An error that ends the whole call, such as the context's or a store's, is yielded last. Before it come the results of
// the steps that were under way. They say which steps were done; a step whose outcome is unknown has an error that
// wraps [store.ErrUnknown]. Later steps were not begun. To continue, do all of them again.
//
// Cost: one commit for every 4,096 consecutive steps in one pool and for different owners, or for as many as the store
// takes. If everything is already held, one read for as many owners, if the store can read in bulk. A step over several
// pools has a commit of its own.
func (p *Pool) Each(ctx context.Context, steps iter.Seq[Step]) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		chunk := chunk{ctx: ctx}
		for s := range steps {
			_ = s.prepare(p) // which keeps the error for the step's result
			if !chunk.hasRoom(&s) && !chunk.flush(yield) {
				return
			}
			chunk.add(s)
		}
		chunk.flush(yield)
	}
}

// chunk are steps of [Pool.Each] that share a commit. What it has is used again for the next ones.
type chunk struct {
	ctx     context.Context
	steps   []Step
	owners  map[string]bool
	todo    []step // of the steps that can be done
	places  []int  // of these among the steps
	results []Result
}

// hasRoom reports whether the step may come into the chunk.
func (c *chunk) hasRoom(s *Step) bool {
	switch {
	case len(c.steps) == 0:
		return true
	case !slices.Equal(s.Pools, c.steps[0].Pools) || s.isAlone() || c.steps[0].isAlone():
		return false
	}
	return len(c.steps) < maxBatch && !c.owners[s.task.owner]
}

// isAlone reports whether the step is to have a commit of its own: it is over several pools, or about whoever turns out
// to have an address.
func (s *Step) isAlone() bool { return s.err == nil && (len(s.Pools) > 1 || s.task.owner == "") }

func (c *chunk) add(s Step) {
	if c.owners == nil {
		c.owners = map[string]bool{}
	}
	c.steps = append(c.steps, s)
	if s.task.owner != "" {
		c.owners[s.task.owner] = true
	}
}

// flush does the steps of the chunk, yields their results and empties it. It reports whether to go on.
func (c *chunk) flush(yield func(Result, error) bool) bool {
	steps := c.steps
	if len(steps) == 0 {
		return true
	}
	defer c.reset()
	p := steps[0].Pools[0]
	var results []Result
	var err error
	if s := &steps[0]; s.isAlone() {
		results, err = p.alone(c.ctx, *s)
	} else {
		results, err = c.share(p)
	}
	for _, r := range results {
		if !yield(r, nil) {
			return false
		}
	}
	if err != nil {
		yield(Result{}, err)
	}
	return err == nil
}

// alone does a step that shares no commit with others.
func (p *Pool) alone(ctx context.Context, s Step) ([]Result, error) {
	r := Result{Pool: p}
	if len(s.Pools) == 1 {
		r.Allocation, r.Err = p.change(ctx, "Each", &s)
	} else if all, err := p.allFor(ctx, "Each", []Step{s}); err == nil {
		r = all[0]
	} else {
		r.Err = err
	}
	if r.Err == nil || isRefusal(r.Err) || errors.Is(r.Err, ErrBusy) {
		return []Result{r}, nil
	}
	return []Result{r}, p.failed("each", "", r.Err)
}

// reset empties the chunk.
func (c *chunk) reset() {
	clear(c.steps)
	clear(c.owners)
	clear(c.todo)
	clear(c.results)
	c.steps, c.todo, c.places, c.results = c.steps[:0], c.todo[:0], c.places[:0], c.results[:0]
}

// share does steps of different owners in p, in one commit.
func (c *chunk) share(p *Pool) ([]Result, error) {
	calls, ctx := p.observeSteps(c.ctx, "Each", c.steps)
	defer calls.end()
	c.todo, c.results = slices.Grow(c.todo, len(c.steps)), slices.Grow(c.results, len(c.steps))
	for i := range c.steps {
		s := &c.steps[i]
		r := Result{Pool: p, Err: p.failedFor(s.name(), s.Held, s.err)}
		if c.results = append(c.results, r); r.Err != nil {
			continue
		}
		c.todo, c.places = append(c.todo, step{task: s.task}), append(c.places, i)
		if s.task.kind == taskAllocate {
			c.todo[len(c.todo)-1].claim = &s.Claim
		}
	}
	err := p.doSteps(ctx, c.todo)
	for i := range c.todo {
		c.results[c.places[i]] = c.todo[i].resultIn(p)
	}
	if call := calls.of(p); call != nil {
		for i, r := range c.results {
			call.step(c.steps[i], r)
		}
	}
	return c.results, calls.result(p.failed("each", "", err))
}

// doTasks does tasks of different owners, each by itself, and returns what became of each. The error is for what ended
// all of it.
func (p *Pool) doTasks(ctx context.Context, tasks []task) ([]Result, error) {
	steps := make([]step, len(tasks))
	for i, t := range tasks {
		steps[i].task = t
	}
	err := p.doSteps(ctx, steps)
	results := make([]Result, len(steps))
	for i := range steps {
		results[i] = steps[i].resultIn(p)
	}
	return results, err
}

// doSteps is doTasks for steps, which then have what became of them.
func (p *Pool) doSteps(ctx context.Context, steps []step) error {
	if len(steps) == 0 {
		return ctx.Err()
	}
	err := opOf(ctx, p, false, steps).run()
	for i := range steps {
		if s := &steps[i]; err != nil && !s.done {
			s.err = err
		}
	}
	return err
}

// resultIn is what became of a step that is done in p.
func (s *step) resultIn(p *Pool) Result {
	return Result{Pool: p, Allocation: s.result, Err: p.failed(s.op(), s.owner, s.err)}
}

// DryRun returns what the claim would get now, without taking it. With [RandomFree] a later claim may get something
// else.
//
// Errors: those of [Pool.Allocate]. Cost: one or two reads.
func (p *Pool) DryRun(ctx context.Context, claim Claim) (Allocation, error) {
	err := claim.prepare(&p.sets)
	var found Allocation
	if err == nil {
		err = exclusively(ctx, func(a *attempt) error {
			d, err := a.present(p)
			if err != nil {
				return err
			}
			start := a.mark()
			out, err := a.planIn(d, &task{kind: taskAllocate, owner: claim.Owner, claim: &claim})
			a.rollback(start)
			found = out.result.clone()
			return err
		}, p)
	}
	return found, p.failed("dry run", claim.Owner, err)
}

// checkTime checks how long something is to last.
func checkTime(what string, d time.Duration) error {
	if d < time.Microsecond || d > MaxTTL {
		return fmt.Errorf("%w: the %s %v is out of range, want %v to %v", ErrInvalid, what, d, time.Microsecond, MaxTTL)
	}
	return nil
}
