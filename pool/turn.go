package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipalloc/ipalloc/store"
)

// How handles that commit to one head at once get through, each in its turn.
//
// An attempt is made at once, on the head that the handle knows, because mostly nobody else commits to it: that is one
// round trip. Of several handles that do so at once, one gets through, and would get through again and again: it knows
// the new head first. So a handle that loses more than now and then asks the store for its turn ([store.Store.Turn]),
// plans on the head as it is then, and commits. It goes on to ask for turns until a few of them have found the head as
// it left it.

// The rivalry of a pool's handle is how much it loses its head to others: from 0 to mostRivalry. It rises when the
// handle loses, and falls by one with each commit before which nobody else has committed.
const (
	turnRivalry = 4 // above this, the handle takes turns
	lossRivalry = 4 // what a conflict adds
	mostRivalry = 8
)

// lose notes that another handle was faster.
func (s *stored) lose() { s.rivalry = min(s.rivalry+lossRivalry, mostRivalry) }

// win notes that a commit found the head as this handle had left it.
func (s *stored) win() { s.rivalry = max(s.rivalry-1, 0) }

// Ready implements [group.Runner]: if others have been faster lately, it waits for the op's turn, unless it can wait
// together with the others of its batch.
func (r *runner) Ready(own *op) {
	if own.looks || !own.hasRivals() || own.mayJoin() {
		return
	}
	ctx, cancel := own.patience()
	defer cancel()
	// Without a turn the attempt is made all the same: what keeps the store from giving one comes up there.
	turn, err := own.pools[0].home.(*stored).store.Turn(ctx, own.turnHeads()...)
	if err != nil {
		r.noTurn = err
		return
	}
	r.turn = turn
}

// turnless is the error of a call whose time ended, with err, before it had its turn.
func turnless(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTurn, err)
	}
	return err
}

// afterWait is the error err of an attempt. If that ran out of time, and had no turn because the time for that ran out
// too, it says so. It does not wrap why there was no turn, which is not why the attempt failed.
func (r *runner) afterWait(err error) error {
	if errors.Is(r.noTurn, context.DeadlineExceeded) && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w (%s), and then: %w", ErrTurn, r.noTurn.Error(), err)
	}
	return err
}

// mayJoin reports whether the op, and others of its batch, can wait for a turn in which handles commit for one another.
func (o *op) mayJoin() bool {
	_, ok := o.pools[0].home.(*stored).store.(store.Grouper)
	return ok && o.plan == nil && len(o.turnHeads()) == 1
}

// patience returns the context in which the op waits for its turn.
func (o *op) patience() (context.Context, context.CancelFunc) {
	ctx := o.ctx
	if o.uncertain {
		ctx = o.deadline
	}
	return context.WithTimeout(ctx, o.pools[0].options.CommitTimeout)
}

// hasRivals reports whether others have been faster lately.
func (o *op) hasRivals() bool {
	return slices.ContainsFunc(o.pools, func(p *Pool) bool { return p.home.(*stored).rivalry > turnRivalry })
}

// needsTurn reports whether the attempt is to be made again in a turn: it was to find out whether there is anything to
// commit, and there is.
func (a *attempt) needsTurn() bool {
	first := a.batch[0]
	if !first.looks || !first.hasRivals() || a.turn != nil {
		return false
	}
	if !a.hasChanges() {
		return false
	}
	first.looks, first.lost = false, true
	return true
}

// turnHeads returns the heads that the op wants to replace, as far as it knows.
func (o *op) turnHeads() []store.Key {
	keys := make([]store.Key, len(o.pools), len(o.pools)+len(o.heads))
	for i, p := range o.pools {
		keys[i] = headKey(p.name)
	}
	for _, key := range o.heads {
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// meet takes the heads of the attempt's turn as those of its pools.
func (a *attempt) meet() {
	if a.turn == nil {
		return
	}
	for _, head := range a.turn.Heads() {
		for _, p := range a.batch[0].pools {
			if head.Key == headKey(p.name) {
				p.home.(*stored).meet(a.ctx, head)
			}
		}
	}
}

// meet takes the head with which a turn begins.
func (s *stored) meet(ctx context.Context, head store.Record) {
	if head.Revision != s.head.Revision {
		s.rivalry = mostRivalry
	} else if s.known != nil {
		return
	}
	if head.Revision == 0 || s.adopt(ctx, head) != nil {
		s.forget()
	}
}
