package mysql

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// Turn implements [store.Store]. The order is that in which MySQL gives the locks of the heads to sessions that wait
// for them (GET_LOCK). Commits without a turn wait in the same order, so they overtake no turn. Only one call of a
// Store at a time waits in the server for each head.
//
// A turn takes a connection until it ends; reads by the caller meanwhile may need a second one. Through a db of one
// connection, turns are in order within this Store only.
//
// Cost: one round trip, and the time for which others have their turns. A turn that ends without a commit takes
// another.
func (s *Store) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	if err := s.begin(ctx); err != nil {
		return nil, s.wrap(err)
	}
	if s.isSingle() {
		return s.turns.Turn(ctx, s.Get, keys...)
	}
	done, err := s.turns.Wait(ctx, keys...)
	if err != nil {
		return nil, s.wrap(err)
	}
	t := &turn{store: s, done: done}
	if err := t.lock(ctx, keys); err != nil {
		t.End()
		return nil, s.wrap(fmt.Errorf("turn at %v: %w", keys[0], err))
	}
	return t, nil
}

// isSingle reports whether there is only one connection.
func (s *Store) isSingle() bool { return s.locking != nil && cap(s.locking) == 0 }

// turn is a session that has the locks of heads.
type turn struct {
	store *Store
	heads []store.Record
	done  func() // lets others of this Store go on
	once  sync.Once
	over  bool
	conn  *sql.Conn // nil if it has no session
	free  func()    // gives back the place in locking
	lines []string  // of which the session has the locks
	began time.Time
	asking
}

// Heads implements [store.Turn].
func (t *turn) Heads() []store.Record { return t.heads }

// lock waits for the locks. The heads are read when they are there.
func (t *turn) lock(ctx context.Context, keys []store.Key) error {
	text, err := keysText(keys)
	if err != nil {
		return err
	}
	for _, key := range slices.SortedFunc(slices.Values(keys), store.Key.Compare) {
		t.lines = append(t.lines, t.store.line(key))
	}
	return t.enter(ctx, func(conn *sql.Conn) error {
		t.heads = recordsWith(keys)
		args := []any{strings.Join(t.lines, ""), patience(ctx), text}
		return call(ctx, conn, t.store.sql.turn, args, func(r *reply) error { return r.intoOneOf(t.heads) })
	})
}

// enter has do call a procedure that waits for the locks, on a connection which the turn then has. If it turns out that
// a connection was lost before, it takes another.
func (t *turn) enter(ctx context.Context, do func(*sql.Conn) error) error {
	s := t.store
	free, err := s.enter(ctx)
	if err != nil {
		return err
	}
	stop := s.patrol(t.lines...)
	defer stop()
	for attempt := 1; ; attempt++ {
		conn, err := s.acquire(ctx)
		if err != nil {
			free()
			return err
		}
		err = do(conn)
		if err == nil {
			t.conn, t.free, t.began = conn, free, now()
			return nil
		}
		discard(conn)
		if !errors.Is(err, driver.ErrBadConn) || attempt == maxAttempts {
			free()
			return s.ended(ctx, err)
		}
	}
}

// line is the name of the lock for which the turns at the key wait, of 32 bytes.
func (s *Store) line(key store.Key) string {
	const prefix, hashed = "ipalloc ", 12
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", s.schema, key.Kind, key.Pool, key.Name))
	return prefix + hex.EncodeToString(sum[:hashed])
}

// turnOf returns this store's turn among the changes that has not ended, or nil.
func (s *Store) turnOf(changes []store.Change) *turn {
	for i := range changes {
		if t, ok := changes[i].Turn.(*turn); ok && t.store == s && !t.over {
			return t
		}
	}
	return nil
}

// errTurnOver says that a turn ended before its commit, of which nothing has happened.
var errTurnOver = errors.New("the turn is over")

// apply sends the batch in the session of the turn, which gives the locks back. The turn has no session any more then.
// A turn that has lasted for too long does not: others may have ended the session, and whether the batch arrives would
// not be known.
func (t *turn) apply(ctx context.Context, b *batch) ([]store.Record, error) {
	if now().Sub(t.began) > store.MaxTurn {
		return nil, errTurnOver
	}
	locks, others := "", slices.DeleteFunc(slices.Clone(b.lines), func(line string) bool {
		return slices.Contains(t.lines, line)
	})
	if len(others) > 0 {
		stop := t.store.patrol(others...)
		defer stop()
		locks = strings.Join(others, "")
	}
	conn := t.conn
	t.conn = nil
	defer t.free()
	return t.store.send(ctx, conn, b, locks)
}

// End implements [store.Turn].
func (t *turn) End() {
	t.once.Do(func() {
		t.over = true
		t.leave()
		t.withdraw()
	})
}

// leave lets those go on who wait.
func (t *turn) leave() {
	if t.conn != nil {
		t.store.leave(t.conn)
		t.conn = nil
		t.free()
	}
	t.done()
}

// leave gives the locks of the session back, and the connection. If that fails, closing the connection does the same.
func (s *Store) leave(conn *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), store.MaxTurn)
	defer cancel()
	if _, err := conn.ExecContext(ctx, s.sql.leave); err != nil {
		discard(conn)
		return
	}
	_ = conn.Close()
}
