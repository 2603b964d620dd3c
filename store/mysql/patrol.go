package mysql

import (
	"context"
	"database/sql"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// How often a call that waits looks who has the lock, and after which time it ends the turn of a session that has had
// it all the while and does nothing: later than the caller with the turn itself gives it up, and so early that the next
// one goes on before twice MaxTurn has passed.
const (
	patrolInterval = store.MaxTurn / 4
	patrolPatience = store.MaxTurn * 5 / 4
)

// patrol sees to it, for a call that is about to wait for locks, that none of those before it keeps a lock for too
// long. Locks are given in order, so a session that was seen to have a lock since the call began, and again, had it all
// the while. The call calls stop when it waits no more.
func (s *Store) patrol(lines ...string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	timer := time.AfterFunc(patrolInterval, func() { s.walk(ctx, lines) })
	return func() {
		timer.Stop()
		cancel()
	}
}

// holder is a session that has a lock.
type holder struct {
	session int64
	since   time.Time // when it was first seen
}

// walk looks again and again, until ctx ends. What it has asked the server by then it still hears, because the
// connection would have to be closed otherwise.
func (s *Store) walk(ctx context.Context, lines []string) {
	holders := make(map[string]holder)
	for ctx.Err() == nil && !s.isClosed() {
		for _, line := range lines {
			holders[line] = s.inspect(line, holders[line])
		}
		select {
		case <-ctx.Done():
		case <-time.After(patrolInterval):
		}
	}
}

// inspect returns which session has the lock. It ends one that has had it for too long. Errors are of no interest: the
// call that waits has its own.
func (s *Store) inspect(line string, before holder) holder {
	ctx, cancel := context.WithTimeout(context.Background(), pollPatience)
	defer cancel()
	var session sql.NullInt64
	if err := s.db.QueryRowContext(ctx, "SELECT IS_USED_LOCK(?)", line).Scan(&session); err != nil || !session.Valid {
		return holder{}
	}
	if before.session != session.Int64 {
		return holder{session.Int64, now()}
	}
	if now().Sub(before.since) >= patrolPatience {
		_, _ = s.db.ExecContext(ctx, s.sql.oust, line, session.Int64)
	}
	return before
}
