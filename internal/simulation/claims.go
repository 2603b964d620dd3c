package simulation

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// claim does something for one owner in one pool.
func (c *actor) claim() {
	p := c.any()
	if p == nil {
		return
	}
	switch owner := c.owner(); {
	case c.chance(8):
		c.renew(p, owner)
	case c.chance(2) || c.emptying && c.chance(2):
		c.release(p, owner)
	default:
		c.allocate(p, c.claimOf(owner))
	}
}

// claimOf is what an owner claims: the first one of each process a lease, and the last one what those of all processes
// share.
func (c *actor) claimOf(owner string) pool.Claim {
	claim := pool.Claim{Owner: owner, Fenced: c.chance(3), Labels: map[string]string{"n": owner[len(owner)-1:]}}
	if owner[len(owner)-1] == '0' {
		claim.TTL = leaseTime
	}
	if owner[len(owner)-1] == '0'+owners-1 {
		claim.Share = "last"
	}
	return claim
}

// resume is what an agent does when it starts: it claims for all its owners, so that nothing which was sent before its
// start undoes that.
func (c *actor) resume() {
	p := c.open(poolA)
	for i := range owners {
		if owner := fmt.Sprintf("%s.%d", c.process.Name, i); p != nil {
			claim := c.claimOf(owner)
			claim.Fenced = true
			c.allocate(p, claim)
		}
	}
}

func (c *actor) allocate(p *pool.Pool, claim pool.Claim) {
	key := p.Name() + "/" + claim.Owner
	before, known := c.acked[key]
	doubt, asked := c.doubt[key], c.asked[key]
	settles := !doubt || asked == p // an answer means that no earlier call may yet take effect
	defer c.try(key)()
	var got pool.Allocation
	err := c.do("allocate for "+key, func(ctx context.Context) (err error) {
		got, err = p.Allocate(ctx, claim)
		return err
	}, pool.ErrExhausted, pool.ErrNotInPool) // what is shared may be out of range
	unknown, answered := errors.Is(err, store.ErrUnknown), err == nil || errors.Is(err, pool.ErrExhausted)
	c.doubt[key] = unknown || doubt && !(answered && settles)
	switch {
	case settles:
		c.asked[key] = p
	case !unknown:
		c.asked[key] = asked
	}
	// An imported pool is made with what its owners hold.
	c.absent[key] = errors.Is(err, pool.ErrExhausted) && !known && !c.doubt[key] && !slices.Contains(imports, p.Name())
	if err != nil {
		if known && errors.Is(err, pool.ErrExhausted) && before.Expires.IsZero() {
			c.World.Fail("%s holds %v and is told that the pool is exhausted", key, before)
		}
		return
	}
	same := got.Generation == before.Generation && fmt.Sprint(got.Prefixes) == fmt.Sprint(before.Prefixes)
	if known && before.Expires.IsZero() && !same {
		c.World.Fail("%s holds %v and is told %v", key, before, got)
	}
	c.ack(key, p, got, claim.Fenced)
}

func (c *actor) release(p *pool.Pool, owner string) {
	key := p.Name() + "/" + owner
	before, known := c.acked[key]
	done := c.leave(key, p)
	err := c.do("release of "+key, func(ctx context.Context) error {
		_, err := p.Release(ctx, pool.Held{Owner: owner})
		return err
	}, pool.ErrNotFound)
	done(err, IsPlain(err) && !errors.Is(err, pool.ErrNotFound))
	doubt := c.doubt[key] && c.asked[key] != p
	c.absent[key] = (err == nil || errors.Is(err, pool.ErrNotFound)) && !doubt && !errors.Is(err, store.ErrUnknown) &&
		!slices.Contains(imports, p.Name())
	if known && before.Expires.IsZero() && errors.Is(err, pool.ErrNotFound) && IsPlain(err) {
		c.World.Fail("%s held %v, and nothing was there to release", key, before)
	}
	if errors.Is(err, store.ErrUnknown) && c.chance(2) {
		// Another handle knows nothing of the release that may be on its way.
		delete(c.pools, p.Name())
		if p = c.open(p.Name()); p != nil {
			c.allocate(p, c.claimOf(owner))
		}
	}
}

func (c *actor) renew(p *pool.Pool, owner string) {
	key := p.Name() + "/" + owner
	var got pool.Allocation
	err := c.do("renewal of "+key, func(ctx context.Context) (err error) {
		got, err = p.Renew(ctx, pool.Held{Owner: owner}, leaseTime)
		return err
	}, pool.ErrNotFound)
	if before, known := c.acked[key]; known && err == nil && got.Expires.Before(before.Expires) {
		c.World.Fail("%s held until %v, and after a renewal until %v", key, before.Expires, got.Expires)
	}
}

// several returns the pools in which an owner claims at once: in a, and in one of the others that are there. It reports
// false if that cannot be found out.
func (c *actor) several() (a *pool.Pool, others []*pool.Pool, ok bool) {
	a, b := c.open(poolA), c.open(poolB)
	if a == nil || b == nil {
		return nil, nil, false
	}
	others = []*pool.Pool{b}
	third, err := c.find(poolC)
	if err == nil {
		others = append(others, third)
		if c.chance(2) {
			slices.Reverse(others)
		}
	}
	return a, others, err == nil || errors.Is(err, pool.ErrNoPool)
}

// together allocates in several pools at once.
func (c *actor) together() {
	a, others, ok := c.several()
	if !ok {
		return
	}
	owner := "both." + c.process.Name
	for _, p := range append(others, a) {
		defer c.try(p.Name() + "/" + owner)() //nolint:gocritic // two at most, both until the end
	}
	claim := pool.Claim{Owner: owner, Labels: map[string]string{together: "yes"}, Fenced: c.chance(3)}
	var got []pool.Result
	err := c.do("allocate together for "+owner, func(ctx context.Context) (err error) {
		got, err = a.All(ctx, pool.Allocate(claim), pool.Allocate(claim).In(others...))
		return err
	}, pool.ErrExhausted)
	if err != nil {
		return
	}
	for _, each := range got {
		c.ack(each.Pool.Name()+"/"+owner, each.Pool, each.Allocation, claim.Fenced)
	}
}

// apart releases in several pools at once.
func (c *actor) apart() {
	a, others, ok := c.several()
	if !ok {
		return
	}
	pools, owner := slices.Concat(others, []*pool.Pool{a}), "both."+c.process.Name
	var done []func(error, bool)
	var steps []pool.Step
	for _, p := range pools {
		done = append(done, c.leave(p.Name()+"/"+owner, p))
		steps = append(steps, pool.Release(pool.Held{Owner: owner, Optional: true}).In(p))
	}
	err := c.do("release together for "+owner, func(ctx context.Context) error {
		_, err := a.All(ctx, steps...)
		return err
	}, pool.ErrNotFound)
	for _, each := range done {
		each(err, IsPlain(err) && !errors.Is(err, pool.ErrNotFound))
	}
}

// clean expires or reconciles a pool.
func (c *actor) clean() {
	p := c.any()
	if p == nil {
		return
	}
	if c.chance(6) {
		_ = c.doParts("expire of "+p.Name(), func(ctx context.Context) error {
			_, err := p.Expire(ctx)
			return err
		})
		return
	}
	live := func(a pool.Allocation) bool { return c.isLive(p.Name()+"/"+a.Owner) || a.Labels[together] != "" }
	_ = c.doParts("reconciliation of "+p.Name(), func(ctx context.Context) error {
		mark, err := p.Mark(ctx)
		if err == nil {
			_, err = p.Reconcile(ctx, mark, living(ctx, p, live), &pool.ReconcileOptions{Grace: grace})
		}
		return err
	})
}

// living are the owners in a pool who are live.
func living(ctx context.Context, p *pool.Pool, live func(pool.Allocation) bool) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for a, err := range p.Allocations(ctx) {
			if (err != nil || live(a)) && !yield(a.Owner, err) {
				return
			}
		}
	}
}

// bulk allocates or releases for all owners of the process, all or nothing or each by itself.
func (c *actor) bulk() {
	p := c.any()
	if p == nil {
		return
	}
	var claims []pool.Claim
	var names []string
	for i := range owners {
		owner := fmt.Sprintf("%s.%d", c.process.Name, i)
		defer c.try(p.Name() + "/" + owner)() //nolint:gocritic // a few, all until the end
		claims, names = append(claims, c.claimOf(owner)), append(names, owner)
	}
	if c.emptying {
		c.releaseMany(p, names)
		return
	}
	switch c.World.Random.IntN(3) {
	case 0:
		c.allocateAll(p, claims)
	case 1:
		c.allocateMany(p, claims)
	default:
		c.releaseAll(p, names)
	}
}

func (c *actor) allocateAll(p *pool.Pool, claims []pool.Claim) {
	var got []pool.Result
	_ = c.do("allocate all in "+p.Name(), func(ctx context.Context) (err error) {
		got, err = p.All(ctx, allocations(claims)...)
		return err
	}, pool.ErrExhausted, pool.ErrNotInPool)
	for i, r := range got {
		c.ack(p.Name()+"/"+claims[i].Owner, p, r.Allocation, claims[i].Fenced)
	}
}

// allocations are steps for the claims, and releases are steps for the owners.
func allocations(claims []pool.Claim) (steps []pool.Step) {
	for _, claim := range claims {
		steps = append(steps, pool.Allocate(claim))
	}
	return steps
}

func releases(names []string) (steps []pool.Step) {
	for _, owner := range names {
		steps = append(steps, pool.Release(pool.Held{Owner: owner}))
	}
	return steps
}

// each does the steps, each by itself.
func each(ctx context.Context, p *pool.Pool, steps []pool.Step) (results []pool.Result, err error) {
	for r, failed := range p.Each(ctx, slices.Values(steps)) {
		if err = failed; err == nil {
			results = append(results, r)
		}
	}
	return results, err
}

func (c *actor) allocateMany(p *pool.Pool, claims []pool.Claim) {
	var results []pool.Result
	_ = c.doEach("allocate many in "+p.Name(), func(ctx context.Context) (err error) {
		results, err = each(ctx, p, allocations(claims))
		return err
	}, func(_ error, each Change) bool {
		i := slices.IndexFunc(claims, func(claim pool.Claim) bool { return claim.Owner == each.Now.Name })
		// What it had released, and has cooled down, others may have got.
		return i >= 0 && each.Now.Kind == store.KindAllocation && each.Now.Revision > 0 && IsPlain(results[i].Err)
	})
	for i, r := range results {
		c.expect("allocate many in "+p.Name(), r.Err, pool.ErrExhausted, pool.ErrNotInPool)
		if r.Err == nil {
			c.ack(p.Name()+"/"+claims[i].Owner, p, r.Allocation, claims[i].Fenced)
		}
	}
}

func (c *actor) releaseMany(p *pool.Pool, names []string) {
	var left []func(error, bool)
	for _, owner := range names {
		left = append(left, c.leave(p.Name()+"/"+owner, p))
	}
	var results []pool.Result
	_ = c.doEach("release many in "+p.Name(), func(ctx context.Context) (err error) {
		results, err = each(ctx, p, releases(names))
		return err
	}, func(_ error, each Change) bool {
		i := slices.Index(names, each.Now.Name)
		return i >= 0 && each.Now.Kind == store.KindAllocation && IsPlain(results[i].Err)
	})
	for i, r := range results {
		c.expect("release many in "+p.Name(), r.Err, pool.ErrNotFound)
		left[i](r.Err, IsPlain(r.Err) && !errors.Is(r.Err, pool.ErrNotFound))
	}
}

func (c *actor) releaseAll(p *pool.Pool, names []string) {
	var left []func(error, bool)
	for _, owner := range names {
		left = append(left, c.leave(p.Name()+"/"+owner, p))
	}
	err := c.do("release all in "+p.Name(), func(ctx context.Context) error {
		_, err := p.All(ctx, releases(names)...)
		return err
	}, pool.ErrNotFound)
	for _, each := range left {
		each(err, IsPlain(err)) // perhaps one of them held nothing, and the others what they hold
	}
}
