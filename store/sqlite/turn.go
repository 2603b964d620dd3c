package sqlite

import (
	"context"
	"fmt"
	"slices"

	"github.com/ipalloc/ipalloc/store"
)

// Turn implements [store.Store]. There is one line for the whole file, in which calls of all processes wait, and
// commits too; on systems other than Linux it is one for each Store.
//
// Cost: some microseconds, one read of each head, and the time for which others have their turns. A process that was
// killed is noticed within some milliseconds.
func (s *Store) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.wrap(err)
	}
	if err := store.ValidateTurn(keys...); err != nil {
		return nil, err
	}
	end, err := s.line.wait(ctx)
	if err != nil {
		return nil, s.wrap(fmt.Errorf("wait for a turn at %v: %w", keys[0], err))
	}
	heads, err := s.GetAll(ctx, keys...)
	if err != nil {
		end()
		return nil, err
	}
	return &turn{store: s, heads: heads, end: end}, nil
}

// turn is a place in the line that has come to its front.
type turn struct {
	store *Store
	heads []store.Record
	end   func()
	over  bool
}

// Heads implements [store.Turn].
func (t *turn) Heads() []store.Record { return t.heads }

// End implements [store.Turn].
func (t *turn) End() {
	t.over = true
	t.end()
}

// hasTurn reports whether one of the changes has a turn of this Store that has not ended.
func (s *Store) hasTurn(changes []store.Change) bool {
	return slices.ContainsFunc(changes, func(c store.Change) bool {
		t, ok := c.Turn.(*turn)
		return ok && t.store == s && !t.over
	})
}
