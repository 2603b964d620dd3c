package kube

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// Turn implements [store.Store].
func (s *Store) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	return s.turns.Turn(ctx, s.Get, keys...)
}

// turn is how a commit announces in its head's object that it is the next one. It guards nothing: who heeds no turn, or
// heeds it no longer, is refused or gets through as without it.
//
// Of several that commit to one head at once one gets through, and what the others have written by then was for
// nothing. With many records and many handles that would be nearly all that the server does. So a handle that has lost
// looks at the head before it writes any record, and takes its turn, or waits while somebody else has it.
type turn struct {
	id      string // of the commit; empty if nobody has the turn
	records int    // that it is about to write beside the head
}

// lastTurnPause is the longest time between two looks at a head that is somebody else's turn.
const lastTurnPause = time.Second

// patience returns how long the others wait for a turn: p, and a hundredth of it more for each record.
func (u turn) patience(p time.Duration) time.Duration { return p + p*time.Duration(u.records)/100 }

// takeTurn returns the head's object as the commit may go on with it: as it is if nobody is in the way, and with the
// commit's turn in it if this handle has lost lately. It waits a while, and returns errAgain, if somebody else has the
// turn.
func (t *transaction) takeTurn(ctx context.Context, head *object) (*object, error) {
	rivals := t.rivalry()
	switch {
	case head.value == nil || head.turn.id == t.id, head.turn.id == "" && rivals == 0:
		return head, nil
	case head.turn.id != "" && t.waited[head.turn.id] <= head.turn.patience(t.options.Patience):
		t.rivals.lost(head.ref)
		wait := min(firstPause<<min(rivals, 16), lastTurnPause)
		t.waited[head.turn.id] += wait
		if err := t.Store.pause(ctx, jitter(wait)); err != nil {
			return nil, err
		}
		return nil, errAgain
	}
	next := *head
	next.turn = turn{t.id, len(t.intents)}
	stored, err := t.api.Update(ctx, &next)
	if errors.Is(err, errMoved) || errors.Is(err, errAbsent) {
		t.rivals.lost(head.ref)
		return nil, errAgain
	}
	return stored, err
}

// rivalry returns how often this handle has lost the head lately. It is 0 for a commit of several heads: the others of
// them are records to it, and a turn at one would keep nobody from these.
func (t *transaction) rivalry() int {
	if t.several {
		return 0
	}
	return t.rivals.of(t.head.ref)
}

// rivals counts, for each head, how often this handle has lost it to others lately.
type rivals struct {
	mu     sync.Mutex
	losses map[ref]int
}

func newRivals() *rivals { return &rivals{losses: make(map[ref]int)} }

func (r *rivals) of(head ref) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.losses[head]
}

func (r *rivals) lost(head ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.losses[head]; !ok && len(r.losses) >= maxCached {
		clear(r.losses)
	}
	r.losses[head]++
}

// won halves what is counted: after a few commits that nobody was in the way of, the handle commits again without
// looking first.
func (r *rivals) won(head ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.losses[head] /= 2; r.losses[head] == 0 {
		delete(r.losses, head)
	}
}
