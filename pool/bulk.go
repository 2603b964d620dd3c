package pool

import (
	"context"
	"errors"
	"iter"
	"slices"
)

// Result is what became of one claim, or of one owner, of many. Err is that of the single call, or nil. A Result may
// be copied; the copy shares what the Allocation does.
type Result struct {
	Allocation Allocation
	Err        error
}

// AllocateMany grants many claims with few commits, each by itself: a claim that cannot be granted has the error in
// its result, and does not keep the others from being granted. The results are in the order of the claims, and so are
// the grants, as if [Pool.Allocate] were called for each in turn.
//
// The error is for what ended the whole call: two claims of one owner ([ErrInvalid], before anything is granted), the
// end of the context, a store that fails. The results then say which claims were granted before. A claim of which
// that is not known has an error that wraps [store.ErrUnknown]. A claim that was not reached carries the error that
// ended the call.
//
// Cost: one commit for every 4,096 claims, or for as many as the store takes.
func (p *Pool) AllocateMany(ctx context.Context, claims []Claim) ([]Result, error) {
	tasks, results, err := p.allocateTasks(claims)
	if err == nil {
		err = p.each(ctx, CallAllocate, tasks, results)
	}
	return results, p.failed("allocate many", "", err)
}

// AllocateAll grants all the claims or none, in one commit, and returns the grants in their order.
//
// Errors: those of [Pool.Allocate], for the first claim that cannot be granted, named in the error; [ErrInvalid] for
// two claims of one owner; [store.ErrTooLarge] if there are more than the store takes in one commit. Cost: one
// commit.
func (p *Pool) AllocateAll(ctx context.Context, claims []Claim) ([]Allocation, error) {
	tasks, results, err := p.allocateTasks(claims)
	for i, result := range results {
		if err == nil && result.Err != nil {
			err = p.failed("allocate", claims[i].Owner, result.Err)
		}
	}
	if err != nil || len(tasks) == 0 {
		return nil, p.failed("allocate all", "", err)
	}
	return p.whole(ctx, CallAllocate, tasks)
}

// ReleaseMany frees what many owners hold, with few commits, each as [Pool.Release] does. An owner that holds nothing
// has [ErrNotFound] in its result. Errors and cost: as for [Pool.AllocateMany].
func (p *Pool) ReleaseMany(ctx context.Context, owners []string) ([]Result, error) {
	tasks := make([]task, len(owners))
	results := make([]Result, len(owners))
	for i, owner := range owners {
		tasks[i] = task{kind: taskRelease, owner: owner}
		results[i].Err = validateOwner(owner)
	}
	err := distinct(tasks)
	if err == nil {
		err = p.each(ctx, CallRelease, tasks, results)
	}
	return results, p.failed("release many", "", err)
}

// ReleaseAll frees what all the owners hold, or nothing, in one commit, and returns it in their order.
//
// Errors: those of [Pool.Release], for the first owner whose holding cannot be released; [ErrInvalid] if an owner is
// named twice; [store.ErrTooLarge] if there are more than the store takes in one commit. Cost: one commit.
func (p *Pool) ReleaseAll(ctx context.Context, owners []string) ([]Allocation, error) {
	tasks := make([]task, len(owners))
	for i, owner := range owners {
		if err := validateOwner(owner); err != nil {
			return nil, p.failed("release", owner, err)
		}
		tasks[i] = task{kind: taskRelease, owner: owner}
	}
	if err := distinct(tasks); err != nil || len(tasks) == 0 {
		return nil, p.failed("release all", "", err)
	}
	return p.whole(ctx, CallRelease, tasks)
}

func (p *Pool) allocateTasks(claims []Claim) ([]task, []Result, error) {
	claims = slices.Clone(claims)
	tasks := make([]task, len(claims))
	results := make([]Result, len(claims))
	for i := range claims {
		tasks[i] = task{kind: taskAllocate, owner: claims[i].Owner, claim: &claims[i]}
		results[i].Err = claims[i].prepare(&p.sets)
	}
	return tasks, results, distinct(tasks)
}

func distinct(tasks []task) error {
	seen := make(map[string]bool, len(tasks))
	for i := range tasks {
		if seen[tasks[i].owner] {
			return invalid("the owner %q is named twice", tasks[i].owner)
		}
		seen[tasks[i].owner] = true
	}
	return nil
}

// whole does all tasks or none.
func (p *Pool) whole(ctx context.Context, call Call, tasks []task) ([]Allocation, error) {
	begin := p.begin()
	o := opOf(ctx, p, true, stepsOf(tasks))
	err := o.run()
	if s := o.refused(); err != nil && s != nil {
		err = p.failed(s.kind.String(), s.owner, err)
	} else {
		err = p.failed(tasks[0].kind.String()+" all", "", err)
	}
	var results []Allocation
	for _, s := range o.parts[0].steps {
		if err == nil {
			results = append(results, s.result)
		}
		p.observe(begin, call, s.owner, s.result, err)
	}
	return results, err
}

// refused is the first step of an op that was ended by a refusal; nil if it was not.
func (o *op) refused() *step {
	for i := range o.parts[0].steps {
		if s := &o.parts[0].steps[i]; s.outcome.verdict == verdictRefuse && errors.Is(o.err, s.outcome.refusal) {
			return s
		}
	}
	return nil
}

func stepsOf(tasks []task) []step {
	steps := make([]step, len(tasks))
	for i, t := range tasks {
		steps[i].task = t
	}
	return steps
}

// each does the tasks whose results have no error yet, each by itself, and fills in the results.
func (p *Pool) each(ctx context.Context, call Call, tasks []task, results []Result) error {
	begin := p.begin()
	var chunk []task
	var places []int
	flush := func() error {
		o := opOf(ctx, p, false, stepsOf(chunk))
		err := o.run()
		for i := range o.parts[0].steps {
			t := &o.parts[0].steps[i]
			if err != nil && !t.done {
				t.err = err
			}
			results[places[i]] = Result{t.result, p.failed(t.kind.String(), t.owner, t.err)}
			if t.kind != taskMark { // which is no call
				p.observe(begin, call, t.owner, t.result, t.err)
			}
		}
		chunk, places = nil, places[:0]
		return err
	}
	var failed error
	for i := range tasks {
		switch {
		case results[i].Err != nil:
			results[i].Err = p.failed(tasks[i].kind.String(), tasks[i].owner, results[i].Err)
			continue
		case failed != nil:
			results[i].Err = p.failed(tasks[i].kind.String(), tasks[i].owner, failed)
			continue
		}
		chunk, places = append(chunk, tasks[i]), append(places, i)
		if len(chunk) == maxBatch {
			failed = flush()
		}
	}
	if failed == nil && len(chunk) > 0 {
		failed = flush()
	}
	return failed
}

// Clash is a claim that [Pool.Adopt] could not grant, and why. It is the caller's.
type Clash struct {
	Claim Claim
	// Err says why: [ErrTaken] if another owner holds the address, [ErrHeld] if the claim's owner holds something else,
	// [ErrNotInPool], and so on.
	Err error
	// Holder is the owner that holds it, if that is why; empty if several do.
	Holder string
}

// Adopt takes over what is in use already: from a DHCP server's leases, from running nodes, from another allocator.
// Each claim asks for the exact prefixes that its owner uses, and may have a TTL. A claim that cannot be granted,
// because the addresses are held by another owner or are not in the pool, is passed to clash, which may be nil, and
// does not keep the rest from being adopted. Adopt returns how many claims were adopted, including those that had
// been before.
//
// The error is for what ended the whole call, as for [Pool.AllocateMany]. What was adopted before stays so, and
// calling again continues.
//
// Cost: one commit for every 4,096 claims, and one look-up for each clash. A million takes seconds.
func (p *Pool) Adopt(ctx context.Context, inUse iter.Seq[Claim], clash func(Clash)) (adopted int, err error) {
	next, stop := iter.Pull(inUse)
	defer stop()
	for {
		claims, more := chunkOf(next)
		n, err := p.adoptChunk(ctx, claims, clash)
		adopted += n
		if err != nil || !more {
			return adopted, p.failed("adopt", "", err)
		}
	}
}

// chunkOf takes as many claims as fit into one commit.
func chunkOf(next func() (Claim, bool)) (claims []Claim, more bool) {
	for len(claims) < maxBatch {
		claim, ok := next()
		if !ok {
			return claims, false
		}
		claims = append(claims, claim)
	}
	return claims, true
}

func (p *Pool) adoptChunk(ctx context.Context, claims []Claim, clash func(Clash)) (adopted int, err error) {
	if clash == nil {
		clash = func(Clash) {}
	}
	kept, seen := claims[:0:0], map[string]bool{}
	for _, claim := range claims {
		switch {
		case !onlyExact(&claim):
			clash(Clash{Claim: claim, Err: invalid("a claim to adopt asks for no exact prefix: %v", claim.Requests)})
		case seen[claim.Owner]:
			clash(Clash{Claim: claim, Err: invalid("the owner %q is named twice", claim.Owner)})
		default:
			kept, seen[claim.Owner] = append(kept, claim), true
		}
	}
	results, err := p.AllocateMany(ctx, kept)
	for i, result := range results {
		switch {
		case result.Err == nil:
			adopted++
		case err != nil && errors.Is(result.Err, errors.Unwrap(err)):
		default:
			clash(Clash{Claim: kept[i], Err: result.Err, Holder: p.holder(ctx, result.Err)})
		}
	}
	return adopted, err
}

func onlyExact(claim *Claim) bool {
	for _, r := range claim.Requests {
		if !r.Exact.IsValid() {
			return false
		}
	}
	return len(claim.Requests) > 0
}

// holder returns who holds the prefix that an error says is taken, if that is one owner.
func (p *Pool) holder(ctx context.Context, err error) string {
	var taken *Error
	if !errors.As(err, &taken) || !errors.Is(err, ErrTaken) || !taken.Prefix.IsValid() {
		return ""
	}
	a, err := p.Lookup(ctx, taken.Prefix.Addr())
	if err != nil {
		return ""
	}
	return a.Owner
}

// DryRun returns what the claim would get now, without taking it. With [RandomFree] a claim that follows may get
// something else.
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
