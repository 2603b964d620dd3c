package postgres_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
)

// line is a [servertest.Line].
type line struct {
	schema string
	db     *pgxpool.Pool
	number int64
}

func newLine(t *testing.T, g *servertest.Group) servertest.Line {
	t.Helper()
	l := &line{schema: g.Schema, db: connect(t, g.URL)}
	g.Lead(t, g.Open(t), "who waits").End()
	sql := "SELECT line FROM " + quoted(g.Schema) + ".ask"
	require.NoError(t, l.db.QueryRow(t.Context(), sql).Scan(&l.number))
	return l
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

func (l *line) Block(t *testing.T) (unblock func()) {
	t.Helper()
	tx, err := l.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock($1)", l.number)
	require.NoError(t, err)
	return func() {
		t.Helper()
		require.NoError(t, tx.Rollback(t.Context()))
	}
}

func (l *line) Asks(t *testing.T) int { return l.count(t, "ask IS NOT NULL") }

func (l *line) Answers(t *testing.T) int { return l.count(t, "answer IS NOT NULL") }

// count is how many rows of table ask there are.
func (l *line) count(t *testing.T, where string) (n int) {
	t.Helper()
	sql := "SELECT count(*) FROM " + quoted(l.schema) + ".ask WHERE " + where
	require.NoError(t, l.db.QueryRow(t.Context(), sql).Scan(&n))
	return n
}

// waits selects the sessions that wait for their turns.
const waits = "wait_event = 'advisory'"

func (l *line) Waiting(t *testing.T) int { return l.sessions(t, "pid", waits) }

func (l *line) EndWaiting(t *testing.T) {
	require.Equal(t, 1, l.sessions(t, "pg_terminate_backend(pid)", waits))
}

func (l *line) EndHolder(t *testing.T) {
	require.Equal(t, 1, l.sessions(t, "pg_terminate_backend(pid)", "state = 'idle in transaction'"))
}

// sessions does something with sessions of the schema, and returns with how many.
func (l *line) sessions(t *testing.T, do, where string) int {
	t.Helper()
	tag, err := l.db.Exec(t.Context(), "SELECT "+do+" FROM pg_stat_activity WHERE "+where+
		" AND pid <> pg_backend_pid() AND position($1 IN query) > 0", quoted(l.schema))
	require.NoError(t, err)
	return int(tag.RowsAffected())
}

func TestJoinAnswered(t *testing.T) { tests.JoinAnswered(t) }

func TestJoinLeft(t *testing.T) { tests.JoinLeft(t) }

func TestJoinCut(t *testing.T) {
	var refused *pgconn.PgError
	require.ErrorAs(t, tests.JoinCut(t), &refused)
}

func TestJoinOutlived(t *testing.T) { require.Less(t, tests.JoinOutlived(t), 2*store.MaxTurn) }

// TestJoinLateCommit has a turn last too long, and commit nevertheless. It answers what it has seen, also to one that
// has had its turn since then.
func TestJoinLateCommit(t *testing.T) {
	g := newGroup(t)
	slow := g.Open(t)
	unblock := g.Block(t)
	leads, waits := g.Join(t, slow, "slow"), g.JoinNew(t, "waits")
	unblock()
	late, next := (<-leads).Turn, <-waits
	require.NoError(t, next.Err)
	require.Empty(t, next.Turn.Asks(), "the session of the slow one is over")
	h, err := g.Commit(t, slow, late)
	require.NoError(t, err)
	next.Turn.End()
	answer, revision, err := next.Turn.Answered()
	require.NoError(t, err)
	require.Equal(t, "WAITS", string(answer))
	require.Equal(t, h.Revision, revision)
	require.Zero(t, g.Asks(t))
}

func TestJoinKilled(t *testing.T) { require.Less(t, tests.JoinKilled(t), 2*store.MaxTurn) }

func TestJoinCommitFails(t *testing.T) { tests.JoinCommitFails(t) }

func TestJoinCommitUnknown(t *testing.T) { tests.JoinCommitUnknown(t) }

// TestJoinWithoutTable has the rows of table ask be lost, as in a crash of the server: nothing can be said of an ask.
func TestJoinWithoutTable(t *testing.T) {
	g := newGroup(t)
	turn := g.Lead(t, g.Open(t), "leader")
	ctx, cancel := context.WithCancel(t.Context())
	waits := g.JoinUntil(ctx, t, g.Open(t), "waits")
	_, err := g.line.db.Exec(t.Context(), "DELETE FROM "+quoted(g.Schema)+".ask")
	require.NoError(t, err)
	cancel()
	err = (<-waits).Err
	require.ErrorIs(t, err, store.ErrUnknown)
	require.ErrorIs(t, err, context.Canceled)
	turn.End()
	_, _, err = turn.Answered()
	require.ErrorIs(t, err, store.ErrUnknown)
}

// TestJoinSwept leaves rows in the table, as dead processes do.
func TestJoinSwept(t *testing.T) {
	g := newGroup(t)
	_, err := g.line.db.Exec(t.Context(), "INSERT INTO "+quoted(g.Schema)+
		".ask (line, slot, serial, ask, at) VALUES (1, 1, 1, 'old', now() - interval '2 minutes'), (1, 2, 1, 'new', now())")
	require.NoError(t, err)
	g.Lead(t, g.Open(t), "leader").End()
	require.Equal(t, 1, g.line.count(t, "line = 1"))
	require.Equal(t, 1, g.line.count(t, "line = 1 AND ask = 'new'"))
}

func TestJoinOldAsk(t *testing.T) {
	g := newGroup(t)
	g.JoinOldAsk(t, func() {
		execute(t, g.URL, g.Schema, "UPDATE ask SET at = at - interval '10 seconds' WHERE ask = 'old'")
	})
}

// TestJoinContexts cannot tell of those that end amid the first ask of a slot.
func TestJoinContexts(t *testing.T) { tests.JoinContexts(t) }

// TestJoinModes joins in each of the modes in which pgx can run statements.
func TestJoinModes(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			g := tests.NewGroup(t)
			handle := func() *postgres.Store { return openOn(t, connect(t, g.URL, inMode(mode)), g.Schema) }
			g.JoinMode(t, handle(), handle())
		})
	}
}

// modes are those in which pgx can run statements.
var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec,
	pgx.QueryExecModeSimpleProtocol,
}

func inMode(mode pgx.QueryExecMode) func(*pgxpool.Config) {
	return func(config *pgxpool.Config) { config.ConnConfig.DefaultQueryExecMode = mode }
}

func TestJoinOneConnection(t *testing.T) { tests.JoinOneConnection(t) }
