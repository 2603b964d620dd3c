package mysql

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipalloc/ipalloc/store"
)

// Watch implements [store.Store]. MySQL cannot notify, so one goroutine for all waiting calls of one Store asks for the
// revisions that they wait at, ten times in a second and in one statement. If that fails, Watch returns the error.
//
// Cost: one round trip at the beginning and one at the end, and ten in each second for all waiting calls together.
func (s *Store) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	if err := key.Validate(); err != nil {
		return store.Record{}, err
	}
	if r, changed, err := s.look(ctx, key, revision); changed {
		return r, err
	}
	r, err := s.wait(ctx, key, revision)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return r, s.wrap(fmt.Errorf("watch %v: %w", key, s.failed(ctx, err)))
	}
	return r, err
}

// look reads the record, and reports whether Watch is to return what it read.
func (s *Store) look(ctx context.Context, key store.Key, revision int64) (r store.Record, changed bool, err error) {
	r, err = s.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return r, revision != 0, err
	}
	return r, err != nil || r.Revision != revision, err
}

// wait looks each time that the record may have changed.
func (s *Store) wait(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	w, err := s.poller.enter(key, revision)
	if err != nil {
		return store.Record{}, err
	}
	defer s.poller.leave(w)
	for {
		select {
		case err := <-w.wake:
			if err != nil {
				return store.Record{}, err
			}
		case <-ctx.Done():
			return store.Record{}, ctx.Err()
		}
		if r, changed, err := s.look(ctx, key, revision); changed {
			return r, err
		}
	}
}
