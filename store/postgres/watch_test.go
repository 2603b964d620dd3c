package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// listening counts the sessions that listen for changes in the schema, as a lock tells.
func listening(t *testing.T, db *pgxpool.Pool) (n int) {
	t.Helper()
	err := db.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE "+
		"l.locktype = 'advisory' AND l.mode = 'ShareLock' AND a.query LIKE '%await_commits%'"+
		" AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&n)
	require.NoError(t, err)
	return n
}

func requireListening(t *testing.T, db *pgxpool.Pool, want int) {
	t.Helper()
	require.Eventually(t, func() bool { return listening(t, db) == want }, 20*time.Second, 5*time.Millisecond)
}

// ownDatabase makes a database, and returns how to reach it.
func ownDatabase(t *testing.T, name string) string {
	t.Helper()
	execute(t, sharedServer(t).url("postgres"), "public", "CREATE DATABASE "+name)
	return sharedServer(t).url(name)
}

// TestWatchSmallPool waits with a pool of one connection, which is free for others meanwhile, and returned when nobody
// waits any more.
func TestWatchSmallPool(t *testing.T) {
	url := ownDatabase(t, "watch_small")
	db := connect(t, url)
	s, err := postgres.New(t.Context(), connect(t, url, func(config *pgxpool.Config) { config.MaxConns = 1 }), nil)
	require.NoError(t, err)
	h, err := storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	for range 3 {
		result := make(chan store.Record)
		for range 5 {
			go func() {
				r, err := s.Watch(t.Context(), h.Key, h.Revision)
				if err != nil {
					t.Error(err)
				}
				result <- r
			}()
		}
		requireListening(t, db, 1)
		next, err := storetest.CommitOne(t.Context(), s, h)
		require.NoError(t, err)
		for range 5 {
			require.Equal(t, next.Revision, (<-result).Revision)
		}
		h = next
	}
	requireListening(t, db, 0)
	require.NoError(t, s.Close())
}

// TestWatchConnectionLost cuts the connection that listens. The call says so, and the next one waits again.
func TestWatchConnectionLost(t *testing.T) {
	o := tests.NewOutage(t, 4)
	for range 2 {
		result := make(chan error, 1)
		go func() {
			_, err := o.Through.Watch(t.Context(), o.Head.Key, o.Head.Revision)
			result <- err
		}()
		require.Eventually(t, func() bool {
			o.Proxy.Cut()
			select {
			case err := <-result:
				require.Error(t, err)
				require.NotErrorIs(t, err, store.ErrClosed)
				return true
			default:
				return false
			}
		}, 20*time.Second, 20*time.Millisecond)
	}
	seen := make(chan int64, 1)
	go func() {
		for {
			r, err := o.Through.Watch(t.Context(), o.Head.Key, o.Head.Revision)
			if err == nil {
				seen <- r.Revision
				return
			}
			if errors.Is(err, context.Canceled) {
				return
			}
		}
	}()
	next, err := storetest.CommitOne(t.Context(), o.Direct, o.Head)
	require.NoError(t, err)
	require.Equal(t, next.Revision, <-seen)
}

// TestNotifiesOnlyListeners checks that a commit notifies exactly if someone listens: it would make commits wait for
// one another.
func TestNotifiesOnlyListeners(t *testing.T) {
	url := ownDatabase(t, "watch_quiet")
	s, db := open(t, url, ""), connect(t, url)
	ctx := t.Context()
	conn, err := db.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(ctx, "SELECT ipalloc.listen()")
	require.NoError(t, err)
	h, err := storetest.CommitOne(ctx, s, head("a"))
	require.NoError(t, err)
	_, err = conn.Conn().WaitForNotification(ctx)
	require.NoError(t, err)

	_, err = conn.Exec(ctx, "SELECT pg_advisory_unlock_all()") // now it listens, but no commit knows
	require.NoError(t, err)
	for range 3 {
		h, err = storetest.CommitOne(ctx, s, h)
		require.NoError(t, err)
	}
	_, err = conn.Exec(ctx, "SELECT ipalloc.listen()")
	require.NoError(t, err)
	_, err = storetest.CommitOne(ctx, s, h, create(allocation("a", "the next to be heard", "10.0.0.1/32")))
	require.NoError(t, err)
	notification, err := conn.Conn().WaitForNotification(ctx)
	require.NoError(t, err)
	require.Contains(t, notification.Payload, " ",
		"this is the notification of the last commit, the only one with two records")
}

func TestWatchHandover(t *testing.T) { tests.WatchHandover(t, 150) }

// TestWatchBesideCommit begins to wait while a commit is under way that found nobody to notify, and has not ended: it
// ends in a trigger that waits for a lock. The change must not be missed.
func TestWatchBesideCommit(t *testing.T) {
	url := ownDatabase(t, "watch_beside")
	s, db := open(t, url, ""), connect(t, url)
	h, err := storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	execute(t, url, "ipalloc", `
		CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
			AS $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON allocation
			DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()`)
	holder, err := db.Begin(t.Context())
	require.NoError(t, err)
	defer holder.Rollback(context.Background())
	_, err = holder.Exec(t.Context(), "SELECT pg_advisory_xact_lock(4711)")
	require.NoError(t, err)
	requireWaiting := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool {
			waiting := 0
			err := db.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").
				Scan(&waiting)
			return err == nil && waiting == n
		}, 20*time.Second, time.Millisecond)
	}

	committed, watched := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := storetest.CommitOne(t.Context(), s, h, create(allocation("a", "x", "10.0.0.1/32")))
		committed <- err
	}()
	requireWaiting(1)
	go func() {
		_, err := s.Watch(t.Context(), h.Key, h.Revision)
		watched <- err
	}()
	requireWaiting(2) // the one who begins to wait waits for the commit
	require.NoError(t, holder.Rollback(t.Context()))
	require.NoError(t, <-committed)
	require.NoError(t, <-watched)
}
