package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/mysql"
	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// line is a [servertest.Line].
type line struct {
	dsn, schema string
	db          *sql.DB
	name        string // of its lock
}

func newLine(t *testing.T, g *servertest.Group) servertest.Line {
	t.Helper()
	return &line{g.URL, g.Schema, connect(t, g.URL), open(t, g.URL, g.Schema).Line(g.Head.Key)}
}

// group is a group, and its line.
type group struct {
	*servertest.Group
	line *line
}

func newGroup(t *testing.T) group {
	t.Helper()
	g := tests.NewGroup(t)
	return group{g, g.Line.(*line)}
}

// Block implements [servertest.Line]. The session is at work all the while, so nobody ends it.
func (l *line) Block(t *testing.T) (unblock func()) {
	t.Helper()
	conn, err := l.db.Conn(t.Context())
	require.NoError(t, err)
	var session, locked int64
	err = conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID(), GET_LOCK(?, 100)", l.name).Scan(&session, &locked)
	require.NoError(t, err)
	require.Equal(t, int64(1), locked)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = conn.ExecContext(context.Background(), "DO SLEEP(1000)")
		conn.Close()
	}()
	unblock = sync.OnceFunc(func() {
		_, _ = l.db.Exec(fmt.Sprint("KILL ", session))
		<-ended
	})
	t.Cleanup(unblock)
	return unblock
}

func (l *line) Asks(t *testing.T) int { return l.count(t, "ask") }

func (l *line) Answers(t *testing.T) int { return l.count(t, "answer") }

// count is how many rows of a table there are, as a dirty read sees them.
func (l *line) count(t *testing.T, where string) (n int) {
	t.Helper()
	tx, err := l.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelReadUncommitted})
	require.NoError(t, err)
	defer tx.Rollback()
	query := "SELECT COUNT(*) FROM " + quoted(l.schema) + "." + where
	require.NoError(t, tx.QueryRowContext(t.Context(), query).Scan(&n))
	return n
}

func (l *line) Waiting(t *testing.T) int { return len(l.waiting(t)) }

func (l *line) EndWaiting(t *testing.T) { l.kill(t, l.waiting(t)) }

func (l *line) EndHolder(t *testing.T) { l.kill(t, l.sessions(t, "SELECT IS_USED_LOCK(?)", l.name)) }

// waiting are the sessions that wait for their turns.
func (l *line) waiting(t *testing.T) []int64 {
	t.Helper()
	return l.sessions(t, "SELECT id FROM information_schema.processlist WHERE state = 'User lock' AND INSTR(info, ?) > 0",
		schemaMark(l.schema))
}

func (l *line) sessions(t *testing.T, query, arg string) (all []int64) {
	t.Helper()
	rows, err := l.db.QueryContext(t.Context(), query, arg)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var session sql.NullInt64
		require.NoError(t, rows.Scan(&session))
		if session.Valid {
			all = append(all, session.Int64)
		}
	}
	require.NoError(t, rows.Err())
	return all
}

// kill ends a session, of which there must be just one.
func (l *line) kill(t *testing.T, sessions []int64) {
	t.Helper()
	require.Len(t, sessions, 1)
	_, err := l.db.ExecContext(t.Context(), fmt.Sprint("KILL ", sessions[0]))
	require.NoError(t, err)
}

// change runs the statement of the migration that makes a procedure, with other texts in place of some: the pairs are
// one that it has, and what to put there.
func (l *line) change(t *testing.T, procedure string, pairs ...string) {
	t.Helper()
	migrations, err := mysql.Migrations(l.schema)
	require.NoError(t, err)
	changed := 0
	for _, text := range migrations[0].Statements() {
		if !strings.Contains(text, "CREATE PROCEDURE "+schemaMark(l.schema)+procedure) {
			continue
		}
		for i := 0; i < len(pairs); i += 2 {
			require.Contains(t, text, pairs[i])
		}
		execute(t, l.dsn, "", "DROP PROCEDURE "+schemaMark(l.schema)+procedure, strings.NewReplacer(pairs...).Replace(text))
		changed++
	}
	require.Equal(t, 1, changed)
}

func TestJoinAnswered(t *testing.T) { tests.JoinAnswered(t) }

func TestJoinLeft(t *testing.T) { tests.JoinLeft(t) }

func TestJoinCut(t *testing.T) { _ = tests.JoinCut(t) }

func TestJoinOutlived(t *testing.T) { tests.JoinOutlived(t) }

// TestJoinLateCommit has a turn last too long, and commit nevertheless. It answers nobody any more: who waited has its
// own turn.
func TestJoinLateCommit(t *testing.T) {
	g := newGroup(t)
	slow := g.Open(t)
	unblock := g.Block(t)
	leads, waits := g.Join(t, slow, "slow"), g.JoinNew(t, "waits")
	unblock()
	late, next := (<-leads).Turn, <-waits
	require.NoError(t, next.Err)
	require.Empty(t, next.Turn.Asks(), "the session of the slow one is over")
	require.Len(t, late.Asks(), 1)
	_, err := g.Commit(t, slow, late)
	var conflict *store.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, g.Head, conflict.Current)
	answer, _, err := next.Turn.Answered()
	require.NoError(t, err)
	require.Nil(t, answer)
	next.Turn.End()

	// Without answers it commits, in the line.
	late = g.Lead(t, slow, "slow")
	other := <-g.JoinNew(t, "")
	other.Turn.End()
	_, err = g.Commit(t, slow, late)
	require.NoError(t, err)
	require.Zero(t, g.Asks(t))
}

func TestJoinKilled(t *testing.T) { tests.JoinKilled(t) }

func TestJoinCommitFails(t *testing.T) { tests.JoinCommitFails(t) }

func TestJoinCommitUnknown(t *testing.T) { tests.JoinCommitUnknown(t) }

// TestJoinSwept has an answer that is too old for anyone to look for it, which the next answer removes, and a new one.
func TestJoinSwept(t *testing.T) {
	g := newGroup(t)
	for id, age := range map[string]string{"old": "11 MINUTE", "new": "9 MINUTE"} {
		_, err := g.line.db.ExecContext(t.Context(), "INSERT INTO "+quoted(g.Schema)+".answer (line, id, answer, at) "+
			"VALUES (?, ?, 'x', UTC_TIMESTAMP(6) - INTERVAL "+age+")", g.line.name, id)
		require.NoError(t, err)
	}
	g.AnswerOne(t, g.Open(t), g.Open(t))
	require.Zero(t, g.line.count(t, "answer WHERE id LIKE 'old%'"))
	require.Equal(t, 1, g.line.count(t, "answer WHERE id LIKE 'new%'"))
}

func TestJoinOldAsk(t *testing.T) {
	g := newGroup(t)
	g.line.change(t, "join_line", "INTERVAL 5 SECOND", "INTERVAL 1 MICROSECOND")
	g.JoinOldAsk(t, func() {})
}

// TestJoinLost has one wait for so long that an answer would have been removed: nothing can be said of its ask.
func TestJoinLost(t *testing.T) {
	g := newGroup(t)
	g.line.change(t, "join_line", "INTERVAL 5 MINUTE", "INTERVAL 1 MICROSECOND")
	unblock := g.Block(t)
	waits := g.JoinNew(t, "waits")
	unblock()
	require.ErrorIs(t, (<-waits).Err, store.ErrUnknown)
	g.Lead(t, g.Open(t), "").End()
}

// TestStoppedHolder has a session keep the lock that nobody else may end: the server does so itself.
func TestStoppedHolder(t *testing.T) {
	g := newGroup(t)
	g.line.change(t, "oust", "KILL CONNECTION v_session", "DO 0")
	g.Lead(t, g.Open(t), "stopped")
	begin := time.Now()
	next := <-g.JoinNew(t, "next")
	require.NoError(t, next.Err)
	require.Greater(t, time.Since(begin), 2*store.MaxTurn)
	next.Turn.End()
}

func TestJoinContexts(t *testing.T) { tests.JoinContexts(t) }

// TestJoinModes joins with and without arguments in the text of statements.
func TestJoinModes(t *testing.T) {
	for name, interpolates := range map[string]bool{"text": true, "prepared": false} {
		t.Run(name, func(t *testing.T) {
			g := tests.NewGroup(t)
			handle := func() *mysql.Store {
				db := connect(t, g.URL, func(config *driver.Config) { config.InterpolateParams = interpolates })
				return openOn(t, db, 4, g.Schema)
			}
			g.JoinMode(t, handle(), handle())
		})
	}
}

func TestJoinOneConnection(t *testing.T) { tests.JoinOneConnection(t) }

// answerAndLeave has one be answered, behind another that has its turn then, and leave before it has heard of that.
func (g group) answerAndLeave(t *testing.T, leaver servertest.Store) (left servertest.Joined, revision int64) {
	t.Helper()
	g.line.change(t, "oust", "KILL CONNECTION v_session", "DO 0") // so that it has its turn for as long as it takes
	g.line.change(t, "enter_lines", "wait_timeout = 1;", "wait_timeout = 1000;")
	leader := g.Open(t)
	unblock := g.Block(t)
	leads, between := g.Join(t, leader, "leader"), g.JoinNew(t, "")
	ctx, leave := context.WithCancel(t.Context())
	leaves := g.JoinUntil(ctx, t, leaver, "leaves")
	unblock()
	head, err := g.Commit(t, leader, (<-leads).Turn)
	require.NoError(t, err)
	require.NoError(t, (<-between).Err)
	leave()
	return <-leaves, head.Revision
}

// TestJoinLeftUntold has the server say nothing to one that withdraws its ask, at the first time, or each time. That
// does not mean that it was not answered.
func TestJoinLeftUntold(t *testing.T) {
	const read, end = "a WHERE a.line = v_line", "COMMIT;"
	t.Run("once", func(t *testing.T) {
		g := newGroup(t)
		in := schemaMark(g.Schema)
		execute(t, g.URL, "", "CREATE TABLE "+in+"told (n integer)")
		g.line.change(t, "withdraw",
			read, "a JOIN (SELECT COUNT(*) AS n FROM "+in+"told) o ON o.n > 0 WHERE a.line = v_line",
			end, "COMMIT; INSERT INTO "+in+"told VALUES (1);")
		left, at := g.answerAndLeave(t, g.Open(t))
		answer, revision := left.Answered(t)
		require.Equal(t, "LEAVES", answer)
		require.Equal(t, at, revision)
	})
	t.Run("always", func(t *testing.T) {
		g := newGroup(t)
		g.line.change(t, "withdraw", read, "a WHERE FALSE AND a.line = v_line")
		left, _ := g.answerAndLeave(t, g.Open(t))
		require.ErrorIs(t, left.Err, store.ErrUnknown)
		require.ErrorIs(t, left.Err, context.Canceled)
	})
}

// TestJoinLeftUnheard loses what the server says to one that withdraws its ask: one that was answered, and one that was
// not. It asks again.
func TestJoinLeftUnheard(t *testing.T) {
	g := newGroup(t)
	between := proxy.New(t, sharedServer(t).config.Addr)
	leaver := openOn(t, connect(t, sharedServer(t).dsnAt(between.Addr())), 4, g.Schema)
	lost := between.LoseReply("withdraw(")
	left, at := g.answerAndLeave(t, leaver)
	<-lost
	answer, revision := left.Answered(t)
	require.Equal(t, "LEAVES", answer)
	require.Equal(t, at, revision)

	g = newGroup(t)
	leader := g.Open(t)
	leaver = openOn(t, connect(t, sharedServer(t).dsnAt(between.Addr())), 4, g.Schema)
	unblock := g.Block(t)
	leads := g.Join(t, leader, "leader")
	ctx, leave := context.WithCancel(t.Context())
	leaves := g.JoinUntil(ctx, t, leaver, "leaves")
	lost = between.LoseReply("withdraw(")
	leave()
	left = <-leaves
	<-lost
	require.ErrorIs(t, left.Err, context.Canceled)
	require.NotErrorIs(t, left.Err, store.ErrUnknown)
	require.Equal(t, 1, g.line.count(t, "answer WHERE answer IS NULL"))
	unblock()
	next := <-leads
	require.NoError(t, next.Err)
	require.Empty(t, next.Turn.Asks())
	next.Turn.End()
}

// TestJoinLeftSees has one withdraw its ask in a transaction whose reads do not see the answer that is in the way of
// that, as may be while the answer is being committed.
func TestJoinLeftSees(t *testing.T) {
	g := newGroup(t)
	lock := "GET_LOCK(" + literal(g.line.name) + ", 100)"
	g.line.change(t, "withdraw",
		"READ COMMITTED", "REPEATABLE READ",
		"START TRANSACTION;", "START TRANSACTION WITH CONSISTENT SNAPSHOT; DO "+lock+", RELEASE_ALL_LOCKS();",
		"COMMIT;", "")
	unblock := g.Block(t)
	conn, err := g.line.db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	// MariaDB has this, and would refuse to change the row in such a transaction. MySQL knows no such variable.
	_, _ = conn.ExecContext(t.Context(), "SET SESSION innodb_snapshot_isolation = OFF")
	const id = "00112233445566778899aabbccddeeff"
	done := make(chan string, 1)
	go func() {
		var outcome string
		var revision, answer sql.NullString
		err := conn.QueryRowContext(t.Context(), "CALL "+schemaMark(g.Schema)+"withdraw(?, ?)", g.line.name, id).
			Scan(&outcome, &revision, &answer)
		done <- fmt.Sprint(outcome, revision.String, answer.String, err)
	}()
	require.Eventually(t, func() bool {
		const waiting = "SELECT id FROM information_schema.processlist WHERE state = 'User lock' AND INSTR(info, ?) > 0"
		return len(g.line.sessions(t, waiting, lock)) == 1
	}, 2*time.Minute, time.Millisecond)
	execute(t, g.URL, g.Schema, "INSERT INTO answer (line, id, answer, revision, at) VALUES ("+literal(g.line.name)+
		", UNHEX('"+id+"'), 'yes', 7, UTC_TIMESTAMP(6))")
	unblock()
	require.Equal(t, "answer7yes<nil>", <-done)
}
