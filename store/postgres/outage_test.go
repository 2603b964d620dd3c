package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
	"github.com/ipalloc/ipalloc/store/storetest"
	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// outage is a store behind a proxy, and another handle on it that is not.
type outage struct {
	proxy           *proxy.Proxy
	through, direct *postgres.Store
	url, schema     string
	head            store.Record // of pool a
}

func newOutage(t *testing.T, options ...func(*pgxpool.Config)) *outage {
	t.Helper()
	server := sharedServer(t)
	o := &outage{proxy: proxy.New(t, server.addr), url: server.url("postgres"), schema: newSchema()}
	o.direct = open(t, o.url, o.schema)
	var err error
	o.through, err = postgres.New(t.Context(), connect(t, urlAt(o.proxy.Addr(), "postgres"), options...),
		&postgres.Options{Schema: o.schema})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, o.through.Close()) })
	o.head, err = storetest.CommitOne(t.Context(), o.through, head("a"))
	require.NoError(t, err)
	return o
}

// requireHead checks whether the head is as it was, and goes on with it.
func (o *outage) requireHead(t *testing.T, changed bool) {
	t.Helper()
	got, err := o.direct.Get(t.Context(), o.head.Key)
	require.NoError(t, err)
	require.Equal(t, changed, got.Revision != o.head.Revision)
	o.head = got
}

func TestAnswerLost(t *testing.T) {
	o := newOutage(t)
	for i := range 3 {
		lost := o.proxy.LoseReply("owner to lose")
		_, err := storetest.CommitOne(t.Context(), o.through, o.head,
			put(allocation("a", "owner to lose", fmt.Sprintf("10.0.0.%d/32", i))))
		<-lost
		require.ErrorIs(t, err, store.ErrUnknown)
		require.ErrorContains(t, err, "pool/a")
		require.Eventually(t, func() bool {
			got, err := o.direct.Get(t.Context(), o.head.Key)
			return err == nil && got.Revision != o.head.Revision
		}, 20*time.Second, time.Millisecond)
		o.requireHead(t, true)
	}
	var err error
	o.head, err = storetest.CommitOne(t.Context(), o.through, o.head)
	require.NoError(t, err)
}

func TestRequestLost(t *testing.T) {
	o := newOutage(t)
	for _, n := range []int{0, 1, 50, 300} {
		cut := o.proxy.CutAfterRequestBytes(n)
		_, err := storetest.CommitOne(t.Context(), o.through, o.head,
			create(allocation("a", strings.Repeat("x", 900), "10.0.0.1/32")))
		<-cut
		require.ErrorIs(t, err, store.ErrUnknown)
		o.requireHead(t, false)
		_, err = o.through.Get(t.Context(), o.head.Key) // through a new connection
		require.NoError(t, err)
		o.head, err = storetest.CommitOne(t.Context(), o.through, o.head)
		require.NoError(t, err)
	}
}

// TestSlowServer has the context end at each point at which a commit can wait: only when the request has been sent is
// the outcome unknown.
func TestSlowServer(t *testing.T) {
	o := newOutage(t, func(config *pgxpool.Config) { config.MaxConns = 1 })
	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	o.proxy.Delay(20 * time.Millisecond)
	next, err := storetest.CommitOne(t.Context(), o.through, o.head)
	require.NoError(t, err)
	o.head = next
	o.proxy.Heal()

	o.proxy.StallReplies()
	_, err = storetest.CommitOne(soon(), o.through, o.head)
	require.ErrorIs(t, err, store.ErrUnknown)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = storetest.CommitOne(soon(), o.through, o.head) // has to connect
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, store.ErrUnknown)
	o.proxy.Heal()
	o.requireHead(t, true)
}

// TestContextEndsBeforeSending has the context end when the commit has a connection, and has not used it.
func TestContextEndsBeforeSending(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	armed := false
	o := newOutage(t, func(config *pgxpool.Config) {
		config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) {
			if armed {
				cancel()
			}
			return true, nil
		}
	})
	armed = true
	_, err := storetest.CommitOne(ctx, o.through, o.head)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, store.ErrUnknown)
	o.requireHead(t, false)
}

// TestServerDown commits when nobody answers: nothing is sent, so nothing is unknown.
func TestServerDown(t *testing.T) {
	o := newOutage(t, func(config *pgxpool.Config) { config.MaxConns = 1 })
	o.proxy.Refuse()
	o.proxy.Cut()
	_, err := o.through.Get(t.Context(), o.head.Key) // finds that the connection is lost
	require.Error(t, err)
	_, err = storetest.CommitOne(t.Context(), o.through, o.head)
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrUnknown)
	o.proxy.Heal()
	_, err = storetest.CommitOne(t.Context(), o.through, o.head)
	require.NoError(t, err)
}

// TestRefused has the server refuse a commit for reasons of its own. That is no doubt about the outcome, also if the
// session ends with it.
func TestRefused(t *testing.T) {
	disk := `CREATE FUNCTION %[1]s.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE disk_full; END $$;
		CREATE TRIGGER disk_is_full BEFORE INSERT ON %[1]s.allocation FOR EACH ROW EXECUTE FUNCTION %[1]s.full()`
	for _, c := range []struct {
		name, code string
		option     func(*pgxpool.Config)
		prepare    func(t *testing.T, o *outage)
		blocked    func(t *testing.T, o *outage) // what happens to a commit that waits for a lock on the head
	}{
		{name: "read only", code: "25006", option: parameter("default_transaction_read_only", "on")},
		{name: "disk full, as a trigger says", code: "53100", prepare: func(t *testing.T, o *outage) {
			execute(t, o.url, o.schema, fmt.Sprintf(disk, quoted(o.schema)))
		}},
		{
			name: "statement too slow", code: "57014", option: parameter("statement_timeout", "300ms"),
			blocked: func(*testing.T, *outage) {},
		},
		{
			name: "lock too slow", code: "55P03", option: parameter("lock_timeout", "100ms"),
			blocked: func(*testing.T, *outage) {},
		},
		{name: "cancelled", code: "57014", blocked: func(t *testing.T, o *outage) {
			signalBlocked(t, o, "pg_cancel_backend")
		}},
		{name: "terminated", code: "57P01", blocked: func(t *testing.T, o *outage) {
			signalBlocked(t, o, "pg_terminate_backend")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOutage(t)
			if c.option == nil {
				c.option = func(*pgxpool.Config) {}
			}
			s, err := postgres.New(t.Context(), connect(t, o.url, c.option, parameter("application_name", blockedName)),
				&postgres.Options{Schema: o.schema})
			require.NoError(t, err)
			if c.prepare != nil {
				c.prepare(t, o)
			}
			if c.blocked != nil {
				lockHead(t, o, func() { c.blocked(t, o) }, func() {
					_, err = storetest.CommitOne(t.Context(), s, o.head, create(allocation("a", "x", "10.0.0.1/32")))
				})
			} else {
				_, err = storetest.CommitOne(t.Context(), s, o.head, create(allocation("a", "x", "10.0.0.1/32")))
			}
			var refused *pgconn.PgError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, c.code, refused.Code)
			require.NotErrorIs(t, err, store.ErrUnknown)
			o.requireHead(t, false)
		})
	}
}

const blockedName = "ipalloc test"

func parameter(name, value string) func(*pgxpool.Config) {
	return func(config *pgxpool.Config) { config.ConnConfig.RuntimeParams[name] = value }
}

// lockHead runs do while another transaction has the head locked, and meanwhile what happens.
func lockHead(t *testing.T, o *outage, happens, do func()) {
	t.Helper()
	tx, err := connect(t, o.url).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM "+quoted(o.schema)+".pool FOR UPDATE")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(do)
	happens()
	wg.Wait()
	require.NoError(t, tx.Rollback(t.Context()))
}

// signalBlocked calls a function with the session that waits for a lock, as soon as there is one.
func signalBlocked(t *testing.T, o *outage, function string) {
	t.Helper()
	db := connect(t, o.url)
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

// TestDurable has a database whose commits need not be durable by default. Those of a store are: the server crashes
// after each few.
func TestDurable(t *testing.T) {
	server := ownServer(t)
	execute(t, server.url("postgres"), "public", "ALTER DATABASE postgres SET synchronous_commit = off",
		"ALTER SYSTEM SET wal_writer_delay = '10s'")
	s := open(t, server.url("postgres"), "")
	h := head("a")
	for i := range 3 {
		var err error
		for n := range 5 {
			h, err = storetest.CommitOne(t.Context(), s, h,
				put(allocation("a", "x", fmt.Sprintf("10.0.%d.%d/32", i, n))))
			require.NoError(t, err)
		}
		require.NoError(t, server.stop(syscall.SIGQUIT))
		require.NoError(t, server.restart())
		// The same handle finds the server again.
		var got store.Record
		require.Eventually(t, func() bool {
			got, err = s.Get(t.Context(), h.Key)
			return err == nil
		}, 20*time.Second, 10*time.Millisecond)
		require.Equal(t, h.Revision, got.Revision)
	}
}

// TestPoolOutages has several workers allocate and release through a proxy that loses requests and answers all the
// time. What they were told holds, nothing is given twice, and nothing leaks.
func TestPoolOutages(t *testing.T) {
	o := newOutage(t)
	p, err := pool.Create(t.Context(), o.through, pooltest.Name, pooltest.Spec(t), nil)
	require.NoError(t, err)
	const workers, each = 8, 40
	var mu sync.Mutex
	held, unsure := map[string]pool.Allocation{}, map[string]bool{}
	unknown := 0
	done := make(chan struct{})
	var wg, trouble sync.WaitGroup
	trouble.Go(func() {
		for i := 0; ; i++ {
			var happened <-chan struct{}
			switch i % 3 {
			case 0:
				happened = o.proxy.LoseReply("worker-")
			case 1:
				happened = o.proxy.CutAfterRequestBytes(rand.IntN(4000))
			default:
				happened = o.proxy.CutAfterReplyBytes(rand.IntN(4000))
			}
			select {
			case <-happened:
			case <-done:
				return
			}
		}
	})
	for worker := range workers {
		wg.Go(func() {
			for n := range each {
				c := pooltest.Claim(worker, n)
				a, err := p.Allocate(t.Context(), c)
				release := err == nil && n%3 == 0
				if release {
					_, err = p.Release(t.Context(), pool.Held{Owner: c.Owner})
				}
				mu.Lock()
				switch {
				case err != nil:
					unsure[c.Owner] = true
					if errors.Is(err, store.ErrUnknown) {
						unknown++
					}
				case !release:
					held[c.Owner] = a
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	close(done)
	trouble.Wait()
	o.proxy.Heal()
	t.Logf("of %d claims %d ended with an error, %d of them with an unknown outcome", workers*each, len(unsure), unknown)

	direct, err := pool.Open(t.Context(), o.direct, pooltest.Name, nil)
	require.NoError(t, err)
	found := pooltest.RequireConsistent(t, direct)
	for owner, want := range held {
		require.Equal(t, want.Prefixes, found[owner].Prefixes, owner)
	}
	for owner := range found {
		require.True(t, unsure[owner] || held[owner].Owner != "",
			"%s holds what it has released, or was never told to have", owner)
	}
}

// mountSmall mounts a file system of 16 MiB for the server's user, or skips the test.
func mountSmall(t *testing.T, s *server) string {
	t.Helper()
	dir, err := os.MkdirTemp(s.dir, "small-")
	require.NoError(t, err)
	unmount, err := mountTemporary(dir, 16<<20)
	if err != nil && !inCI() {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(unmount)
	inside := dir + "/tables"
	require.NoError(t, os.Mkdir(inside, 0o700))
	_, err = serverAttributes(inside)
	require.NoError(t, err)
	return inside
}
