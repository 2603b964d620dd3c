package store

import (
	"context"
	"fmt"
)

// waiters are the calls of Watch that wait for a change of one record.
type waiters struct {
	changed chan struct{} // closed by the change
	n       int
}

// Watch implements [Store]. The commit that changes the record wakes it; until then it costs nothing.
func (m *Memory) Watch(ctx context.Context, key Key, revision int64) (Record, error) {
	if err := key.Validate(); err != nil {
		return Record{}, err
	}
	for {
		if err := m.usable(ctx); err != nil {
			return Record{}, err
		}
		r, wait := m.shared.await(key, revision)
		switch {
		case r != nil:
			return r.Canonical(), nil
		case wait == nil:
			return Record{}, missingError(key)
		}
		select {
		case <-wait.changed:
		case <-m.ended:
			m.shared.leave(key, wait)
		case <-ctx.Done():
			m.shared.leave(key, wait)
			return Record{}, fmt.Errorf("in-memory store: watch %v: %w", key, ctx.Err())
		}
	}
}

// await returns the record under key if it is not at revision, nil if there is none although revision says so, else
// what to wait for.
func (s *records) await(key Key, revision int64) (*Record, *waiters) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.get(key)
	switch {
	case r != nil && r.Revision != revision:
		return r, nil
	case r == nil && revision != 0:
		return nil, nil
	}
	w := s.waiters[key]
	if w == nil {
		w = &waiters{changed: make(chan struct{})}
		s.waiters[key] = w
	}
	w.n++
	return nil, w
}

// leave is called by who waits no longer, though nothing has changed as far as it knows.
func (s *records) leave(key Key, w *waiters) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.n--; w.n == 0 && s.waiters[key] == w {
		delete(s.waiters, key)
	}
}

// wake wakes who waits for a change of the record under key. The lock is held.
func (s *records) wake(key Key) {
	if len(s.waiters) == 0 {
		return
	}
	if w := s.waiters[key]; w != nil {
		close(w.changed)
		delete(s.waiters, key)
	}
}
