package pool

import (
	"context"
	"errors"
	"iter"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// AllocateWait is [Pool.Allocate] for who can wait: while there is nothing free of what the claim asks for, it waits until an address frees, by a
// release, or since a lease or a cooldown ends, through whichever handle in whichever process. It ends with the context.
//
// Several that wait are not served in any order. Errors: as for [Pool.Allocate], with [ErrExhausted] and [ErrTaken] only together with the
// context's. Cost while it waits: what [Pool.Watch] costs, and one attempt for each change of the pool.
func (p *Pool) AllocateWait(ctx context.Context, claim Claim) (Allocation, error) {
	for {
		revision, err := p.home.current(ctx)
		if err != nil {
			return Allocation{}, p.failed("allocate", claim.Owner, err)
		}
		a, err := p.Allocate(ctx, claim)
		if !errors.Is(err, ErrExhausted) && !errors.Is(err, ErrTaken) {
			return a, err
		}
		if ended := p.home.wait(ctx, revision, nextEnd(err)); ended != nil {
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
			free, change, err := p.lookAtFree(ctx)
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
			if err := p.home.wait(ctx, since, time.Time{}); err != nil {
				yield(Change{}, p.failed("watch", "", err))
				return
			}
		}
	}
}

// lookAtFree returns what is free, by Family.index, and the revision and counts that go with it.
func (p *Pool) lookAtFree(ctx context.Context) (free []*netipx.IPSet, change Change, err error) {
	err = p.look(ctx, func(s *state) error {
		change = Change{Revision: p.home.revision(), Stats: statsOf(s.space.Counts())}
		free = make([]*netipx.IPSet, len(families))
		for _, f := range families {
			free[f.index()] = s.space.FreeSet(f.inSpace())
		}
		return nil
	})
	return free, change, err
}
