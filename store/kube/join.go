package kube

import (
	"context"
	"slices"

	"github.com/ipalloc/ipalloc/store"
)

// Join implements [store.Grouper], for the callers of one process that are the same user of one API server and
// namespace, through whichever handles: the one that has its turn commits for those of them that wait. Callers of other
// processes have turns of their own. Cost: as [Store.Turn]; no request if the caller is answered.
func (s *Store) Join(ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if err := store.ValidateJoin(key, ask); err != nil {
		return nil, err
	}
	waiting, t, cancel := s.enter(ctx, key)
	defer cancel()
	joined, err := s.lobby.turns.Join(waiting, t.atHead, key, ask)
	if err != nil {
		t.End()
		return nil, s.unlessClosed(err)
	}
	t.leave = joined.End
	g := &groupTurn{joined, t}
	s.held.Store(t, true)
	if s.closing.Err() != nil || g.isAnswered() {
		g.End()
		if !g.isAnswered() { // nor in the meantime
			return nil, store.ErrClosed
		}
	}
	return g, nil
}

// isAnswered reports whether the ask is answered, or may be.
func (g *groupTurn) isAnswered() bool {
	answer, _, unknown := g.Answered()
	return answer != nil || unknown != nil
}

// atHead waits for the turn at the server once it is the caller's in this process, and returns the head. Later it only
// reads that.
func (t *turn) atHead(ctx context.Context, key store.Key) (store.Record, error) {
	if t.sent > 0 {
		return t.store.Get(ctx, key)
	}
	if err := t.queueUp(ctx, key); err != nil {
		return store.Record{}, err
	}
	return t.head(ctx, key)
}

// groupTurn is a turn of Join: that in the line of this process, and with it that at the server.
type groupTurn struct {
	store.GroupTurn
	turn *turn
}

// End implements [store.Turn].
func (g *groupTurn) End() { g.turn.End() }

// inProcess returns the changes with the turns that this process's line knows.
func inProcess(changes []store.Change) []store.Change {
	own := slices.Clone(changes)
	for i := range own {
		if g, ok := own[i].Turn.(*groupTurn); ok {
			own[i].Turn = g.GroupTurn
		}
	}
	return own
}
