package storetest_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// watchFunc is what a wrapper replaces Watch with, given the store beneath.
type watchFunc = func(s store.Store, ctx context.Context, key store.Key, revision int64) (store.Record, error)

func withWatch(watch watchFunc) func() storetest.Backend {
	return wrapped(func(s store.Store) store.Store {
		return altered{Store: s, watch: func(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
			return watch(s, ctx, key, revision)
		}}
	})
}

// next waits for the next change, whatever is there already.
func next(s store.Store, ctx context.Context, key store.Key) (store.Record, error) {
	r, err := s.Get(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return r, err
	}
	return s.Watch(ctx, key, r.Revision)
}

func watchBreaches() []breach {
	return []breach{
		{"Watch waits for the next change", "watch/changed already",
			withWatch(func(s store.Store, ctx context.Context, key store.Key, _ int64) (store.Record, error) {
				return next(s, ctx, key)
			})},
		{"Watch waits for a deleted record to come again", "watch/changed already",
			withWatch(func(s store.Store, ctx context.Context, key store.Key, revision int64) (store.Record, error) {
				r, err := s.Watch(ctx, key, revision)
				if errors.Is(err, store.ErrNotFound) {
					return s.Watch(ctx, key, 0)
				}
				return r, err
			})},
		{"any commit wakes a Watch", "watch/waits",
			withWatch(func(s store.Store, ctx context.Context, key store.Key, revision int64) (store.Record, error) {
				if r, err := s.Get(ctx, key); err == nil && r.Revision == revision {
					aside, _ := s.Get(ctx, store.Key{Kind: store.KindPool, Pool: "aside"})
					s.Watch(ctx, aside.Key, aside.Revision)
					return s.Get(ctx, key)
				}
				return s.Watch(ctx, key, revision)
			})},
		{"Watch does not wait for what is missing", "watch/waits",
			withWatch(func(s store.Store, ctx context.Context, key store.Key, revision int64) (store.Record, error) {
				if r, err := s.Get(ctx, key); err != nil {
					return r, err
				}
				return s.Watch(ctx, key, revision)
			})},
		{"only heads are watched", "watch/every record",
			withWatch(func(s store.Store, ctx context.Context, key store.Key, revision int64) (store.Record, error) {
				key.Name = ""
				if key.Kind != store.KindPool {
					key.Kind = "none"
				}
				return s.Watch(ctx, key, revision)
			})},
		{"changes between two calls are missed", "watch/misses nothing",
			withWatch(func(s store.Store, ctx context.Context, key store.Key, _ int64) (store.Record, error) {
				time.Sleep(5 * time.Millisecond)
				return next(s, ctx, key)
			})},
		{"one Watch holds up the next", "watch/many", wrapped(func(s store.Store) store.Store {
			var mu sync.Mutex
			return altered{Store: s, watch: func(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
				mu.Lock()
				defer mu.Unlock()
				return s.Watch(ctx, key, revision)
			}}
		})},
		{"a Watch takes a connection of a few", "watch/many", wrapped(func(s store.Store) store.Store {
			connections := make(chan struct{}, 10)
			use := func() func() {
				connections <- struct{}{}
				return func() { <-connections }
			}
			return altered{Store: s,
				commitAll: func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
					defer use()()
					return s.Commit(ctx, changes...)
				},
				watch: func(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
					defer use()()
					return s.Watch(ctx, key, revision)
				}}
		})},
		{"Watch ignores its context", "watch/context ends",
			withWatch(func(s store.Store, ctx context.Context, key store.Key, revision int64) (store.Record, error) {
				if ctx.Err() != nil {
					return store.Record{}, ctx.Err()
				}
				return s.Watch(context.WithoutCancel(ctx), key, revision)
			})},
		{"a Watch that is left takes the others with it", "watch/context ends", wrapped(func(s store.Store) store.Store {
			all, leave := context.WithCancel(context.Background())
			return altered{Store: s, watch: func(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
				go func() {
					select {
					case <-ctx.Done():
						leave()
					case <-all.Done():
					}
				}()
				return s.Watch(all, key, revision)
			}}
		})},
		{"Close does not end a Watch", "watch/close", wrapped(func(s store.Store) store.Store {
			open := s.(*store.Memory).Open()
			return altered{Store: s, watch: func(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
				return open.Watch(ctx, key, revision)
			}}
		})},
		{"Close says that the context has ended", "watch/close",
			withWatch(func(s store.Store, ctx context.Context, key store.Key, revision int64) (store.Record, error) {
				r, err := s.Watch(ctx, key, revision)
				if errors.Is(err, store.ErrClosed) {
					err = context.Canceled
				}
				return r, err
			})},
		{"an invalid key is one that is missing", "watch/invalid key",
			withWatch(func(s store.Store, ctx context.Context, key store.Key, revision int64) (store.Record, error) {
				r, err := s.Watch(ctx, key, revision)
				if errors.Is(err, store.ErrInvalid) {
					time.Sleep(time.Millisecond)
					err = store.ErrNotFound
				}
				return r, err
			})},
	}
}
