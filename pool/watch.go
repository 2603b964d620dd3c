package pool

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/store"
)

// AllocateWait is [Pool.Allocate] for who can wait: while there is nothing free of what the claim asks for, it waits until an address frees, by a
// release, or since a lease or a cooldown ends, through whichever handle in whichever process. It ends with the context.
//
// Several that wait are not served in any order. Errors: as for [Pool.Allocate], with [ErrExhausted] and [ErrTaken] only together with the
// context's. Cost while it waits: what [Pool.Watch] costs, and one attempt for each change of the pool.
func (p *Pool) AllocateWait(ctx context.Context, claim Claim) (Allocation, error) {
	for {
		revision, err := p.revision(ctx)
		if err != nil {
			return Allocation{}, p.failed("allocate", claim.Owner, err)
		}
		changed := p.nextChange()
		a, err := p.Allocate(ctx, claim)
		if !errors.Is(err, ErrExhausted) && !errors.Is(err, ErrTaken) {
			return a, err
		}
		if ended := p.wait(ctx, revision, changed, nextEnd(err)); ended != nil {
			return Allocation{}, p.failed("allocate", claim.Owner, errors.Join(ended, err))
		}
	}
}

// nextEnd is when a lease or a cooldown ends that may be why a claim was refused; zero if there is none.
func nextEnd(err error) time.Time {
	var exhausted *ExhaustedError
	var taken *takenError
	switch {
	case errors.As(err, &exhausted):
		return exhausted.Next
	case errors.As(err, &taken):
		return taken.next
	}
	return time.Time{}
}

// revision is that of the pool as this handle knows it, or as it is stored if it does not.
func (p *Pool) revision(ctx context.Context) (int64, error) {
	if p.store == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.clock, nil
	}
	head, err := getHead(ctx, p.store, p.name)
	return head.Revision, err
}

// nextChange returns a channel that is closed with the next change of a pool in memory. It is nil for one in a store.
func (p *Pool) nextChange() <-chan struct{} {
	if p.store != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		p.waiting = make(chan struct{})
	}
	return p.waiting
}

// wakeWaiting wakes those who wait for a change of a pool in memory. The caller holds p.mu.
func (p *Pool) wakeWaiting() {
	if p.waiting != nil {
		close(p.waiting)
		p.waiting = nil
	}
}

// wait returns when the pool has another revision, or at the time until, if that is not zero. An error means that there is no point in
// waiting any longer.
func (p *Pool) wait(ctx context.Context, revision int64, changed <-chan struct{}, until time.Time) error {
	within := ctx
	if !until.IsZero() {
		var cancel context.CancelFunc
		within, cancel = context.WithTimeout(ctx, max(until.Sub(p.options.Clock()), time.Millisecond))
		defer cancel()
	}
	if p.store == nil {
		select {
		case <-changed:
			return nil
		case <-within.Done():
			return ctx.Err()
		}
	}
	_, err := p.store.Watch(within, headKey(p.name), revision)
	switch {
	case err == nil, within.Err() != nil && ctx.Err() == nil:
		return nil
	case errors.Is(err, store.ErrNotFound):
		return ErrNoPool
	}
	return err
}

// Change is what has changed in a pool; see [Pool.Watch].
type Change struct {
	// Revision is that of the pool after it.
	Revision int64
	// Freed and Taken are the addresses that became free, or ceased to be, since the change before. An address that did both in between is in
	// neither. Addresses that were added to the pool are in Freed, and those that were removed from it in Taken, if they were free.
	Freed, Taken []netipx.IPRange
	// Stats are the counts after it.
	Stats Stats
}

// Watch iterates over what changes in the pool, through whichever handle in whichever process, from the revision since on: that of an [Info]
// or of an earlier Change. It waits for changes until the context ends or the loop is left. Changes that come close together come up as one. If
// the pool has already gone on from since, the first Change comes at once; since this library keeps no history, it then has in Freed all that
// is free and in Taken nothing, so that who does not know the pool sees the whole of it. A since of 0 always begins like that.
//
// The context's end, and [ErrNoPool] when the pool is deleted, are yielded as the last error, as are those of the store.
//
// Cost: nothing but a wait, see [store.Store]; for each change one read and O(runs of free addresses).
func (p *Pool) Watch(ctx context.Context, since int64) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		var before []*netipx.IPSet
		for {
			changed := p.nextChange()
			free, change, err := p.look(ctx)
			if err != nil {
				yield(Change{}, p.failed("watch", "", err))
				return
			}
			if change.Revision != since || before == nil && since == 0 {
				for _, f := range families {
					i := f.index()
					if before == nil {
						change.Freed = append(change.Freed, free[i].Ranges()...)
						continue
					}
					change.Freed = append(change.Freed, cidr.Difference(free[i], before[i]).Ranges()...)
					change.Taken = append(change.Taken, cidr.Difference(before[i], free[i]).Ranges()...)
				}
				if !yield(change, nil) {
					return
				}
			}
			before, since = free, change.Revision
			if err := p.wait(ctx, since, changed, time.Time{}); err != nil {
				yield(Change{}, p.failed("watch", "", err))
				return
			}
		}
	}
}

// look returns what is free, by Family.index, and the revision and counts that go with it.
func (p *Pool) look(ctx context.Context) (free []*netipx.IPSet, change Change, err error) {
	err = p.exclusively(ctx, func(ctx context.Context) error {
		if err := p.catchUp(ctx); err != nil {
			return err
		}
		change = Change{Revision: p.clock, Stats: slices.Clone(p.ledger.stats())}
		if p.store != nil {
			change.Revision = p.head.Revision
		}
		free = make([]*netipx.IPSet, len(families))
		for _, f := range families {
			free[f.index()] = &netipx.IPSet{}
			if s, _ := p.ledger.space(f); s != nil {
				free[f.index()] = setOf(s.free.FreeRanges())
			}
		}
		return nil
	})
	return free, change, err
}
