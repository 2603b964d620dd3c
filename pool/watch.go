package pool

import (
	"context"
	"errors"
	"iter"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// AllocateWait is [Pool.Allocate] for callers that can wait. While nothing free meets the claim, it waits until an
// address becomes free: by a release, or because a lease or a cooldown ends, through whichever handle in whichever
// process. It ends with the context.
//
// Calls that wait on one handle form a line, and are served in the order in which they came. A call that comes while
// others wait for the same goes to the end of the line. A claim that asks for something else (another family, length,
// set or exact prefix) does not wait for those before it whose requests cannot be met, but gets nothing that would meet
// one of them. So a claim for much may wait as long as others take the little that becomes free. [Pool.Allocate] does
// not stand in the line: it takes what is free, as it always does.
//
// Lines of several handles, also in several processes, share what becomes free. What is released through a handle is
// mostly granted to its own line, in the same commit. Now and then, at least once in 64 releases and more often if
// others take it, the handle leaves it to others, for the time of a few commits. No order is kept among handles.
//
// An owner that is granted the same through another handle while it waits is told so when its turn comes, or within
// about a second.
//
// Errors: as for [Pool.Allocate]; [ErrExhausted] and [ErrTaken] come only together with the context's. An error of the
// store while it watches ends all calls that wait on the handle.
//
// Cost while it waits: as for [Pool.Watch], once for each handle, however many wait. A release through this handle
// serves the first of the line in its own commit. A change through another handle costs a look at the claims, without a
// read unless leases or cooldowns are in the way, and one commit if any can be granted. Joining a line costs one read.
func (p *Pool) AllocateWait(ctx context.Context, claim Claim) (Allocation, error) {
	s := StepBegin{Owner: claim.Owner, Claim: claim}
	return p.observeOne(ctx, "AllocateWait", s, func(ctx context.Context) (Allocation, error) {
		err := claim.prepare(&p.sets)
		if err == nil {
			err = ctx.Err()
		}
		var a Allocation
		if err == nil {
			w := newWaiter(ctx, task{kind: taskAllocate, owner: claim.Owner, claim: &claim})
			a, err = p.queue(w)
		}
		return a, p.failed("allocate", claim.Owner, err)
	})
}

// nextEnd is when a lease or a cooldown ends that may be why a claim was refused; zero if there is none.
func nextEnd(err error) time.Time {
	var exhausted *ExhaustedError
	var taken *TakenError
	switch {
	case errors.As(err, &exhausted):
		return exhausted.Next
	case errors.As(err, &taken):
		return taken.Next
	}
	return time.Time{}
}

// Change is what has changed in a pool; see [Pool.Watch]. It is the caller's.
type Change struct {
	// Revision is that of the pool after it.
	Revision int64
	// Freed and Taken are the addresses that became free, or were taken, since the change before. An address that did
	// both in between is in neither. Addresses that were added to the pool are in Freed. Those that were removed from it
	// are in Taken, if they were free.
	Freed, Taken []netipx.IPRange
	// Stats are the counts after it.
	Stats Stats
}

// Watch iterates over what changes in the pool, through whichever handle in whichever process, from the revision
// since on: that of an [Info] or of an earlier Change. It waits for changes until the context ends or the loop is
// left. Changes that come close together come up as one. If the pool is already past since, the first Change comes at
// once. It then has in Freed all that is free, and nothing in Taken, because no history is kept: so a caller that
// does not know the pool sees the whole of it. A since of 0 always begins like that.
//
// The context's end, [ErrNoPool] when the pool is deleted, and errors of the store are yielded as the last error.
//
// Cost: while nothing changes, that of [store.Store.Watch]; for each change one read and O(runs of free addresses).
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
