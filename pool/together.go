package pool

import (
	"context"
	"time"
)

// Part is what a claim over several pools asks of one of them. The zero Part is not valid. A Part may be copied; the
// copy shares Pools.
type Part struct {
	// Pools are alternatives: the first one that has room grants the part. There is at least one. All are in the same
	// store as those of the other parts, and none of them is in another part.
	Pools []*Pool
	// Claim is what is asked for. Its Owner is that of the whole call and may be left empty.
	Claim Claim
}

// Granted is what [AllocateTogether] granted for one part.
type Granted struct {
	Pool       *Pool
	Allocation Allocation
}

// AllocateTogether grants claims of one owner in several pools, such as IPv4 from one and IPv6 from another: all of
// them or none, in one commit. The grants are in the order of the parts.
//
// It is idempotent in each pool, as [Pool.Allocate] is. If the owner already holds something in one of the
// alternatives of a part, that pool answers, whichever has room.
//
// Errors: those of [Pool.Allocate], after which nothing has changed in any pool, except after [store.ErrUnknown];
// [ErrInvalid] also for pools in different stores, or named twice. If no alternative of a part has room, the error is
// that of the last one. If the process dies meanwhile, either all or nothing has been granted.
//
// Cost: one commit, and for each part with alternatives one read for each of them. Calls through the handles of these
// pools wait meanwhile, or share the commit.
func AllocateTogether(ctx context.Context, owner string, parts ...Part) ([]Granted, error) {
	granted, err := allocateTogether(ctx, owner, parts)
	return granted, wrapped(err, Error{Op: "allocate together", Owner: owner})
}

func allocateTogether(ctx context.Context, owner string, parts []Part) ([]Granted, error) {
	if len(parts) == 0 {
		return nil, invalid("a claim over several pools has no parts")
	}
	o := &op{ctx: ctx, whole: true}
	for _, p := range parts {
		claim := p.Claim
		if claim.Owner != "" && claim.Owner != owner {
			return nil, invalid("a part is claimed for %q, the whole for %q", claim.Owner, owner)
		}
		claim.Owner = owner
		if len(p.Pools) == 0 {
			return nil, invalid("a part of a claim over several pools names no pool")
		}
		if err := claim.prepare(&p.Pools[0].sets); err != nil {
			return nil, err
		}
		o.add(p.Pools, task{kind: taskAllocate, owner: owner, claim: &claim})
	}
	if err := o.runTogether(CallAllocate); err != nil {
		return nil, err
	}
	granted := make([]Granted, len(parts))
	for i, part := range o.parts {
		granted[i] = Granted{part.chosen, part.steps[0].result}
	}
	return granted, nil
}

// add adds a part of one task to the op.
func (o *op) add(pools []*Pool, t task) {
	o.parts = append(o.parts, part{pools: pools, steps: []step{{task: t}}})
	o.pools = append(o.pools, pools...)
}

// runTogether brings an op over several pools to its end. It then tells the observers of each pool that took part or,
// if the call failed, of the first pool of each part.
func (o *op) runTogether(call Call) error {
	if err := o.checkPools(); err != nil {
		return err
	}
	begins := make([]time.Time, len(o.parts))
	for i, part := range o.parts {
		begins[i] = part.pools[0].begin()
	}
	err := o.run()
	for i, part := range o.parts {
		p := part.chosen
		if err != nil || p == nil {
			p = part.pools[0]
		}
		p.observe(begins[i], call, part.steps[0].owner, part.steps[0].result, err)
	}
	return err
}

// checkPools returns an error unless the pools are all in one place, each there once.
func (o *op) checkPools() error {
	seen := make(map[*Pool]bool, len(o.pools))
	names := make(map[string]bool, len(o.pools))
	for _, p := range o.pools {
		if seen[p] || p.name != "" && names[p.name] {
			return invalid("the pool %q is named twice", p.name)
		}
		seen[p], names[p.name] = true, true
		if !p.home.beside(o.pools[0].home) {
			return invalid("the pools %q and %q are in different stores", o.pools[0].name, p.name)
		}
	}
	return nil
}

// ReleaseTogether frees all that the owner holds in these pools, in one commit, and returns what that was, in the
// order of the pools; a pool in which it holds nothing has the zero Allocation.
//
// Errors: [ErrNotFound] if the owner holds nothing in any of them; otherwise as for [AllocateTogether]. Cost: one
// commit, and at most one read for each pool.
func ReleaseTogether(ctx context.Context, owner string, pools ...*Pool) ([]Allocation, error) {
	released, err := releaseTogether(ctx, owner, pools)
	return released, wrapped(err, Error{Op: "release together", Owner: owner})
}

func releaseTogether(ctx context.Context, owner string, pools []*Pool) ([]Allocation, error) {
	if err := validateOwner(owner); err != nil {
		return nil, err
	}
	if len(pools) == 0 {
		return nil, invalid("a release in several pools names no pool")
	}
	o := &op{ctx: ctx, whole: true}
	for i := range pools {
		o.add(pools[i:i+1], task{kind: taskRelease, owner: owner, optional: true})
	}
	if err := o.runTogether(CallRelease); err != nil {
		return nil, err
	}
	released, found := make([]Allocation, len(pools)), false
	for i, part := range o.parts {
		released[i] = part.steps[0].result
		found = found || released[i].Owner != ""
	}
	if !found {
		return nil, ErrNotFound
	}
	return released, nil
}
