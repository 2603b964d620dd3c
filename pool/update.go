package pool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// Update gives the pool a new spec, wholly or not at all: ranges, exclusions, subnets, gateways, families, and how
// addresses are handed out. What is held stays held. Update is refused if the pool would no longer hand out an address
// that is held: because it would be outside the ranges, excluded, a gateway, or reserved.
//
// Pools that were delegated from this one change in the same commit: they no longer hand out what this one no longer
// may.
//
// Other handles, in other processes too, follow the new spec from their next change on.
//
// Errors: [ErrInvalid], also if a delegated pool would get another network, or ranges that its parent has not granted;
// [ErrOutOfRange] with a list of the allocations ([Pool.Drain] keeps them); [ErrOverlap] if the
// ranges overlap with those of another pool in the network, or with addresses that such a pool still holds out of
// range; [ErrInUse] if the network would change although pools were delegated from this one; [ErrBusy];
// [store.ErrTooLarge] if it affects more delegated pools than the store takes in one commit; those of the store. After
// any error except [store.ErrUnknown], nothing has changed.
//
// Cost: one commit, and O(runs of free addresses); O(allocations) if any are out of range, before or after, if quotas
// count other scopes or labels, or if pools were delegated from this one. Each delegated pool whose addresses the
// change affects costs one read more.
func (p *Pool) Update(ctx context.Context, spec Spec) error {
	return p.failed("update", "", p.update(ctx, spec, false))
}

// UpdateFunc gives the pool the spec that change makes of its present one, as [Pool.Update] does. No other process
// changes the spec in between, so processes that each add ranges to a pool do not undo what the others add.
//
// If other processes change the pool at the same time, change is called again, with the newer spec. The argument is a
// copy. Change must not use the pool. If it returns an error, UpdateFunc returns that, wrapped, and the pool stays as
// it is. If it returns the same spec, by [Spec.Equal], nothing is committed.
//
// Errors: those of Update and of change. Cost: that of Update; one read if the spec is the same.
func (p *Pool) UpdateFunc(ctx context.Context, change func(Spec) (Spec, error)) error {
	err := exclusively(ctx, func(a *attempt) error {
		d, err := a.present(p)
		if err != nil {
			return err
		}
		spec, err := change(d.state().rules.clone())
		if err == nil {
			err = spec.Validate()
		}
		if err == nil && d.state().rules.Equal(spec) {
			err = errSameSpec
		}
		if err != nil {
			return err
		}
		return a.changeAny(d, spec, false)
	}, p)
	if errors.Is(err, errSameSpec) {
		return nil
	}
	return p.failed("update", "", err)
}

// errSameSpec ends a call that would give a pool the spec that it has.
var errSameSpec = errors.New("the pool has this spec already")

// Drain is [Pool.Update] for a pool that gives up addresses although they are still held. These stay held until they
// are released or their lease ends, are counted as [Stats.OutOfRange], and are never handed out again. While they
// are held, other pools of the network must not have them in their ranges.
//
// Errors: those of Update, except [ErrOutOfRange]; [ErrOverlap] also if what is held outside the ranges overlaps with
// another pool of the network.
func (p *Pool) Drain(ctx context.Context, spec Spec) error {
	return p.failed("drain", "", p.update(ctx, spec, true))
}

func (p *Pool) update(ctx context.Context, spec Spec, drain bool) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	return exclusively(ctx, func(a *attempt) error {
		d, err := a.present(p)
		if err != nil {
			return err
		}
		return a.changeAny(d, spec, drain)
	}, p)
}

// changeAny gives the draft's pool another spec.
func (a *attempt) changeAny(d *draft, spec Spec, drain bool) error {
	if d.state().parent.isZero() {
		return a.change(d, spec, drain)
	}
	return a.changeChild(d, spec, drain)
}

// present returns the draft of a pool as it is at present.
func (a *attempt) present(p *Pool) (*draft, error) {
	d := a.draft(p)
	return d, p.home.refresh(a.ctx)
}

// change gives the draft's pool, which is no part of another one, another spec.
func (a *attempt) change(d *draft, spec Spec, drain bool) error {
	return a.changeTo(d, spec, d.state().rules.moving, drain)
}

// changeTo is change, and says whether the pool is being renumbered from then on.
func (a *attempt) changeTo(d *draft, spec Spec, moving Renumbering, drain bool) error {
	now := d.state()
	if old := now.rules.Network; old != spec.Network {
		if now.space.Tally(space.Delegated) > 0 {
			return errorf("%w: the network cannot be changed from %q to %q: pools were delegated from this one",
				ErrInUse, old, spec.Network)
		}
		if err := a.leave(d.pool, old); err != nil {
			return err
		}
	}
	if spec.Network == "" {
		if err := a.rebuild(d, spec, nil, parentage{}, moving, drain); err != nil {
			return err
		}
		return d.next.rules.requireRoom()
	}
	n, err := a.network(d.pool, spec.Network)
	if err != nil {
		return err
	}
	both := rules{Spec: spec, moving: moving}
	if err := a.rebuild(d, spec, n.externalIn(both.allRanges()), parentage{}, moving, drain); err != nil {
		return err
	}
	if err := d.next.rules.requireRoom(); err != nil {
		return err
	}
	return a.admit(d.pool, n, both.allRanges(), d.outside)
}

// leave takes a pool out of a network, if the name is not empty.
func (a *attempt) leave(p *Pool, network string) error {
	if network == "" {
		return nil
	}
	n, err := a.network(p, network)
	if err == nil {
		n.drop(p.name)
	}
	return err
}

// rebuild gives the draft's pool another spec, other withheld addresses and other grants, and keeps what it
// holds. Unless drain is set, an address that is held and would no longer be handed out is an error. The
// pools that are delegated from it follow.
func (a *attempt) rebuild(
	d *draft, spec Spec, withheld []netipx.IPRange, parent parentage, moving Renumbering, drain bool,
) error {
	if err := d.pool.home.takesHistory(spec); err != nil {
		return err
	}
	r, err := newRules(spec, withheld, moving)
	if err != nil {
		return err
	}
	now := d.state()
	next, err := a.takeOver(d, now, r, parent, drain)
	if err != nil {
		return err
	}
	d.next = next
	return a.passDown(d, now.rules.allowedSet(), drain)
}

// takeOver returns a state with the rules r and all that the draft's pool holds now. It notes in the draft
// what of that is outside of the ranges.
func (a *attempt) takeOver(d *draft, now *state, r *rules, parent parentage, drain bool) (*state, error) {
	random := d.pool.options.Random
	next, err := newState(r, parent, random)
	if err != nil {
		return nil, err
	}
	next.space.KeepCursors(now.space)
	begins := now.rules.moving.isZero() && !r.moving.isZero()
	if d.outside = nil; r.counted.equal(now.rules.counted) && next.space.TakeOver(now.space) {
		return next, nil
	}
	// Some of what is held is out of range, or will be, or is to be counted: only the records say what belongs together.
	if next, err = newState(r, parent, random); err != nil {
		return nil, err
	}
	next.space.KeepCursors(now.space)
	var stranded []Allocation
	var all outside
	for h, err := range a.records(d) {
		if err != nil {
			return nil, err
		}
		was := h
		h = r.current(h)
		isLost := func(p netip.Prefix) bool {
			return begins && !h.shared && next.obstacle(now, p) != "" ||
				(h.Reserved || h.live() && !h.Expired(a.now)) && strands(now, next, p)
		}
		if slices.ContainsFunc(h.Prefixes, isLost) {
			stranded = append(stranded, was.Allocation.clone())
		}
		next.hold(h)
		all.add(r, h)
	}
	if len(stranded) > 0 && !drain {
		return nil, &outOfRangeError{stranded}
	}
	next.space.Keep()
	d.outside = all.of(r.allRanges())
	return next, nil
}

// strands reports whether any address of the prefix is one that the pool hands out now, and is none with next.
func strands(now, next *state, prefix netip.Prefix) bool {
	if next.space.Covers(prefix) {
		return false
	}
	inside, _ := now.space.Inside(prefix)
	return slices.ContainsFunc(inside, func(part netip.Prefix) bool { return !next.space.Covers(part) })
}

// hold takes what a record holds, and counts the record. It returns the prefixes of which something was taken already.
func (s *state) hold(h *holding) (twice []netip.Prefix) {
	recount(s.space, nil, h)
	s.rules.counted.own(s.space, h, true)
	if h.shares() {
		return nil // the share has them
	}
	for _, p := range h.Prefixes {
		if s.space.Hold(p, h.use()) {
			twice = append(twice, p)
		}
	}
	return twice
}

// passDown makes the pools that are delegated from the draft's follow what it may hand out now; before is what it
// could.
func (a *attempt) passDown(d *draft, before *netipx.IPSet, drain bool) error {
	if d.state().space.Tally(space.Delegated) == 0 {
		return nil
	}
	after := d.state().rules.allowedSet()
	changed := map[string]bool{}
	for h, err := range a.records(d) {
		if err != nil {
			return err
		}
		block := setOfPrefixes(h.Prefixes)
		if h.Child != "" && !cidr.Difference(block, before).Equal(cidr.Difference(block, after)) {
			changed[h.Child] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		child, err := a.open(d.pool, name)
		if errors.Is(err, ErrNoPool) {
			continue // deleted by hand
		}
		if err != nil {
			return err
		}
		parent := child.state().parent
		if parent.Pool != d.pool.name {
			continue // another one's, put there by hand
		}
		if err := a.withhold(child, cidr.Difference(parent.granted(), after).Ranges(), drain); err != nil {
			return child.pool.failed("update", "", err)
		}
	}
	return nil
}

// remove deletes the draft's pool, unless anything of it is held. It does not look at its network, or its parent.
func (a *attempt) remove(d *draft) error {
	s := d.state()
	for _, counts := range statsOf(s.space.Counts()) {
		if !counts.Used.IsZero() {
			return fmt.Errorf("%w: %v of its %v addresses are held", ErrInUse, counts.Used, counts.Family)
		}
	}
	var left []write
	for h, err := range a.cooling(d) {
		if err != nil {
			return err
		}
		if h.live() { // out of range
			return errorf("%w: %v is held, though out of range", ErrInUse, h.Prefixes)
		}
		if !d.writing(h) {
			left = append(left, write{op: store.Delete, holding: h, old: h})
		}
	}
	for i := range d.writes {
		d.writes[i].op = store.Delete
	}
	d.add(left)
	d.next, d.gone = nil, true
	return nil
}

// records iterates over all records that hold addresses in the draft's pool, as they are planned to be.
func (a *attempt) records(d *draft) iter.Seq2[*holding, error] {
	return func(yield func(*holding, error) bool) {
		for h, err := range d.pool.home.all(a.ctx) {
			if err == nil && d.writing(h) {
				continue
			}
			if !yield(d.state().rules.current(h), err) || err != nil {
				return
			}
		}
		for _, w := range d.writes {
			if w.op != store.Delete && !yield(w.holding, nil) {
				return
			}
		}
	}
}

// cooling iterates over the records of the draft's pool, of which nothing in range is held.
func (a *attempt) cooling(d *draft) iter.Seq2[*holding, error] {
	s := d.state().space
	if !s.AnyOutOfRange() && s.Tally(space.Expiring) == 0 && s.Tally(space.Reserved) == 0 {
		return func(func(*holding, error) bool) {}
	}
	return a.records(d)
}

// Delete removes the pool of that name from the store, and from its network. The addresses of a delegated pool go back
// to its parent. Delete also removes what an unfinished [Import] has left behind.
//
// Errors: [ErrNoPool]; [ErrInUse] if any of its addresses is held, and then nothing has changed; [ErrBusy]; those of
// the store. Addresses that are cooling down or only reserved do not prevent it. Cost: two or three reads and one
// commit.
func Delete(ctx context.Context, s store.Store, name string, options *Options) error {
	p, err := newHandle(s, name, options)
	if err == nil {
		err = p.delete(ctx)
	}
	return wrapped(err, Error{Op: "delete", Pool: name})
}

func (p *Pool) delete(ctx context.Context) error {
	err := exclusively(ctx, func(a *attempt) error {
		d, err := a.present(p)
		switch {
		case errors.Is(err, ErrNoPool) && a.uncertain():
			return nil // an earlier attempt has taken effect
		case err != nil:
			return err
		}
		parent, network := d.state().parent, d.state().rules.Network
		if err := a.remove(d); err != nil {
			return err
		}
		if parent.isZero() {
			err = a.leave(p, network)
		} else {
			err = a.giveBack(d, parent)
		}
		return err
	}, p)
	if errors.Is(err, ErrUnfinished) {
		return p.deleteUnfinished(ctx)
	}
	return err
}
