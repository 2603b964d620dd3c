package store

import (
	"context"
	"errors"
	"iter"
	"net/netip"
)

// watchingCoordinator is a coordinator over a store that watches.
type watchingCoordinator struct {
	*coordinator
	watcher Watcher
}

var (
	_ SeveralStore = (*coordinator)(nil)
	_ Finder       = (*coordinator)(nil)
	_ Expirer      = (*coordinator)(nil)
	_ Watcher      = (*watchingCoordinator)(nil)
)

// Get implements [Store].
func (c *coordinator) Get(ctx context.Context, key Key) (Record, error) {
	for {
		r, err := c.inner.Get(ctx, key)
		if err != nil || preparedIn(&r) == nil {
			return r, err
		}
		if err := c.resolve(ctx, r); err != nil {
			return Record{}, err
		}
	}
}

// List implements [Store].
func (c *coordinator) List(ctx context.Context, kind Kind, pool string) iter.Seq2[Record, error] {
	return c.resolved(ctx, c.inner.List(ctx, kind, pool), func(Record, Record) bool { return true })
}

// ByExpiry implements [Expirer].
func (c *coordinator) ByExpiry(ctx context.Context, kind Kind, pool string) iter.Seq2[Record, error] {
	return c.resolved(ctx, ByExpiry(ctx, c.inner, kind, pool), func(met, now Record) bool { return now.Expires.Equal(met.Expires) })
}

// resolved yields records, those that are prepared heads as they are once they are resolved, if they still exist and keep.
func (c *coordinator) resolved(ctx context.Context, records iter.Seq2[Record, error], keep func(met, now Record) bool) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for r, err := range records {
			if err == nil && preparedIn(&r) != nil {
				met := r
				r, err = c.Get(ctx, met.Key)
				if errors.Is(err, ErrNotFound) || err == nil && !keep(met, r) {
					continue
				}
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// Find implements [Finder].
func (c *coordinator) Find(ctx context.Context, pool string, addr netip.Addr) (Record, error) {
	for {
		r, err := Find(ctx, c.inner, pool, addr)
		if err != nil || preparedIn(&r) == nil {
			return r, err
		}
		if err := c.resolve(ctx, r); err != nil {
			return Record{}, err
		}
	}
}

// Watch implements [Watcher].
func (w *watchingCoordinator) Watch(ctx context.Context, key Key, revision int64) (Record, error) {
	for {
		r, err := w.watcher.Watch(ctx, key, revision)
		if err != nil || preparedIn(&r) == nil {
			return r, err
		}
		r, err = w.Get(ctx, key)
		missing := errors.Is(err, ErrNotFound)
		if missing && revision == 0 || err == nil && r.Revision == revision {
			continue
		}
		return r, err
	}
}

// Commit implements [Store].
func (c *coordinator) Commit(ctx context.Context, head Record, writes []Write) (Record, error) {
	for {
		done, err := c.inner.Commit(ctx, head, writes)
		if err == nil {
			return done, nil
		}
		var conflict *ConflictError
		var exists *ExistsError
		switch {
		case errors.As(err, &conflict) && preparedIn(&conflict.Current) != nil:
			_, err = c.expect(ctx, head)
		case errors.As(err, &exists) && anyPrepared(exists.Records):
			err = c.expectNone(ctx, []Change{{Head: head, Writes: writes}})
		}
		if err != nil {
			return Record{}, err
		}
	}
}

func anyPrepared(records []Record) bool {
	for i := range records {
		if preparedIn(&records[i]) != nil {
			return true
		}
	}
	return false
}

// Close implements [Store]. It closes the inner store.
func (c *coordinator) Close() error { return c.inner.Close() }
