package store

import (
	"context"
	"errors"
	"time"
)

// Watcher is implemented by a [Store] whose backend can tell when a record changes. Use it through [Watch].
type Watcher interface {
	// Watch returns as soon as the record under key is not at revision: at once if it is another already, else when it is replaced or
	// deleted. It returns the record as it is then, or an error that wraps [ErrNotFound] if it has been deleted. A revision of 0 waits for a
	// record that does not exist yet.
	//
	// It waits until ctx ends, and then returns an error that wraps the context's. While it waits it costs the backend next to nothing, and
	// the handle's other methods are not held up. An error of the backend, such as a lost connection, may be returned at any time.
	// Close ends it, with [ErrClosed].
	Watch(ctx context.Context, key Key, revision int64) (Record, error)
}

// Watch returns as soon as the record under key is not at revision, as it is then, or with an error that wraps [ErrNotFound] if it has been
// deleted. A revision of 0 waits for a record that does not exist yet.
//
// A store that implements [Watcher] tells by itself; any other is asked again each time that interval has passed (less than a
// millisecond counts as one).
func Watch(ctx context.Context, s Store, key Key, revision int64, interval time.Duration) (Record, error) {
	if w, ok := s.(Watcher); ok {
		return w.Watch(ctx, key, revision)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		r, err := s.Get(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound) && revision == 0:
		case err != nil || r.Revision != revision:
			return r, err
		}
		timer.Reset(max(interval, time.Millisecond))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return Record{}, ctx.Err()
		}
	}
}
