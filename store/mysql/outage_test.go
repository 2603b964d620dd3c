package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/mysql"
	"github.com/ipalloc/ipalloc/store/storetest"
	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// outage is a store behind a proxy, and another handle on it that is not.
type outage struct {
	proxy           *proxy.Proxy
	through, direct *mysql.Store
	dsn, schema     string
	head            store.Record // of pool a
}

// newOutage opens the store behind the proxy on so many connections.
func newOutage(t *testing.T, conns int) *outage {
	t.Helper()
	server := sharedServer(t)
	o := &outage{proxy: proxy.New(t, server.address()), dsn: server.dsn(), schema: newSchema()}
	o.direct = open(t, o.dsn, o.schema)
	o.through = openOn(t, connect(t, server.dsnAt(o.proxy.Addr())), conns, o.schema)
	var err error
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
	o := newOutage(t, 4)
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
		}, 2*time.Minute, time.Millisecond)
		o.requireHead(t, true)
	}
	var err error
	o.head, err = storetest.CommitOne(t.Context(), o.through, o.head)
	require.NoError(t, err)
}

func TestRequestLost(t *testing.T) {
	o := newOutage(t, 4)
	for _, n := range []int{1, 50, 300} {
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
	o := newOutage(t, 1)
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
	require.Eventually(t, func() bool {
		got, err := o.direct.Get(t.Context(), o.head.Key)
		return err == nil && got.Revision != o.head.Revision
	}, 2*time.Minute, time.Millisecond)
}

// TestServerDown commits when nobody answers: nothing is sent, so nothing is unknown.
func TestServerDown(t *testing.T) {
	o := newOutage(t, 1)
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

// TestConnectionLostBefore has a connection be lost when the first byte is to be sent. A commit, a turn and an ask find
// that, and take another connection.
func TestConnectionLostBefore(t *testing.T) {
	g := newGroup(t)
	var armed atomic.Bool
	s := openOn(t, connect(t, g.dsn, func(config *driver.Config) {
		config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return lostConn{conn, &armed}, err
		}
	}), 4, g.schema)
	lose := func(do func() error) {
		t.Helper()
		armed.Store(true)
		require.NoError(t, do())
		require.False(t, armed.Load())
	}
	lose(func() (err error) {
		g.head, err = storetest.CommitOne(t.Context(), s, g.head)
		return err
	})
	lose(func() error {
		turn, err := s.Turn(t.Context(), g.head.Key)
		if err == nil {
			turn.End()
		}
		return err
	})
	lose(func() error {
		turn, err := s.Join(t.Context(), g.head.Key, []byte("x"))
		if err == nil {
			turn.End()
		}
		return err
	})
}

// TestRefused has the server refuse a commit for reasons of its own. That is no doubt about the outcome.
func TestRefused(t *testing.T) {
	create := create(allocation("a", "x", "10.0.0.1/32"))
	for _, c := range []struct {
		name    string
		numbers []uint16
		blocked func(t *testing.T, o *outage) // what happens to a commit that waits for the row of the head
	}{
		{name: "disk full, as a trigger says", numbers: []uint16{1114}},
		{name: "query ended", numbers: []uint16{1317}, blocked: func(t *testing.T, o *outage) {
			endBlocked(t, o, "KILL QUERY")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOutage(t, 4)
			var err error
			if c.blocked != nil {
				lockHead(t, o, func() { c.blocked(t, o) }, func() {
					_, err = storetest.CommitOne(t.Context(), o.direct, o.head, create)
				})
			} else {
				execute(t, o.dsn, o.schema, "CREATE TRIGGER full BEFORE INSERT ON record FOR EACH ROW "+
					"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'the table is full'")
				_, err = storetest.CommitOne(t.Context(), o.direct, o.head, create)
			}
			var refused *driver.MySQLError
			require.ErrorAs(t, err, &refused)
			require.Contains(t, c.numbers, refused.Number)
			require.NotErrorIs(t, err, store.ErrUnknown)
			o.requireHead(t, false)
			o.head, err = storetest.CommitOne(t.Context(), o.direct, o.head) // its connections are good
			require.NoError(t, err)
		})
	}
}

// TestSessionEnded ends the session of a commit before it commits, and MariaDB does not say why.
func TestSessionEnded(t *testing.T) {
	o := newOutage(t, 4)
	var err error
	lockHead(t, o, func() { endBlocked(t, o, "KILL") }, func() {
		_, err = storetest.CommitOne(t.Context(), o.direct, o.head)
	})
	require.Error(t, err)
	require.NoError(t, awaitCommits(t, connect(t, o.dsn), o.schema))
	o.requireHead(t, false)
	_, err = storetest.CommitOne(t.Context(), o.direct, o.head)
	require.NoError(t, err)
}

// TestReadOnly has a server become read-only, as one that was demoted: a commit says so, a new Store too, and the next
// commit is through another connection.
func TestReadOnly(t *testing.T) {
	server, schema := ownServer(t), newSchema()
	open(t, server.dsn(), schema)
	execute(t, server.dsn(), "", "CREATE USER plain@'%'",
		"GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON "+schemaMark(schema)+"* TO plain@'%'")
	config := server.dsnOf.Clone()
	config.User = "plain"
	s := open(t, config.FormatDSN(), schema)
	h, err := storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	execute(t, server.dsn(), "", "SET GLOBAL read_only = 1")
	t.Cleanup(func() { execute(t, server.dsn(), "", "SET GLOBAL read_only = 0") })
	for range 3 { // on a connection that it had, and on new ones
		_, err = storetest.CommitOne(t.Context(), s, h)
		require.ErrorIs(t, err, mysql.ErrReadOnly)
		require.NotErrorIs(t, err, store.ErrUnknown)
	}
	_, err = mysql.Open(t.Context(), config.FormatDSN(), nil)
	require.ErrorIs(t, err, mysql.ErrReadOnly)
	_, err = mysql.New(t.Context(), connect(t, config.FormatDSN()), nil)
	require.ErrorIs(t, err, mysql.ErrReadOnly)
	execute(t, server.dsn(), "", "SET GLOBAL read_only = 0")
	_, err = storetest.CommitOne(t.Context(), s, h)
	require.NoError(t, err)
}

// lockHead runs do while another transaction has the head locked, and meanwhile what happens.
func lockHead(t *testing.T, o *outage, happens, do func()) {
	t.Helper()
	tx := lockRow(t, o.dsn, o.schema, "a")
	var wg sync.WaitGroup
	wg.Go(do)
	happens()
	wg.Wait()
	require.NoError(t, tx.Rollback())
}

// lockRow locks the row of a pool's head.
func lockRow(t *testing.T, dsn, schema, pool string) *sql.Tx {
	t.Helper()
	tx, err := connect(t, dsn).BeginTx(t.Context(), nil)
	require.NoError(t, err)
	var name string
	err = tx.QueryRowContext(t.Context(), "SELECT pool FROM "+quoted(schema)+
		".record WHERE kind = 'pool' AND pool = ? AND name = '' FOR UPDATE", pool).Scan(&name)
	require.NoError(t, err)
	return tx
}

// endBlocked ends what waits for the row, as soon as there is one.
func endBlocked(t *testing.T, o *outage, kill string) {
	t.Helper()
	db := connect(t, o.dsn)
	session := awaitBlocked(t, db, o.schema)
	_, err := db.ExecContext(t.Context(), fmt.Sprint(kill, " ", session))
	require.NoError(t, err)
}

// awaitBlocked returns the session that waits for a lock of a row.
func awaitBlocked(t *testing.T, db *sql.DB, schema string) (session int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		err := db.QueryRowContext(t.Context(), "SELECT p.id FROM information_schema.processlist p JOIN "+
			"information_schema.innodb_trx x ON x.trx_mysql_thread_id = p.id WHERE x.trx_state = 'LOCK WAIT' AND "+
			"INSTR(p.info, ?) > 0", schemaMark(schema)).Scan(&session)
		return err == nil
	}, 2*time.Minute, 150*time.Millisecond) // InnoDB renews the table ten times a second, if nobody asks meanwhile
	return session
}

// TestDeadlock has a commit and a transaction by hand wait for one another. Whichever the server ends, the commit
// succeeds.
func TestDeadlock(t *testing.T) {
	o := newOutage(t, 4)
	b, err := storetest.CommitOne(t.Context(), o.direct, head("b"))
	require.NoError(t, err)
	tx := lockRow(t, o.dsn, o.schema, "b")
	done := make(chan error, 1)
	go func() { // locks a, and waits for b
		_, err := o.direct.Commit(t.Context(), store.Change{Head: o.head}, store.Change{Head: b})
		done <- err
	}()
	awaitBlocked(t, connect(t, o.dsn), o.schema)
	_, err = tx.ExecContext(t.Context(), "UPDATE "+quoted(o.schema)+
		".record SET state = '' WHERE kind = 'pool' AND pool = 'a' AND name = ''")
	var deadlock *driver.MySQLError
	if err != nil {
		require.ErrorAs(t, err, &deadlock)
		require.Equal(t, uint16(1213), deadlock.Number)
	}
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-done)
}

// TestLockWaitTimeout has rows be locked for longer than the server waits. The commit is tried again until they are
// not.
func TestLockWaitTimeout(t *testing.T) {
	o := newOutage(t, 4)
	db := connect(t, o.dsn, func(config *driver.Config) {
		config.Params = map[string]string{"innodb_lock_wait_timeout": "1"}
	})
	s := openOn(t, db, 4, o.schema)
	tx := lockRow(t, o.dsn, o.schema, "a")
	timer := time.AfterFunc(1500*time.Millisecond, func() { _ = tx.Rollback() })
	defer timer.Stop()
	_, err := storetest.CommitOne(t.Context(), s, o.head)
	require.NoError(t, err)
}

// TestTooLarge has commits be just small enough for a packet, and too large.
func TestTooLarge(t *testing.T) {
	server := ownServer(t)
	execute(t, server.dsn(), "", "SET GLOBAL max_allowed_packet = 1048576")
	t.Cleanup(func() { execute(t, server.dsn(), "", "SET GLOBAL max_allowed_packet = 16777216") })
	s := open(t, server.dsn(), newSchema())
	h, err := storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	commit := func(size int, of string) error {
		r := h
		r.Data = []byte(`"` + strings.Repeat(of, size/len(of)) + `"`)
		next, err := storetest.CommitOne(t.Context(), s, r)
		if err == nil {
			h = next
		}
		return err
	}
	require.NoError(t, commit(1<<20-2048, "x"))
	require.NoError(t, commit(1<<18-2048, `\"`), "takes six bytes for each two")
	for range 2 {
		err = commit(1<<20, "x")
		var tooLarge *store.TooLargeError
		require.ErrorAs(t, err, &tooLarge)
		require.Equal(t, int64(1<<20), tooLarge.Limit)
		require.Greater(t, tooLarge.Size, tooLarge.Limit)
		require.NotErrorIs(t, err, store.ErrUnknown)
	}
	require.ErrorIs(t, commit(1<<19, `\"`), store.ErrTooLarge)
	got, err := s.Get(t.Context(), h.Key)
	require.NoError(t, err)
	require.Equal(t, h, got)
}

// TestDurable has the server crash after each few commits, and restart. The same handle finds it again, with all that
// it was told is stored.
func TestDurable(t *testing.T) {
	server := ownServer(t)
	s := open(t, server.dsn(), newSchema())
	h := head("a")
	for i, signal := range []os.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		var err error
		for n := range 5 {
			h, err = storetest.CommitOne(t.Context(), s, h, put(allocation("a", "x", fmt.Sprintf("10.0.%d.%d/32", i, n))))
			require.NoError(t, err)
		}
		require.NoError(t, server.stop(signal))
		require.NoError(t, server.restart())
		var got store.Record
		require.Eventually(t, func() bool {
			got, err = s.Get(t.Context(), h.Key)
			return err == nil
		}, 2*time.Minute, 10*time.Millisecond)
		require.Equal(t, h.Revision, got.Revision)
		deleted, err := storetest.CommitOne(t.Context(), s, h, remove(h))
		require.NoError(t, err)
		h, err = storetest.CommitOne(t.Context(), s, head("a"))
		require.NoError(t, err)
		require.Greater(t, h.Revision, deleted.Revision, "the counter has survived")
	}
}

// TestPoolOutages has several workers allocate and release through a proxy that loses requests and answers all the
// time. What they were told holds, nothing is given twice, and nothing leaks.
func TestPoolOutages(t *testing.T) {
	o := newOutage(t, 8)
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

	require.NoError(t, awaitCommits(t, connect(t, o.dsn), o.schema))
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

// lostConn is a connection that is lost at the first byte of the next request, when it is armed.
type lostConn struct {
	net.Conn
	armed *atomic.Bool
}

func (c lostConn) Write(p []byte) (int, error) {
	if c.armed.CompareAndSwap(true, false) {
		c.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}
