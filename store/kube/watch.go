package kube

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipalloc/ipalloc/store"
)

// Watch implements [store.Store] with a watch of the API on one object: that of the record or, while a commit is about
// to write that, the one of the commit's head. It begins anew when the server ends the watch, as it does every half an
// hour or so.
func (s *Store) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	if err := s.usable(ctx); err != nil {
		return store.Record{}, err
	}
	if err := key.Validate(); err != nil {
		return store.Record{}, err
	}
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.closing, func() { cancel(store.ErrClosed) })()
	for {
		record, err := s.watchOnce(waiting, key, revision)
		switch {
		case s.closing.Err() != nil:
			return store.Record{}, store.ErrClosed
		case ctx.Err() != nil:
			return store.Record{}, fmt.Errorf("watch %v: %w", key, ctx.Err())
		case !errors.Is(err, errAgain):
			return record, err
		}
	}
}

// watchOnce returns the record if it is not at revision, and otherwise waits for a change of something, and returns
// errAgain.
func (s *Store) watchOnce(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	r := refOf(key)
	o, err := s.read(ctx, r, key)
	if err != nil && !errors.Is(err, errAbsent) {
		return store.Record{}, err
	}
	watched, version := r, ""
	if o != nil {
		if o.revision() != revision && o.current() != nil {
			return o.current().Canonical(), nil
		}
		version = o.version
		if o.pending != nil {
			watched, version = o.pending.head, o.pending.fence
		}
	}
	if revision != 0 && (o == nil || o.current() == nil) {
		return store.Record{}, fmt.Errorf("%w: %v", store.ErrNotFound, key)
	}
	if err := s.api.Watch(ctx, watched, version); err != nil {
		return store.Record{}, err
	}
	return store.Record{}, errAgain
}
