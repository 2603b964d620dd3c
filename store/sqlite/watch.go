package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// watchInterval is how often a Store looks whether another process has committed, while a call of Watch waits.
const watchInterval = 10 * time.Millisecond

// Watch implements [store.Store]. A commit of this Store wakes it at once. For those of other processes, one goroutine
// for all waiting calls of a Store reads SQLite's change counter (PRAGMA data_version) every 10 ms, on a connection of
// its own; only if it has changed, it reads the revisions that are waited for. It ends with the last of these calls.
func (s *Store) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	for {
		w := s.waiting.enter(s, watched{key, revision})
		r, err := s.Get(ctx, key)
		missing := errors.Is(err, store.ErrNotFound)
		if err == nil && r.Revision != revision || err != nil && (!missing || revision != 0) {
			s.waiting.leave(watched{key, revision}, w)
			return r, err
		}
		select {
		case <-w.changed:
		case <-s.waiting.ended:
			s.waiting.leave(watched{key, revision}, w)
			return store.Record{}, s.wrap(fmt.Errorf("watch %v: %w", key, store.ErrClosed))
		case <-ctx.Done():
			s.waiting.leave(watched{key, revision}, w)
			return store.Record{}, s.wrap(fmt.Errorf("watch %v: %w", key, ctx.Err()))
		}
	}
}

// watched is what a call of Watch waits for: that the record under the key is no longer at the revision.
type watched struct {
	key      store.Key
	revision int64
}

// waiting are the calls of Watch that wait.
type waiting struct {
	ended chan struct{} // closed when the store is
	once  sync.Once

	mu      sync.Mutex
	byKey   map[store.Key]map[int64]*waiters
	looking bool // the goroutine runs
}

// waiters wait for the same.
type waiters struct {
	changed chan struct{} // closed by the change
	n       int
}

func newWaiting() *waiting {
	return &waiting{ended: make(chan struct{}), byKey: make(map[store.Key]map[int64]*waiters)}
}

// enter is called before the record is read, so that no change is missed.
func (w *waiting) enter(s *Store, what watched) *waiters {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.byKey[what.key]
	if at == nil {
		at = make(map[int64]*waiters)
		w.byKey[what.key] = at
	}
	on := at[what.revision]
	if on == nil {
		on = &waiters{changed: make(chan struct{})}
		at[what.revision] = on
	}
	on.n++
	if !w.looking {
		w.looking = true
		go s.look()
	}
	return on
}

// leave is called by who was not woken.
func (w *waiting) leave(what watched, on *waiters) {
	w.mu.Lock()
	defer w.mu.Unlock()
	on.n--
	if at := w.byKey[what.key]; on.n == 0 && at[what.revision] == on {
		if delete(at, what.revision); len(at) == 0 {
			delete(w.byKey, what.key)
		}
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
		w.wakeAt(changes[i].Head.Key)
		for j := range changes[i].Writes {
			w.wakeAt(changes[i].Writes[j].Record.Key)
		}
	}
}

// wakeAt wakes all who wait at the key. The lock is held.
func (w *waiting) wakeAt(key store.Key) {
	for _, on := range w.byKey[key] {
		close(on.changed)
	}
	delete(w.byKey, key)
}

// wakeChanged wakes those who wait for another revision than that which their record has.
func (w *waiting) wakeChanged(revisions map[store.Key]int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, now := range revisions {
		for revision, on := range w.byKey[key] {
			if revision != now {
				close(on.changed)
				delete(w.byKey[key], revision)
			}
		}
		if len(w.byKey[key]) == 0 {
			delete(w.byKey, key)
		}
	}
}

// wakeAll wakes everybody, to find out by themselves.
func (w *waiting) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range w.byKey {
		w.wakeAt(key)
	}
}

// keys returns at which records somebody waits. If there is none, the goroutine must end.
func (w *waiting) keys() []store.Key {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := make([]store.Key, 0, len(w.byKey))
	for key := range w.byKey {
		keys = append(keys, key)
	}
	w.looking = len(keys) > 0
	return keys
}

// stop wakes everybody, and notes that the goroutine ends.
func (w *waiting) stop() {
	w.wakeAll()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looking = false
}

func (w *waiting) end() { w.once.Do(func() { close(w.ended) }) }

// look is the goroutine that looks for commits of other processes.
func (s *Store) look() {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	c, err := s.conns.take(context.Background())
	if err != nil {
		s.waiting.stop() // those who are woken meet the error themselves
		return
	}
	defer s.conns.put(c)
	for before := int64(-1); ; {
		keys := s.waiting.keys()
		if len(keys) == 0 {
			return
		}
		version, err := s.lookOnce(c, keys, before)
		if err != nil && !isBusy(err) {
			s.waiting.wakeAll()
		}
		before = version
		select {
		case <-ticker.C:
		case <-s.waiting.ended:
			return
		}
	}
}

// lookOnce wakes those whose records have changed, if anything has. It returns SQLite's change counter, or -1 after an
// error.
func (s *Store) lookOnce(c *conn, keys []store.Key, before int64) (version int64, err error) {
	if err := s.files.check(); err != nil {
		return -1, err
	}
	if err := c.one("PRAGMA data_version", nil, &version); err != nil {
		return -1, err
	}
	if version == before {
		return version, nil
	}
	revisions := make(map[store.Key]int64, len(keys))
	for _, key := range keys {
		var revision int64
		if err := c.column(revisionSQL, key, &revision); err != nil {
			return -1, err
		}
		revisions[key] = revision
	}
	s.waiting.wakeChanged(revisions)
	return version, nil
}
