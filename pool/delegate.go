package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// delegation is the pool that is to be made of what a claim is granted, or that is to be extended by it.
type delegation struct {
	name    string // of the pool; empty if it is named by what is granted
	spec    Spec   // without ranges
	options *Options
	pool    *Pool // the last one that child returned
}

// childOf is the name of the pool that is to be made of what is granted in the parent; empty if there is no delegation.
func (d *delegation) childOf(parent string, granted []netip.Prefix) string {
	switch {
	case d == nil:
		return ""
	case d.name != "":
		return d.name
	}
	return parent + "/" + granted[0].String()
}

// child returns a handle of the pool of that name, beside the parent.
func (d *delegation) child(parent *Pool, name string) (*Pool, error) {
	if d.pool == nil || d.pool.name != name {
		p, err := parent.home.neighbour(name)
		if err != nil {
			return nil, err
		}
		p.setOptions(d.options)
		d.pool = p
	}
	return d.pool, nil
}

// Delegate takes what the claim asks for from the parent and makes a pool of it, in one commit: a node's block of a
// cluster's range, a subnet of a network, a delegated prefix (RFC 8415, section 6.3). Allocations in the new pool do
// not touch the parent, so many writers can work without contention, each in a block of its own. The new pool hands out
// only what the parent may hand out, now and later: see [Pool.Update].
//
// The spec is for the new pool. It has no ranges: these are the prefixes that the parent grants. Its network is the
// parent's, and may be left empty. Set [FamilySpec.AllocateReserved] to hand out every address, as in a block that is
// not a subnet.
//
// Delegate returns the pool and what the parent granted. If the name is empty, the pool is named after the parent, a
// slash and the first granted prefix, such as "cluster/10.1.0.0/24".
//
// Delegate is idempotent: the same claim with the same name, or without one, returns the existing pool, with the spec
// that it already has. The claim must not have a TTL. [Delete] deletes the pool and gives its addresses back to the
// parent, and so does [Pool.Release] on the parent. Both are refused while any of the addresses is held. [Pool.Extend]
// adds to the pool, and [Pool.Retract] takes from it.
//
// Errors: those of [Pool.Allocate] and [Create]; [ErrHeld] if another pool was delegated from what the owner holds. The
// parent must be in a store. Cost: one commit, which concurrent calls share, after two lists that stop at the first
// record.
func Delegate(
	ctx context.Context, parent *Pool, claim Claim, name string, spec Spec, options *Options,
) (child *Pool, granted Allocation, err error) {
	s := Allocate(claim)
	granted, err = parent.observeOne(ctx, "Delegate", s, func(ctx context.Context) (a Allocation, err error) {
		child, a, err = delegate(ctx, parent, claim, name, spec, options)
		return a, wrapped(err, Error{Op: "delegate", Pool: cmp.Or(name, parent.name), Owner: claim.Owner})
	})
	return child, granted, err
}

func delegate(
	ctx context.Context, parent *Pool, claim Claim, name string, spec Spec, options *Options,
) (child *Pool, a Allocation, err error) {
	switch {
	case claim.TTL != 0:
		return nil, a, invalid("the claim for the pool %q has a time to live, want none", name)
	case len(spec.Ranges) > 0 || len(spec.Subnets) > 0:
		return nil, a, invalid("the spec of the pool %q has ranges; those of a delegated pool are its parent's grants", name)
	case name == parent.name:
		return nil, a, invalid("the pool %q cannot be delegated from itself", name)
	}
	if err := cmp.Or(claim.notShared("a delegated pool"), claim.prepare(&parent.sets)); err != nil {
		return nil, a, err
	}
	to := &delegation{name: name, spec: spec, options: options}
	if name != "" {
		if _, err := to.child(parent, name); err != nil {
			return nil, a, err
		}
	}
	err = parent.do(ctx, &task{kind: taskAllocate, owner: claim.Owner, delegate: to}, &claim, &a)
	if err != nil {
		return nil, a, err
	}
	child, err = to.child(parent, a.Child) // which is read when it is used, if it was there already
	return child, a, err
}

// delegate plans that a pool is made of what was granted in the draft's.
func (a *attempt) delegate(from *draft, to *delegation, granted Allocation) error {
	made, err := to.child(from.pool, granted.Child)
	switch {
	case err != nil:
		return err
	case made.home.state() != nil: // it was in the way of the last attempt
		return errorf("%w: %q", ErrExists, made.name)
	}
	if err := a.requireNoRecords(made); err != nil {
		return err
	}
	parent, spec := from.state(), to.spec.clone()
	switch spec.Network {
	case "":
		spec.Network = parent.rules.Network
	case parent.rules.Network:
	default:
		return invalid("the pool %q is to be in the network %q, its parent is in %q",
			made.name, spec.Network, parent.rules.Network)
	}
	for _, prefix := range granted.Prefixes {
		spec.Ranges = append(spec.Ranges, netipx.RangeOfPrefix(prefix))
	}
	withheld := cidr.Difference(setOfPrefixes(granted.Prefixes), parent.rules.allowedSet()).Ranges()
	if err := from.pool.home.takesHistory(spec); err != nil {
		return err
	}
	r, err := newRules(spec, withheld, Renumbering{})
	if err != nil {
		return err
	}
	grants := []Grant{{Owner: granted.Owner, Prefixes: slices.Clone(granted.Prefixes)}}
	child, err := newState(r, parentage{Pool: from.pool.name, Grants: grants}, made.options.Random)
	if err != nil {
		return err
	}
	d := a.draft(made)
	d.next, d.created = child, a.now
	return nil
}

// Extend takes what the claim asks for from the pool's parent and adds it to the pool's ranges, in one commit. The pool
// must be a delegated one; see [Delegate].
//
// Extend is idempotent, as [Pool.Allocate] is: if the owner already holds a grant for this pool, Extend returns that.
// The claim must not have a TTL.
//
// Errors: those of [Pool.Allocate] on the parent; [ErrInvalid] if the pool was not delegated from another one;
// [ErrHeld] if another pool was delegated from what the owner holds in the parent. Cost: two or three reads and one
// commit.
func (p *Pool) Extend(ctx context.Context, claim Claim) (Allocation, error) {
	call, ctx := p.observe(ctx, "Extend", Allocate(claim))
	defer call.end()
	granted, parent, err := p.extend(ctx, claim)
	err = p.failed("extend", claim.Owner, err)
	call.in(parent)
	call.step(Allocate(claim), Result{Pool: p, Allocation: granted, Err: err})
	return granted, call.result(err)
}

// extend is Extend, and returns the name of the parent too, if it is known.
func (p *Pool) extend(ctx context.Context, claim Claim) (granted Allocation, parent string, err error) {
	if claim.TTL != 0 {
		return granted, "", invalid("the claim to extend the pool %q has a time to live, want none", p.name)
	}
	if err := cmp.Or(claim.notShared("a grant"), claim.prepare(&p.sets)); err != nil {
		return granted, "", err
	}
	t := task{kind: taskAllocate, owner: claim.Owner, claim: &claim, delegate: &delegation{name: p.name}}
	err = exclusively(ctx, func(a *attempt) error {
		d, from, err := a.withParent(p)
		if err != nil {
			return err
		}
		parent = from.pool.name
		out, err := a.planIn(from, &t)
		if err != nil {
			return err
		}
		from.fence, d.fence = from.fence || claim.Fenced, d.fence || claim.Fenced
		if granted = out.result; d.state().parent.grantOf(claim.Owner) >= 0 {
			d.guard = true // the pool may be gone by now, and what it was granted given back
			return nil
		}
		return a.extend(d, from, granted)
	}, p)
	if err != nil {
		return Allocation{}, parent, err
	}
	return granted.clone(), parent, nil
}

// withParent returns the drafts of a pool and of the one that it was delegated from, as they are at present.
func (a *attempt) withParent(p *Pool) (d, from *draft, err error) {
	if d, err = a.present(p); err != nil {
		return nil, nil, err
	}
	parent := d.state().parent
	if parent.isZero() {
		return nil, nil, invalid("the pool %q was not delegated from another one", p.name)
	}
	from, err = a.open(p, parent.Pool)
	return d, from, err
}

// planIn plans a task in the draft's pool. An error means that it cannot be done.
func (a *attempt) planIn(d *draft, t *task) (outcome, error) {
	h, _, err := d.pool.home.holding(a.ctx, t.owner, true)
	if err != nil {
		return outcome{}, err
	}
	var out outcome
	a.view(d, a.batch[0]).plan(&out, t, d.state().rules.current(h), nil)
	if out.verdict == verdictRefuse || out.verdict == verdictLater {
		return outcome{}, out.refusal
	}
	d.add(out.writes)
	return out, nil
}

// extend adds what was granted in the draft from to the draft's pool.
func (a *attempt) extend(d, from *draft, granted Allocation) error {
	now := d.state()
	spec, parent := now.rules.Spec.clone(), now.parent.clone()
	for _, prefix := range granted.Prefixes {
		spec.Ranges = append(spec.Ranges, netipx.RangeOfPrefix(prefix))
	}
	parent.Grants = append(parent.Grants, Grant{Owner: granted.Owner, Prefixes: slices.Clone(granted.Prefixes)})
	withheld := cidr.Difference(parent.granted(), from.state().rules.allowedSet()).Ranges()
	return a.rebuild(d, spec, withheld, parent, Renumbering{}, true)
}

// Retract removes from the pool's ranges what the parent granted to the owner for this pool, and gives it back to the
// parent, in one commit.
//
// Errors: [ErrNotFound] if the parent has granted nothing to the owner for this pool; [ErrInUse] if any of it is held
// or cooling down in the pool; [ErrInvalid] if nothing would be left of the pool (use [Delete]); those of the store.
// Cost: two or three reads and one commit.
func (p *Pool) Retract(ctx context.Context, owner string) (Allocation, error) {
	call, ctx := p.observe(ctx, "Retract", Release(Held{Owner: owner}))
	defer call.end()
	given, parent, err := p.retract(ctx, owner)
	err = p.failed("retract", owner, err)
	call.in(parent)
	call.step(Release(Held{Owner: owner}), Result{Pool: p, Allocation: given, Err: err})
	return given, call.result(err)
}

// retract is Retract, and returns the name of the parent too, if it is known.
func (p *Pool) retract(ctx context.Context, owner string) (given Allocation, parent string, err error) {
	if err := validateOwner(owner); err != nil {
		return given, "", err
	}
	err = exclusively(ctx, func(a *attempt) error {
		d, from, err := a.withParent(p)
		if err != nil {
			return err
		}
		parent = from.pool.name
		i := d.state().parent.grantOf(owner)
		switch {
		case i < 0 && a.uncertain():
			return nil // an earlier attempt has taken effect
		case i < 0:
			return ErrNotFound
		}
		if err := a.retract(d, i); err != nil {
			return err
		}
		out, err := a.planIn(from, &task{kind: taskRelease, owner: owner, child: p.name})
		given = out.result
		return err
	}, p)
	if err != nil {
		return Allocation{}, parent, err
	}
	return given.clone(), parent, nil
}

// Why a pool cannot give back what it was granted: there is nothing else, or its ranges have nothing of the rest.
var (
	errLastGrant  = invalid("nothing would be left of the pool; delete it instead")
	errLastRanges = invalid("the pool's ranges have nothing of what else was granted; add that, or delete the pool")
)

// retract takes the grant of index i out of the draft's pool.
func (a *attempt) retract(d *draft, i int) error {
	now := d.state()
	block := setOfPrefixes(now.parent.Grants[i].Prefixes)
	outOfRange, err := a.outOfRange(d)
	if err == nil {
		err = now.requireFree(now.parent.Grants[i].Prefixes, outOfRange)
	}
	if err != nil {
		return err
	}
	spec, parent := now.rules.Spec.clone(), now.parent.clone()
	parent.Grants = slices.Delete(parent.Grants, i, i+1)
	spec.Ranges = nil
	for _, r := range now.rules.ranges() {
		spec.Ranges = append(spec.Ranges, cidr.Difference(cidr.SetOf(r), block).Ranges()...)
	}
	switch {
	case len(parent.Grants) == 0:
		return errLastGrant
	case len(spec.Ranges) == 0:
		return errLastRanges
	}
	withheld := cidr.Difference(cidr.SetOf(now.rules.withheld...), block).Ranges()
	return a.rebuild(d, spec, withheld, parent, Renumbering{}, true)
}

// outOfRange returns the records of the draft's pool that hold, or let cool down, anything that it may not hand out.
func (a *attempt) outOfRange(d *draft) (found []*holding, err error) {
	s := d.state().space
	if !s.AnyOutOfRange() {
		return nil, nil
	}
	for h, err := range a.records(d) {
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(h.Prefixes, func(p netip.Prefix) bool { return !s.Covers(p) }) {
			found = append(found, h)
		}
	}
	return found, nil
}

// requireFree returns an error if anything of the prefixes is held or cools down, in range or by one of those that are
// out of range.
func (s *state) requireFree(prefixes []netip.Prefix, outOfRange []*holding) error {
	for _, prefix := range prefixes {
		if !s.space.IsFreeWithin(prefix) {
			return fmt.Errorf("%w: addresses of %v are held, or cool down", ErrInUse, prefix)
		}
	}
	for _, h := range outOfRange {
		for _, prefix := range prefixes {
			if slices.ContainsFunc(h.Prefixes, prefix.Overlaps) {
				return errorf("%w: %v is held, or cools down, though out of range", ErrInUse, h.Prefixes)
			}
		}
	}
	return nil
}

// takeFromChild plans that a child gives back h, which was held in the draft's pool: the pool that was delegated from
// h. The child is deleted if it has nothing else.
func (a *attempt) takeFromChild(d *draft, h *holding) error {
	child, err := a.open(d.pool, h.Child)
	if errors.Is(err, ErrNoPool) || err == nil && child.gone {
		return nil
	}
	if err != nil {
		return err
	}
	parent := child.state().parent
	i := parent.grantOf(h.Owner)
	if parent.Pool != d.pool.name || i < 0 {
		return nil // another one's, put there by hand
	}
	if len(parent.Grants) > 1 {
		err = a.retract(child, i)
	} else {
		err = a.remove(child)
	}
	if err != nil {
		return errorf("the pool %q was delegated from it: %w", h.Child, err)
	}
	return nil
}

// giveBack plans that what the draft's pool, which is being deleted, was delegated from goes back to its parent.
func (a *attempt) giveBack(d *draft, parent parentage) error {
	from, err := a.open(d.pool, parent.Pool)
	if errors.Is(err, ErrNoPool) {
		return nil // deleted by hand
	}
	if err != nil {
		return err
	}
	for _, grant := range parent.Grants {
		_, err := a.planIn(from, &task{kind: taskRelease, owner: grant.Owner, child: d.pool.name})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// changeChild gives the draft's pool, which was delegated from another one, another spec.
func (a *attempt) changeChild(d *draft, spec Spec, drain bool) error {
	now := d.state()
	if spec.Network != now.rules.Network {
		return invalid("the pool was delegated from %q and stays in its network, %q", now.parent.Pool, now.rules.Network)
	}
	if err := now.parent.admits(spec); err != nil {
		return err
	}
	return a.rebuild(d, spec, now.rules.withheld, now.parent, Renumbering{}, drain)
}

// admits returns an error unless the ranges of the spec lie in what the parent has granted.
func (p parentage) admits(spec Spec) error {
	if outside := cidr.Difference(cidr.SetOf(spec.ranges()...), p.granted()); len(outside.Ranges()) > 0 {
		return invalid("the ranges %v are none that the parent %q has granted", cidr.FormatSet(outside), p.Pool)
	}
	return nil
}
