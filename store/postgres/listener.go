package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ipalloc/ipalloc/store"
)

// changedMany is the notification of a commit that changes more than it can tell.
const changedMany = "*"

// linger is how long a session goes on when nobody waits any more.
const linger = time.Second

// How long a session waits for a notification before it asks whether the server is still there, and how long the server
// may take to answer.
const (
	checkInterval = 30 * time.Second
	checkPatience = 30 * time.Second
)

// listener has a session that listens as long as someone waits.
type listener struct {
	pool *pgxpool.Pool
	sql  statements

	mu      sync.Mutex
	closed  bool
	session *session // nil if nobody waits, nor has a moment ago
	running sync.WaitGroup
}

// session is one connection that listens, with those who wait for it to tell them of changes.
type session struct {
	cancel  context.CancelFunc
	ended   chan struct{} // closed after err is set
	err     error
	ready   bool // it listens, and no commit is under way that does not know of that
	waiters map[*waiter]struct{}
}

// waiter is one call of Watch.
type waiter struct {
	session *session
	hash    uint64
	wake    chan struct{} // has one element if the record may have changed since it was looked at
}

func newListener(pool *pgxpool.Pool, sql statements) *listener {
	return &listener{pool: pool, sql: sql}
}

// enter adds a waiter, and begins a session if there is none. The waiter is woken as soon as it can rely on the
// session, so that it looks at the record once more.
func (l *listener) enter(key store.Key) (*waiter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, store.ErrClosed
	}
	if l.session == nil {
		ctx, cancel := context.WithCancel(context.Background())
		l.session = &session{cancel: cancel, ended: make(chan struct{}), waiters: make(map[*waiter]struct{})}
		s := l.session
		l.running.Go(func() { l.run(ctx, s) })
	}
	w := &waiter{session: l.session, hash: keyHash(key), wake: make(chan struct{}, 1)}
	l.session.waiters[w] = struct{}{}
	if l.session.ready {
		w.notify()
	}
	return w, nil
}

// isReady reports whether a call of Watch that enters now can rely on a session.
func (l *listener) isReady() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session != nil && l.session.ready
}

// leave removes a waiter. If it was the last, the session ends soon, unless another comes: who follows a record waits
// again and again.
func (l *listener) leave(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := w.session
	delete(s.waiters, w)
	if len(s.waiters) > 0 || l.session != s {
		return
	}
	time.AfterFunc(linger, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(s.waiters) == 0 {
			l.end(s)
		}
	})
}

// end ends a session. The listener is locked.
func (l *listener) end(s *session) {
	s.cancel()
	if l.session == s {
		l.session = nil
	}
}

// close ends the session, and waits until it has ended.
func (l *listener) close() {
	l.mu.Lock()
	l.closed = true
	if l.session != nil {
		l.end(l.session)
	}
	l.mu.Unlock()
	l.running.Wait()
}

// run is the session's goroutine.
func (l *listener) run(ctx context.Context, s *session) {
	err := l.listen(ctx, s)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(s)
	s.err = fmt.Errorf("the connection that listens has ended: %w", err)
	close(s.ended)
}

// listen takes a connection and tells the waiters what it hears, until ctx ends or the connection is lost. It closes
// the connection, which has locks.
func (l *listener) listen(ctx context.Context, s *session) error {
	acquired, err := l.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	conn := acquired.Hijack()
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	for _, sql := range []string{l.sql.listen, l.sql.await} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	l.tell(s, changedMany)
	for {
		changed, err := next(ctx, conn)
		if err != nil {
			return err
		}
		l.tell(s, changed)
	}
}

// next returns the next notification. If none comes for a while, it makes sure that the server is there.
func next(ctx context.Context, conn *pgx.Conn) (changed string, err error) {
	waiting, cancel := context.WithTimeout(ctx, checkInterval)
	defer cancel()
	notification, err := conn.WaitForNotification(waiting)
	switch {
	case err == nil:
		return notification.Payload, nil
	case ctx.Err() != nil || !errors.Is(waiting.Err(), context.DeadlineExceeded) || conn.IsClosed():
		return "", err
	}
	checking, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	return "", conn.Ping(checking)
}

// tell wakes those who wait for what has changed.
func (l *listener) tell(s *session, changed string) {
	hashes := make(map[uint64]bool)
	for _, text := range strings.Fields(changed) {
		if hash, err := strconv.ParseUint(text, 36, 64); err == nil {
			hashes[hash] = true
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.ready = true
	for w := range s.waiters {
		if changed == changedMany || hashes[w.hash] {
			w.notify()
		}
	}
}

// notify wakes the waiter, if it has not been already.
func (w *waiter) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
