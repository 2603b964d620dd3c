package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// The shortest and the longest time that Watch waits before it tries again, after the server or the way to it failed.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Watch implements [store.Store] with an API watch on one object: that of the record or, while a commit is about to
// write the record, that of the commit's head. It starts a new watch when the server ends the old one, about every half
// hour.
//
// It goes on when the connection is cut or refused, and when the server answers 410, 429 or a 5xx, even in the middle
// of a watch. It then waits before it reads again: 0.1 s at first, twice as long each time, up to 30 s; or longer if
// the server asks for it. Other errors, such as [ErrForbidden], end it.
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
	wait := firstRetry
	for {
		record, err := s.watchOnce(waiting, key, revision)
		switch {
		case s.closing.Err() != nil:
			return store.Record{}, store.ErrClosed
		case ctx.Err() != nil:
			return store.Record{}, fmt.Errorf("watch %v: %w", key, ctx.Err())
		case errors.Is(err, errAgain):
			wait = firstRetry
			continue
		case !isPassing(err):
			return record, err
		}
		_ = s.pause(waiting, jitter(max(wait, 2*askedToWait(err)))) // if it ends early, so does the next read
		wait = min(2*wait, lastRetry)
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
