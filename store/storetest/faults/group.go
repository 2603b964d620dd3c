package faults

import (
	"context"
	"fmt"

	"github.com/ipalloc/ipalloc/store"
)

// grouping and reading are what a wrapped store has beside the methods of any. They are types of their own so that a
// wrapped store has them only if the inner one does.
type (
	grouping struct {
		of    *faulty
		inner store.Grouper
	}
	reading struct {
		of    *faulty
		inner store.Reader
	}
)

// Join has the turns of the inner store, which Commit hands on to it.
func (g grouping) Join(ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
	fault := g.of.enter(ctx, Call{Method: Join, Heads: 1, Key: key}, func(c *Counts) *int { return &c.Turn })
	if fault.Effect != LoseReply {
		if err := fault.read(Join); err != nil {
			return nil, err
		}
		return g.inner.Join(ctx, key, ask)
	}
	turn, err := g.inner.Join(ctx, key, ask)
	if err != nil {
		return nil, err
	}
	turn.End()
	return nil, fmt.Errorf("%s: %w: %w", Join, store.ErrUnknown, fault.err())
}

func (r reading) GetAll(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	call := Call{Method: GetAll}
	if len(keys) > 0 {
		call.Key = keys[0]
	}
	fault := r.of.enter(ctx, call, func(c *Counts) *int { return &c.GetAll })
	if err := fault.read(GetAll); err != nil {
		return nil, err
	}
	return r.inner.GetAll(ctx, keys...)
}
