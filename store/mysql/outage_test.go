package mysql_test

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/mysql"
	"github.com/ipalloc/ipalloc/store/storetest"
)

func TestAnswerLost(t *testing.T) { tests.AnswerLost(t) }

func TestRequestLost(t *testing.T) { tests.RequestLost(t, 1, 50, 300) }

func TestSlowServer(t *testing.T) { tests.SlowServer(t) }

func TestServerDown(t *testing.T) { tests.ServerDown(t) }

// TestConnectionLostBefore has a connection be lost when the first byte is to be sent. A commit, a read, a turn and
// an ask find that, and take another connection.
func TestConnectionLostBefore(t *testing.T) {
	g := tests.NewGroup(t)
	var armed atomic.Bool
	s := tests.Connect(t, g.URL, g.Schema, 4, func(conn net.Conn) net.Conn { return lostConn{conn, &armed} })
	lose := func(do func() error) {
		t.Helper()
		armed.Store(true)
		require.NoError(t, do())
		require.False(t, armed.Load())
	}
	lose(func() (err error) {
		g.Head, err = storetest.CommitOne(t.Context(), s, g.Head)
		return err
	})
	lose(func() error {
		_, err := s.GetAll(t.Context(), g.Head.Key)
		return err
	})
	lose(func() error {
		turn, err := s.Turn(t.Context(), g.Head.Key)
		if err == nil {
			turn.End()
		}
		return err
	})
	lose(func() error {
		turn, err := s.Join(t.Context(), g.Head.Key, []byte("x"))
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
		blocked func(t *testing.T, o *servertest.Outage) // what happens to a commit that waits for the row of the head
	}{
		{name: "disk full, as a trigger says", numbers: []uint16{1114}},
		{name: "query ended", numbers: []uint16{1317}, blocked: func(t *testing.T, o *servertest.Outage) {
			endBlocked(t, o, "KILL QUERY")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := tests.NewOutage(t, 4)
			var err error
			if c.blocked != nil {
				tests.WhileLocked(t, o, func() { c.blocked(t, o) }, func() {
					_, err = storetest.CommitOne(t.Context(), o.Direct, o.Head, create)
				})
			} else {
				execute(t, o.URL, o.Schema, "CREATE TRIGGER full BEFORE INSERT ON record FOR EACH ROW "+
					"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'the table is full'")
				_, err = storetest.CommitOne(t.Context(), o.Direct, o.Head, create)
			}
			var refused *driver.MySQLError
			require.ErrorAs(t, err, &refused)
			require.Contains(t, c.numbers, refused.Number)
			require.NotErrorIs(t, err, store.ErrUnknown)
			o.RequireHead(t, false)
			o.Head, err = storetest.CommitOne(t.Context(), o.Direct, o.Head) // its connections are good
			require.NoError(t, err)
		})
	}
}

// TestSessionEnded ends the session of a commit before it commits, and MariaDB does not say why.
func TestSessionEnded(t *testing.T) {
	o := tests.NewOutage(t, 4)
	var err error
	tests.WhileLocked(t, o, func() { endBlocked(t, o, "KILL") }, func() {
		_, err = storetest.CommitOne(t.Context(), o.Direct, o.Head)
	})
	require.Error(t, err)
	require.NoError(t, awaitNone(t, connect(t, o.URL), atWork))
	o.RequireHead(t, false)
	_, err = storetest.CommitOne(t.Context(), o.Direct, o.Head)
	require.NoError(t, err)
}

// TestReadOnly has a server become read-only, as one that was demoted: a commit says so, a new Store too, and the next
// commit is through another connection.
func TestReadOnly(t *testing.T) {
	server, schema := ownServer(t), newSchema()
	open(t, server.dsn(), schema)
	execute(t, server.dsn(), "", "CREATE USER plain@'%'",
		"GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON "+schemaMark(schema)+"* TO plain@'%'")
	config := server.config.Clone()
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
func endBlocked(t *testing.T, o *servertest.Outage, kill string) {
	t.Helper()
	db := connect(t, o.URL)
	session := awaitBlocked(t, db, o.Schema)
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
	o := tests.NewOutage(t, 4)
	b, err := storetest.CommitOne(t.Context(), o.Direct, head("b"))
	require.NoError(t, err)
	tx := lockRow(t, o.URL, o.Schema, "b")
	done := make(chan error, 1)
	go func() { // locks a, and waits for b
		_, err := o.Direct.Commit(t.Context(), store.Change{Head: o.Head}, store.Change{Head: b})
		done <- err
	}()
	awaitBlocked(t, connect(t, o.URL), o.Schema)
	_, err = tx.ExecContext(t.Context(), "UPDATE "+quoted(o.Schema)+
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
	o := tests.NewOutage(t, 4)
	db := connect(t, o.URL, func(config *driver.Config) {
		config.Params = map[string]string{"innodb_lock_wait_timeout": "1"}
	})
	s := openOn(t, db, 4, o.Schema)
	tx := lockRow(t, o.URL, o.Schema, "a")
	timer := time.AfterFunc(1500*time.Millisecond, func() { _ = tx.Rollback() })
	defer timer.Stop()
	_, err := storetest.CommitOne(t.Context(), s, o.Head)
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

func TestDurable(t *testing.T) {
	server := ownServer(t)
	restart := func(signal os.Signal) func() error {
		return func() error { return errors.Join(server.Stop(signal), server.Restart()) }
	}
	servertest.Durable(t, open(t, server.dsn(), newSchema()),
		restart(syscall.SIGKILL), restart(syscall.SIGTERM), restart(syscall.SIGKILL))
}

func TestPoolOutages(t *testing.T) {
	tests.PoolOutages(t, func() { require.NoError(t, awaitNone(t, connect(t, sharedServer(t).dsn()), atWork)) })
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
