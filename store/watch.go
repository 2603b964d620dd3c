package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// WatchByPolling is [Store.Watch] for a driver whose backend cannot notify it of changes. It reads the record once in
// each interval, of at least a millisecond. The argument get is the driver's own [Store.Get]:
//
//	func (s *Store) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
//		return store.WatchByPolling(ctx, s.Get, key, revision, time.Second)
//	}
//
// It may miss revisions that are replaced between two reads, but never the last one. After the store is closed, the
// next read ends it. Cost: one Get in each interval.
func WatchByPolling(ctx context.Context, get func(context.Context, Key) (Record, error),
	key Key, revision int64, interval time.Duration,
) (Record, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		r, err := get(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound) && revision == 0:
		case err != nil || r.Revision != revision:
			return r, err
		}
		timer.Reset(max(interval, time.Millisecond))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return Record{}, fmt.Errorf("watch %v: %w", key, ctx.Err())
		}
	}
}
