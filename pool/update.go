package pool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/store"
)

// Update changes the pool to a new spec, all of it or not at all: other ranges, exclusions, subnets, gateways, families, and how addresses are
// handed out. What is held stays held. It is refused if an address that is held would be none that the pool hands out any more: outside of the
// ranges, excluded, a gateway, or reserved.
//
// Other handles, in other processes too, go by the new spec from their next change on.
//
// Errors: [ErrInvalid]; [ErrStranded], with the list, see [StrandedError] and [Pool.Drain]; [ErrOverlap] if ranges overlap with another pool of
// the network; [ErrBusy]; those of the store. After each of them nothing has changed, except after [store.ErrUnknown]. The spec of a pool
// that was carved from another can neither be given ranges outside of what it was carved from, nor another network.
//
// Cost: one commit, and O(runs of free addresses); O(allocations) if any are stranded, out of range, or would be.
func (p *Pool) Update(ctx context.Context, spec Spec) error {
	return p.failed("update", "", p.update(ctx, spec, false))
}

// Drain is [Pool.Update] for a pool that is to give up addresses which are still held: these stay held until they are released, or until their
// lease ends, are counted as [FamilyStats.OutOfRange], and are never handed out again.
func (p *Pool) Drain(ctx context.Context, spec Spec) error {
	return p.failed("drain", "", p.update(ctx, spec, true))
}

func (p *Pool) update(ctx context.Context, spec Spec, drain bool) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	return p.exclusively(ctx, func(ctx context.Context) error {
		if p.store == nil {
			return p.updateInMemory(ctx, spec, drain)
		}
		return p.retry(ctx, func() error { return p.updateInStore(ctx, spec, drain) })
	})
}

func (p *Pool) updateInMemory(ctx context.Context, spec Spec, drain bool) error {
	if err := needsStore(spec); err != nil {
		return err
	}
	p.time = p.now()
	rebuilt, err := p.rebuilt(ctx, spec, nil, drain)
	if err != nil {
		return err
	}
	p.ledger = rebuilt
	p.clock++
	p.wakeWaiting()
	return nil
}

func (p *Pool) updateInStore(ctx context.Context, spec Spec, drain bool) error {
	if err := p.catchUp(ctx); err != nil {
		return err
	}
	if err := p.fence(ctx); err != nil {
		return err
	}
	changes, foreign, err := p.networkChanges(ctx, spec)
	if err != nil {
		return err
	}
	rebuilt, err := p.rebuilt(ctx, spec, foreign, drain)
	if err != nil {
		return err
	}
	next, err := p.replacement(rebuilt)
	if err != nil {
		return err
	}
	p.unsettled = p.head.Revision // until the answer is there
	heads, err := p.commitChanges(ctx, append([]store.Change{next.change}, changes...))
	if err != nil {
		p.ledger = nil
		return err
	}
	p.unsettled = 0
	p.ledger = rebuilt
	p.committed(heads[0], next)
	clear(p.held)
	return nil
}

// networkChanges are what a new spec changes in the networks that the pool is in, was in or comes into, and what is foreign to it
// there.
func (p *Pool) networkChanges(ctx context.Context, spec Spec) ([]store.Change, []netipx.IPRange, error) {
	old := p.ledger.spec.Spec
	if p.parent != nil {
		return p.childChanges(ctx, spec)
	}
	var changes []store.Change
	if old.Network != spec.Network {
		if err := p.withoutChildren(ctx); err != nil {
			return nil, nil, err
		}
	}
	if old.Network != "" && old.Network != spec.Network {
		change, err := p.leaving(ctx, old.Network)
		if err != nil {
			return nil, nil, err
		}
		changes = append(changes, change)
	}
	if spec.Network == "" {
		return changes, nil, nil
	}
	n, err := readNetwork(ctx, p.store, spec.Network)
	if err != nil {
		return nil, nil, err
	}
	if err := n.admit(p.name, spec); err != nil {
		return nil, nil, err
	}
	change, err := n.change()
	return append(changes, change), n.foreignIn(spec), err
}

// childChanges is networkChanges for a pool that was carved from another. The network's record is committed as it is, so that nobody changes
// what is foreign meanwhile.
func (p *Pool) childChanges(ctx context.Context, spec Spec) ([]store.Change, []netipx.IPRange, error) {
	if err := p.checkChild(ctx, spec); err != nil || spec.Network == "" {
		return nil, nil, err
	}
	n, err := readNetwork(ctx, p.store, spec.Network)
	if err != nil {
		return nil, nil, err
	}
	change, err := n.change()
	return []store.Change{change}, n.foreignIn(spec), err
}

// withoutChildren refuses what cannot be done while pools are carved from this one.
func (p *Pool) withoutChildren(ctx context.Context) error {
	for h, err := range p.all(ctx) {
		switch {
		case err != nil:
			return err
		case h.Child != "":
			return fmt.Errorf("the network cannot be changed: %w", &delegatedError{h.Child})
		}
	}
	return nil
}

// leaving is the change that takes the pool out of a network.
func (p *Pool) leaving(ctx context.Context, name string) (store.Change, error) {
	n, err := readNetwork(ctx, p.store, name)
	if err != nil {
		return store.Change{}, err
	}
	delete(n.ranges, p.name)
	return n.change()
}

// replacement prepares a head that has l in the place of the present ledger.
func (p *Pool) replacement(l *ledger) (prepared, error) {
	d := p.draft()
	for _, s := range p.ledger.spaces {
		for _, piece := range s.pieces {
			if piece.ID != "" {
				d.writes = append(d.writes, store.Write{Op: store.Delete, Record: store.Record{Key: d.key(piece.ID)}})
			}
		}
	}
	return p.finishDraft(l, d)
}

// rebuilt returns the ledger that the pool has with another spec. What is held and is none that the new spec hands out is an error, unless
// drain.
func (p *Pool) rebuilt(ctx context.Context, spec Spec, foreign []netipx.IPRange, drain bool) (*ledger, error) {
	l, err := p.emptyLedger(spec, foreign)
	if err != nil {
		return nil, err
	}
	l.tallies.expiring, l.tallies.strays = p.ledger.tallies.expiring, p.ledger.tallies.strays
	l.keepCursors(p.ledger)
	if p.movesWhole(l) {
		return l, nil
	}
	// Some of what is held is out of range, or will be: only the records say what belongs together.
	if l, err = p.emptyLedger(spec, foreign); err != nil {
		return nil, err
	}
	l.keepCursors(p.ledger)
	var stranded []Allocation
	for h, err := range p.all(ctx) {
		if err != nil {
			return nil, err
		}
		if h.live() && !h.Expired(p.now()) && slices.ContainsFunc(h.Prefixes, func(prefix netip.Prefix) bool { return strands(p.ledger, l, prefix) }) {
			stranded = append(stranded, h.Allocation.clone())
		}
		l.hold(h)
	}
	if len(stranded) > 0 && !drain {
		return nil, &StrandedError{stranded}
	}
	l.forget()
	return l, nil
}

// strands tells whether any address of the prefix is one that the pool hands out, and would be none with next.
func strands(now, next *ledger, prefix netip.Prefix) bool {
	if one := []netip.Prefix{prefix}; next.covers(one) {
		return false
	}
	inside, _ := now.parts(prefix)
	return slices.ContainsFunc(inside, func(part netip.Prefix) bool { return !next.covers([]netip.Prefix{part}) })
}

// keepCursors makes l look first where old does, in the families that it has.
func (l *ledger) keepCursors(old *ledger) {
	for _, family := range l.spec.families {
		i := family.index()
		l.tallies.families[i].cursor = old.tallies.families[i].cursor
	}
}

// movesWhole takes in l all that is taken in the pool. It is false if l does not hand out all of that.
func (p *Pool) movesWhole(l *ledger) bool {
	for i, t := range p.ledger.tallies.families {
		if !t.outOfRange.IsZero() {
			return false
		}
		l.tallies.families[i].cooling = t.cooling
	}
	for _, old := range p.ledger.spaces {
		s, _ := l.space(old.family)
		taken := setOf(old.free.TakenRanges())
		if len(taken.Ranges()) == 0 {
			continue
		}
		if s == nil || len(cidr.Difference(taken, s.set).Ranges()) > 0 {
			return false
		}
		for _, prefix := range taken.Prefixes() {
			if s.free.Take(prefix) != nil {
				return false
			}
		}
	}
	return true
}

// hold takes what a record holds, as far as the pool hands it out, and counts the rest. It returns the prefixes of which something was taken
// already.
func (l *ledger) hold(h *holding) (twice []netip.Prefix) {
	l.count(expires(h), stray(h))
	for _, prefix := range h.Prefixes {
		family := FamilyOf(prefix.Addr())
		inside, outside := l.parts(prefix)
		t := l.tally(family)
		t.outOfRange = t.outOfRange.Add(outside)
		if h.cooling {
			t.cooling = t.cooling.Add(cidr.PrefixSize(prefix).Sub(outside))
		}
		s, _ := l.space(family)
		clash := false
		for _, part := range inside {
			clash = clash || !s.free.IsFree(part)
			s.takeRest(part)
		}
		if clash {
			twice = append(twice, prefix)
		}
	}
	l.forget()
	return twice
}

// all iterates over all records of the pool that hold addresses. For a pool in memory the caller holds p.mu.
func (p *Pool) all(ctx context.Context) iter.Seq2[*holding, error] {
	if p.store == nil {
		return p.allInMemory()
	}
	return func(yield func(*holding, error) bool) {
		for _, kind := range []store.Kind{store.KindAllocation, store.KindCooling} {
			for h, err := range holdings(p.store.List(ctx, kind, p.name)) {
				if !yield(h, err) || err != nil {
					return
				}
			}
		}
	}
}

// Delete removes the pool of that name from the store, and from its network. What a pool was carved from goes back to its parent.
//
// Errors: [ErrNoPool]; [ErrInUse] if any address of it is held, and nothing has changed then; [ErrBusy]; those of the store. Addresses that cool
// down are no hindrance. Cost: two or three reads and one commit.
func Delete(ctx context.Context, s store.Store, name string, options *Options) error {
	p, err := newHandle(s, name, options)
	if err == nil {
		err = p.retry(ctx, func() error { return p.deleteNow(ctx) })
	}
	if err != nil {
		return &Error{Op: "delete", Pool: name, Err: storeError(err)}
	}
	return nil
}

func (p *Pool) deleteNow(ctx context.Context) error {
	head, err := getHead(ctx, p.store, p.name)
	if errors.Is(err, ErrUnfinished) {
		return p.deleteUnfinished(ctx, head)
	}
	if err != nil {
		return err
	}
	data, spec, err := parseHead(head)
	if err != nil {
		return err
	}
	if data.Parent != nil {
		return p.uncarve(ctx, data.Parent)
	}
	change, err := p.deletion(ctx, head, data)
	if err != nil {
		return err
	}
	changes := []store.Change{change}
	if spec.Network != "" {
		change, err := p.leaving(ctx, spec.Network)
		if err != nil {
			return err
		}
		changes = append(changes, change)
	}
	_, err = p.commitChanges(ctx, changes)
	var conflict *store.ConflictError
	if errors.As(err, &conflict) && conflict.Current.Revision == 0 && conflict.Current.Key == head.Key {
		return ErrNoPool
	}
	return err
}

// deleteUnfinished deletes a pool whose import has not come to its end.
func (p *Pool) deleteUnfinished(ctx context.Context, head store.Record) error {
	p.head = head
	if err := p.clearRecords(ctx); err != nil {
		return err
	}
	_, err := p.commitOne(ctx, p.head, []store.Write{{Op: store.Delete, Record: store.Record{Key: head.Key}}})
	return err
}

// deletion is the change that deletes the pool, if nothing of it is held.
func (p *Pool) deletion(ctx context.Context, head store.Record, data headData) (store.Change, error) {
	change := store.Change{Head: head}
	remove := func(key store.Key) {
		change.Writes = append(change.Writes, store.Write{Op: store.Delete, Record: store.Record{Key: key}})
	}
	remove(head.Key)
	for _, space := range data.Spaces {
		if !space.Used.IsZero() {
			return change, fmt.Errorf("%w: %v of its %v addresses are held", ErrInUse, space.Used, space.Family)
		}
		for _, piece := range space.Pieces {
			if piece.ID != "" {
				remove(store.Key{Kind: store.KindSpace, Pool: head.Pool, Name: piece.ID})
			}
		}
	}
	if tallies := data.tallies(); data.Expiring == 0 && tallies.families[0].outOfRange.IsZero() && tallies.families[1].outOfRange.IsZero() {
		return change, nil
	}
	for h, err := range p.all(ctx) {
		if err != nil {
			return change, err
		}
		if h.live() { // out of range
			return change, fmt.Errorf("%w: %v is held, though out of range", ErrInUse, h.Prefixes)
		}
		remove(h.key(head.Pool))
	}
	return change, nil
}
