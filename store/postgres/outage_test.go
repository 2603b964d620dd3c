package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/internal/unmet"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

func TestAnswerLost(t *testing.T) { tests.AnswerLost(t) }

func TestRequestLost(t *testing.T) { tests.RequestLost(t, 0, 1, 50, 300) }

func TestSlowServer(t *testing.T) { tests.SlowServer(t) }

// TestContextEndsBeforeSending has the context end when the commit has a connection, and has not used it.
func TestContextEndsBeforeSending(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := tests.NewOutage(t, 4)
	armed := false
	s := openOn(t, connect(t, o.URL, func(config *pgxpool.Config) {
		config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) {
			if armed {
				cancel()
			}
			return true, nil
		}
	}), o.Schema)
	armed = true
	_, err := storetest.CommitOne(ctx, s, o.Head)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, store.ErrUnknown)
	o.RequireHead(t, false)
}

func TestServerDown(t *testing.T) { tests.ServerDown(t) }

// TestRefused has the server refuse a commit for reasons of its own. That is no doubt about the outcome, also if the
// session ends with it.
func TestRefused(t *testing.T) {
	disk := `CREATE FUNCTION %[1]s.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE disk_full; END $$;
		CREATE TRIGGER disk_is_full BEFORE INSERT ON %[1]s.allocation FOR EACH ROW EXECUTE FUNCTION %[1]s.full()`
	for _, c := range []struct {
		name, code string
		option     func(*pgxpool.Config)
		prepare    func(t *testing.T, o *servertest.Outage)
		blocked    func(t *testing.T, o *servertest.Outage) // what happens to a commit that waits for a lock on the head
	}{
		{name: "read only", code: "25006", option: parameter("default_transaction_read_only", "on")},
		{name: "disk full, as a trigger says", code: "53100", prepare: func(t *testing.T, o *servertest.Outage) {
			execute(t, o.URL, o.Schema, fmt.Sprintf(disk, quoted(o.Schema)))
		}},
		{
			name: "statement too slow", code: "57014", option: parameter("statement_timeout", "300ms"),
			blocked: func(*testing.T, *servertest.Outage) {},
		},
		{
			name: "lock too slow", code: "55P03", option: parameter("lock_timeout", "100ms"),
			blocked: func(*testing.T, *servertest.Outage) {},
		},
		{name: "cancelled", code: "57014", blocked: func(t *testing.T, o *servertest.Outage) {
			signalBlocked(t, o, "pg_cancel_backend")
		}},
		{name: "terminated", code: "57P01", blocked: func(t *testing.T, o *servertest.Outage) {
			signalBlocked(t, o, "pg_terminate_backend")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := tests.NewOutage(t, 4)
			if c.option == nil {
				c.option = func(*pgxpool.Config) {}
			}
			s := openOn(t, connect(t, o.URL, c.option, parameter("application_name", blockedName)), o.Schema)
			if c.prepare != nil {
				c.prepare(t, o)
			}
			var err error
			if c.blocked != nil {
				tests.WhileLocked(t, o, func() { c.blocked(t, o) }, func() {
					_, err = storetest.CommitOne(t.Context(), s, o.Head, create(allocation("a", "x", "10.0.0.1/32")))
				})
			} else {
				_, err = storetest.CommitOne(t.Context(), s, o.Head, create(allocation("a", "x", "10.0.0.1/32")))
			}
			var refused *pgconn.PgError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, c.code, refused.Code)
			require.NotErrorIs(t, err, store.ErrUnknown)
			o.RequireHead(t, false)
		})
	}
}

const blockedName = "ipalloc test"

func parameter(name, value string) func(*pgxpool.Config) {
	return func(config *pgxpool.Config) { config.ConnConfig.RuntimeParams[name] = value }
}

func lockHead(t *testing.T, url, schema, pool string) (unlock func()) {
	t.Helper()
	tx, err := connect(t, url).Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // which has ended, if all is well
	rows, err := tx.Exec(t.Context(), "SELECT FROM "+quoted(schema)+".pool WHERE pool = $1 FOR UPDATE", pool)
	require.NoError(t, err)
	require.Equal(t, int64(1), rows.RowsAffected())
	return func() { require.NoError(t, tx.Rollback(t.Context())) }
}

// signalBlocked calls a function with the session that waits for a lock, as soon as there is one.
func signalBlocked(t *testing.T, o *servertest.Outage, function string) {
	t.Helper()
	db := connect(t, o.URL)
	require.Eventually(t, func() bool {
		tag, err := db.Exec(t.Context(), "SELECT "+function+
			"(pid) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'", blockedName)
		return err == nil && tag.RowsAffected() == 1
	}, 20*time.Second, time.Millisecond)
}

// TestDiskFull has the tables on a file system of their own that is full. It needs one to be mounted, which only root
// may do, and not everywhere.
func TestDiskFull(t *testing.T) {
	server := ownServer(t)
	dir := mountSmall(t, server)
	execute(t, server.url("postgres"), "public", "CREATE TABLESPACE small LOCATION '"+dir+"'", "CREATE DATABASE small",
		"ALTER DATABASE small SET default_tablespace = small")
	s := open(t, server.url("small"), "")
	h := head("a")
	data := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	for i := 0; ; i++ {
		r := holding("other", "a", fmt.Sprint(i), "")
		r.Data = data
		next, err := storetest.CommitOne(t.Context(), s, h, create(r),
			create(allocation("a", fmt.Sprint(i), fmt.Sprintf("10.0.0.%d/32", i))))
		if err != nil {
			var refused *pgconn.PgError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, "53100", refused.Code)
			require.NotErrorIs(t, err, store.ErrUnknown)
			require.Positive(t, i)
			break
		}
		h = next
		require.Less(t, i, 64)
	}
	got, err := s.Get(t.Context(), h.Key)
	require.NoError(t, err)
	require.Equal(t, h.Revision, got.Revision)
	_, err = storetest.CommitOne(t.Context(), s, h, remove(holding("other", "a", "0", "")))
	require.NoError(t, err)
}

// TestDurable has a database whose commits need not be durable by default. Those of a store are.
func TestDurable(t *testing.T) {
	server := ownServer(t)
	execute(t, server.url("postgres"), "public", "ALTER DATABASE postgres SET synchronous_commit = off",
		"ALTER SYSTEM SET wal_writer_delay = '10s'")
	restart := func() error { return errors.Join(server.Stop(syscall.SIGQUIT), server.Restart()) }
	servertest.Durable(t, open(t, server.url("postgres"), ""), restart, restart, restart)
}

func TestPoolOutages(t *testing.T) { tests.PoolOutages(t, func() {}) }

// mountSmall mounts a file system of 16 MiB for the server's user, or skips the test.
func mountSmall(t *testing.T, s server) string {
	t.Helper()
	dir, err := os.MkdirTemp(s.Dir, "small-")
	require.NoError(t, err)
	unmount, err := mountTemporary(dir, 16<<20)
	unmet.Skip(t, err)
	t.Cleanup(unmount)
	inside := dir + "/tables"
	require.NoError(t, os.Mkdir(inside, 0o700))
	require.NoError(t, s.Own(inside))
	return inside
}
