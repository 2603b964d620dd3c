package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/ipalloc/ipalloc/store"
)

// Watch implements [store.Store]. All waiting calls of one Store share one connection and one goroutine that reads it.
// They take the connection out of the pool, which may open another in its place, and keep it until no call has waited
// for a second. The connection needs a session of its own, so a pooler that shares sessions between transactions does
// not work. If the connection is lost, or does not answer for a minute, Watch returns an error.
//
// Cost: three round trips for the first waiting call, one for each while there are others or have been a moment ago,
// and one each time that the record may have changed.
func (s *Store) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	if err := key.Validate(); err != nil {
		return store.Record{}, err
	}
	if !s.listener.isReady() { // else wait looks at once
		if r, changed, err := s.look(ctx, key, revision); changed {
			return r, err
		}
	}
	r, err := s.wait(ctx, key, revision)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		if s.isClosed() {
			err = errors.Join(store.ErrClosed, err)
		}
		return r, s.wrap(fmt.Errorf("watch %v: %w", key, withContext(ctx, err)))
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
	w, err := s.listener.enter(key)
	if err != nil {
		return store.Record{}, err
	}
	defer s.listener.leave(w)
	for {
		select {
		case <-w.wake:
		case <-w.session.ended:
			return store.Record{}, w.session.err
		case <-ctx.Done():
			return store.Record{}, ctx.Err()
		}
		if r, changed, err := s.look(ctx, key, revision); changed {
			return r, err
		}
	}
}

// keyHash is what stands for a key in a notification. Two keys with the same hash cost a look, and nothing else.
func keyHash(key store.Key) uint64 {
	h := fnv.New64a()
	for _, part := range []string{string(key.Kind), key.Pool, key.Name} {
		_, _ = h.Write(append([]byte(part), 0))
	}
	return h.Sum64()
}
