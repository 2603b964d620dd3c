package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/store"
)

// Carve takes from the parent what the claim asks for, and makes of it a pool of its own, in one commit: a node's block of a cluster's
// range, a subnet of a network, a delegated prefix (RFC 8415, section 6.3). What is allocated in the new pool does not touch the parent, so
// that each of many writers works in a block of its own without meeting the others.
//
// The spec is that of the new pool, without ranges: these are the prefixes that the parent grants. Its network is that of the parent, and may be
// left empty. Prefixes of which every address is to be handed out, as in a block that is no subnet, want AllocateReserved.
//
// It is idempotent: the same claim with the same name returns the pool that is there, with the spec that it has. The claim must not have a TTL.
// [Delete] deletes the pool and gives its addresses back to the parent, as [Pool.Release] on the parent does; both are refused while
// any of them is held.
//
// Errors: those of [Pool.Allocate] and [Create]; [ErrHeld] if another pool was carved out of what the owner holds. The parent must be in a
// store. Cost: one commit.
func Carve(ctx context.Context, parent *Pool, claim Claim, name string, spec Spec, options *Options) (*Pool, error) {
	p, err := carve(ctx, parent, claim, name, spec, options, nil)
	var inner *Error
	if err != nil && !errors.As(err, &inner) {
		err = &Error{Op: "carve", Pool: name, Owner: claim.Owner, Err: storeError(err)}
	}
	return p, err
}

// carve is Carve, with changes that are committed too. more may be nil.
func carve(ctx context.Context, parent *Pool, claim Claim, name string, spec Spec, options *Options, more func(context.Context) ([]store.Change, error)) (*Pool, error) {
	switch {
	case parent.store == nil:
		return nil, invalid("the parent is a pool in memory; to carve needs a store, such as store.NewMemory")
	case claim.TTL != 0:
		return nil, invalid("the claim for the pool %q has a time to live, want none", name)
	case len(spec.Ranges) > 0 || len(spec.Subnets) > 0 && spec.hasWholeSubnets():
		return nil, invalid("the spec of the pool %q has ranges; those of a carved pool are what its parent grants", name)
	case name == parent.name:
		return nil, invalid("the pool %q cannot be carved from itself", name)
	}
	if err := claim.checkOwnerAndRest(); err != nil {
		return nil, err
	}
	child, err := newHandle(parent.store, name, options)
	if err != nil {
		return nil, err
	}
	own := newPart(parent, wholeOp(ctx, task{kind: taskAllocate, owner: claim.Owner, claim: claim, child: name}))
	j := newJoint([]*jointPart{own})
	var next prepared
	j.extra = func(ctx context.Context) ([]store.Change, error) {
		if j.reread { // perhaps there is a pool of that name
			if _, err := getHead(ctx, child.store, name); !errors.Is(err, ErrNoPool) {
				return nil, cmp.Or(err, ErrExists)
			}
		}
		var err error
		if next, err = child.carved(own, spec); err != nil {
			return nil, err
		}
		changes := []store.Change{next.change}
		if more == nil {
			return changes, nil
		}
		also, err := more(ctx)
		return append(changes, also...), err
	}
	created := false
	j.done = func(heads []store.Record) {
		if len(heads) > 0 {
			child.committed(heads[0], next)
			created = true
		}
	}
	err = child.existsAlready(j.run(ctx))
	j.observe(CallAllocate, claim.Owner, err)
	if err == nil && !created {
		return Open(ctx, parent.store, name, options)
	}
	if err != nil {
		return nil, err
	}
	return child, nil
}

// carved prepares the head of a pool made of what the part's task was granted.
func (p *Pool) carved(from *jointPart, spec Spec) (prepared, error) {
	parent, granted := from.pool, from.op.tasks[0].result
	switch spec.Network {
	case "":
		spec.Network = parent.ledger.spec.Network
	case parent.ledger.spec.Network:
	default:
		return prepared{}, invalid("the pool %q is to be in the network %q, its parent is in %q", p.name, spec.Network, parent.ledger.spec.Network)
	}
	for _, prefix := range granted.Prefixes {
		spec.Ranges = append(spec.Ranges, netipx.RangeOfPrefix(prefix))
	}
	foreign := cidr.Intersection(cidr.SetOf(parent.ledger.spec.foreign...), cidr.SetOf(spec.Ranges...)).Ranges()
	return p.firstHead(spec, foreign, &Parent{Pool: parent.name, Owner: granted.Owner})
}

// hasWholeSubnets tells whether the subnets are meant as the ranges.
func (s Spec) hasWholeSubnets() bool { return len(s.Ranges) == 0 && len(s.Subnets) > 0 }

// uncarve deletes the pool and gives what it was carved from back to its parent.
func (p *Pool) uncarve(ctx context.Context, from *Parent) error {
	parent, err := Open(ctx, p.store, from.Pool, &p.options)
	if err != nil {
		return err
	}
	_, err = parent.releaseWithChild(ctx, from.Owner, 0, p.name)
	return err
}

// childIn returns the pool that an error says was carved out of what is to be released; empty if it does not.
func childIn(err error) string {
	if err == nil {
		return ""
	}
	var delegated *delegatedError
	if errors.As(err, &delegated) {
		return delegated.child
	}
	return ""
}

// releaseWithChild releases what the owner holds, and deletes the pool that was carved out of it.
func (p *Pool) releaseWithChild(ctx context.Context, owner string, generation int64, name string) (Allocation, error) {
	return p.releaseWithChildAnd(ctx, owner, generation, name, nil)
}

// releaseWithChildAnd is that with changes that are committed too. more may be nil.
func (p *Pool) releaseWithChildAnd(ctx context.Context, owner string, generation int64, name string, more func(context.Context) ([]store.Change, error)) (Allocation, error) {
	child, err := newHandle(p.store, name, &p.options)
	if err != nil {
		return Allocation{}, err
	}
	o := wholeOp(ctx, task{kind: taskRelease, owner: owner, generation: generation, child: name})
	j := newJoint([]*jointPart{{pool: p, op: o}})
	j.extra = func(ctx context.Context) ([]store.Change, error) {
		changes, err := child.deletionFrom(ctx, Parent{p.name, owner})
		if err != nil || more == nil {
			return changes, err
		}
		also, err := more(ctx)
		return append(changes, also...), err
	}
	if err := j.run(ctx); err != nil {
		return Allocation{}, err
	}
	return o.tasks[0].result, nil
}

// deletionFrom is the change that deletes the pool, if it was carved from there; none if it is another's, or not there.
func (p *Pool) deletionFrom(ctx context.Context, from Parent) ([]store.Change, error) {
	head, err := getHead(ctx, p.store, p.name)
	if errors.Is(err, ErrNoPool) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data, _, err := parseHead(head)
	if err != nil || data.Parent == nil || *data.Parent != from {
		return nil, err
	}
	change, err := p.deletion(ctx, head, data)
	if err != nil {
		return nil, fmt.Errorf("the pool %q was carved out of it: %w", p.name, err)
	}
	return []store.Change{change}, nil
}

// checkChild tells whether a carved pool may have this spec.
func (p *Pool) checkChild(ctx context.Context, spec Spec) error {
	if spec.Network != p.ledger.spec.Network {
		return invalid("the pool was carved from %q and stays in its network, %q", p.parent.Pool, p.ledger.spec.Network)
	}
	return p.checkParent(ctx, *p.parent, spec)
}

// checkParent tells whether a pool of this name and spec is what was carved from there.
func (p *Pool) checkParent(ctx context.Context, from Parent, spec Spec) error {
	record, err := p.store.Get(ctx, store.Key{Kind: store.KindAllocation, Pool: from.Pool, Name: from.Owner})
	var held *holding
	if err == nil {
		held, err = holdingOf(record)
	}
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && held.Child != p.name:
		return invalid("the pool %q holds nothing for %q that this pool was carved from", from.Pool, from.Owner)
	case err != nil:
		return err
	}
	var own []netipx.IPRange
	for _, prefix := range held.Prefixes {
		own = append(own, netipx.RangeOfPrefix(prefix))
	}
	if outside := cidr.Difference(cidr.SetOf(spec.ranges()...), cidr.SetOf(own...)); len(outside.Ranges()) > 0 {
		return invalid("the ranges %v are none that the parent %q has granted", cidr.FormatSet(outside), from.Pool)
	}
	return nil
}
