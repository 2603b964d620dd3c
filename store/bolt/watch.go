package bolt

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ipalloc/ipalloc/store"
)

// Watch implements [store.Store]. The commit that changes the record wakes it; because the file is locked, that commit
// goes through the same Store. A waiting call costs nothing, and has no transaction open.
func (s *Store) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	for {
		w := s.waiting.enter(key)
		r, err := s.Get(ctx, key)
		missing := errors.Is(err, store.ErrNotFound)
		if err == nil && r.Revision != revision || err != nil && (!missing || revision != 0) {
			s.waiting.leave(key, w)
			return r, err
		}
		select {
		case <-w.changed:
		case <-s.waiting.ended:
			s.waiting.leave(key, w)
			return store.Record{}, s.wrap(fmt.Errorf("watch %v: %w", key, store.ErrClosed))
		case <-ctx.Done():
			s.waiting.leave(key, w)
			return store.Record{}, s.wrap(fmt.Errorf("watch %v: %w", key, ctx.Err()))
		}
	}
}

// waiting are the calls of Watch that wait, by the key of the record.
type waiting struct {
	ended chan struct{} // closed when the store is
	mu    sync.Mutex
	once  sync.Once
	byKey map[store.Key]*waiters
}

// waiters wait for a change of one record.
type waiters struct {
	changed chan struct{} // closed by the change
	n       int
}

func newWaiting() *waiting {
	return &waiting{ended: make(chan struct{}), byKey: make(map[store.Key]*waiters)}
}

// enter is called before the record is read, so that no change is missed.
func (w *waiting) enter(key store.Key) *waiters {
	w.mu.Lock()
	defer w.mu.Unlock()
	on := w.byKey[key]
	if on == nil {
		on = &waiters{changed: make(chan struct{})}
		w.byKey[key] = on
	}
	on.n++
	return on
}

// leave is called by who was not woken.
func (w *waiting) leave(key store.Key, on *waiters) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if on.n--; on.n == 0 && w.byKey[key] == on {
		delete(w.byKey, key)
	}
}

// wake wakes who waits for one of the records that changes may have changed.
func (w *waiting) wake(changes []store.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range changes {
		if len(w.byKey) == 0 {
			return
		}
		w.wakeOne(changes[i].Head.Key)
		for j := range changes[i].Writes {
			w.wakeOne(changes[i].Writes[j].Record.Key)
		}
	}
}

func (w *waiting) wakeOne(key store.Key) {
	if on := w.byKey[key]; on != nil {
		close(on.changed)
		delete(w.byKey, key)
	}
}

func (w *waiting) end() { w.once.Do(func() { close(w.ended) }) }
