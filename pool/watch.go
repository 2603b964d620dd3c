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
// address becomes free, by a release through any handle in any process, or because a lease or a cooldown ends. The wait
// ends with the context.
//
// Calls that wait on one handle form a line, and are served in order of arrival. A call that arrives while others wait
// for the same thing goes to the end of the line. A claim for something else (another family, length, set or exact
// prefix) need not wait for earlier claims that cannot be met, but it gets nothing that would meet one of their
// requests. So a claim for much may wait for as long as others take the little that becomes free. [Pool.Allocate] does
// not stand in line: it takes what is free, as always.
//
// The lines of several handles, in several processes too, share what becomes free. Handles that commit for one another
// (see [store.Grouper]) serve first who has waited longest of all that are in the commit. Otherwise what is released
// through a handle goes to its own line, in the same commit, unless a call of Allocate that shares it takes that. But
// if others change the pool too, the handle leaves what it releases to them for the time of a few commits, after 16
// releases at the latest. Among handles there is no strict order.
//
// If the owner is granted the same through another handle meanwhile, the call returns that when its turn comes, or
// within about a second.
//
// Errors: as for [Pool.Allocate]; [ErrExhausted] and [ErrTaken] come only together with the context's error. An error
// of the store while watching ends all calls that wait on the handle.
//
// Cost while waiting: as for [Pool.Watch], once for each handle, however many calls wait. A release through this handle
// serves the front of the line in its own commit. A change through another handle costs a check of the waiting claims,
// with a read only if leases or cooldowns are in the way, and one commit if any claim can be granted. A line that got
// nothing from 32 such changes lets the other handles know, which costs a read and a commit. Joining a line costs one
// read.
func (p *Pool) AllocateWait(ctx context.Context, claim Claim) (Allocation, error) {
	return p.observeOne(ctx, "AllocateWait", Allocate(claim), func(ctx context.Context) (Allocation, error) {
		err := claim.prepare(&p.sets)
		if err == nil {
			err = ctx.Err()
		}
		var a Allocation
		if err == nil {
			w := newWaiter(ctx, task{kind: taskAllocate, owner: claim.Owner, claim: &claim})
			w.since = p.options.Clock()
			a, err = p.queue(w)
		}
		return a, p.failed("allocate", claim.Owner, err)
	})
}

// nextEnd is when a lease or a cooldown ends that may be why a claim was refused; zero if there is none.
func nextEnd(err error) time.Time {
	var exhausted *exhaustedError
	var taken *takenError
	var elsewhere *elsewhereError
	switch {
	case errors.As(err, &elsewhere):
		return elsewhere.next
	case errors.As(err, &exhausted):
		return exhausted.next
	case errors.As(err, &taken):
		return taken.next
	}
	return time.Time{}
}

// Change is a change of a pool; see [Pool.Watch]. It belongs to the caller.
type Change struct {
	// Revision is the pool's revision after the change.
	Revision int64
	// Freed and Taken are the addresses that became free, or were taken, since the previous change. An address that did
	// both in between is in neither. Addresses that were added to the pool are in Freed. Those that were removed from
	// it are in Taken if they were free.
	Freed, Taken []netipx.IPRange
	// Stats are the counts after the change.
	Stats []Stats
}

// Watch iterates over the changes of the pool, made through any handle in any process, after the revision since: that
// of an [Info] or of an earlier Change. It waits for changes until the context ends or the loop is left. Changes close
// together are yielded as one. If the pool is already past since, the first Change is yielded at once. Because no
// history is kept, its Freed then has all free addresses, and its Taken is empty: a caller that does not know the pool
// sees all of it. A since of 0 always begins like that.
//
// The context's error, [ErrNoPool] when the pool is deleted, and errors of the store end the iteration.
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
