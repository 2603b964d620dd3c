package mysql_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/mysql"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// joined is what came of a call of Join.
type joined struct {
	turn store.GroupTurn
	err  error
}

// answered requires that another turn answered the ask.
func (j joined) answered(t *testing.T) (answer string, revision int64) {
	t.Helper()
	require.NoError(t, j.err)
	data, revision, err := j.turn.Answered()
	require.NoError(t, err)
	require.NotNil(t, data)
	require.Empty(t, j.turn.Heads())
	return string(data), revision
}

// group is a head at which several handles wait.
type group struct {
	dsn, schema string
	db          *sql.DB
	head        store.Record
	line        string // in which they wait
}

func newGroup(t *testing.T) *group {
	t.Helper()
	g := &group{dsn: sharedServer(t).dsn(), schema: newSchema()}
	g.db = connect(t, g.dsn)
	var err error
	g.head, err = storetest.CommitOne(t.Context(), g.open(t), head("a"))
	require.NoError(t, err)
	g.findLine(t)
	return g
}

// findLine finds out which line it is.
func (g *group) findLine(t *testing.T) {
	t.Helper()
	g.line = g.open(t).Line(g.head.Key)
}

// block keeps all from having turns until the function that it returns is called. The session is at work all the while,
// so nobody ends it.
func (g *group) block(t *testing.T) (unblock func()) {
	t.Helper()
	conn, err := g.db.Conn(t.Context())
	require.NoError(t, err)
	var session, locked int64
	err = conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID(), GET_LOCK(?, 100)", g.line).Scan(&session, &locked)
	require.NoError(t, err)
	require.Equal(t, int64(1), locked)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = conn.ExecContext(context.Background(), "DO SLEEP(1000)")
		conn.Close()
	}()
	unblock = sync.OnceFunc(func() {
		_, _ = g.db.Exec(fmt.Sprint("KILL ", session))
		<-ended
	})
	t.Cleanup(unblock)
	return unblock
}

// count is how many rows of a table there are, as a dirty read sees them.
func (g *group) count(t *testing.T, where string) (n int) {
	t.Helper()
	tx, err := g.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelReadUncommitted})
	require.NoError(t, err)
	defer tx.Rollback()
	query := "SELECT COUNT(*) FROM " + quoted(g.schema) + "." + where
	require.NoError(t, tx.QueryRowContext(t.Context(), query).Scan(&n))
	return n
}

// waiting are the sessions that wait for their turns.
func (g *group) waiting(t *testing.T) []int64 {
	t.Helper()
	return g.sessions(t, "SELECT id FROM information_schema.processlist WHERE state = 'User lock' AND INSTR(info, ?) > 0",
		schemaMark(g.schema))
}

// holder are the sessions, at most one, that have the turn.
func (g *group) holder(t *testing.T) []int64 {
	t.Helper()
	return g.sessions(t, "SELECT IS_USED_LOCK(?)", g.line)
}

func (g *group) sessions(t *testing.T, query, arg string) (all []int64) {
	t.Helper()
	rows, err := g.db.QueryContext(t.Context(), query, arg)
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
func (g *group) kill(t *testing.T, sessions []int64) {
	t.Helper()
	require.Len(t, sessions, 1)
	_, err := g.db.ExecContext(t.Context(), fmt.Sprint("KILL ", sessions[0]))
	require.NoError(t, err)
}

// change runs the statement of the migration that makes a procedure, with another text in place of one.
func (g *group) change(t *testing.T, procedure, before, after string) {
	t.Helper()
	migrations, err := mysql.Migrations(g.schema)
	require.NoError(t, err)
	changed := 0
	for _, text := range migrations[0].Statements() {
		if strings.Contains(text, "CREATE PROCEDURE "+schemaMark(g.schema)+procedure) && strings.Contains(text, before) {
			execute(t, g.dsn, "", "DROP PROCEDURE "+schemaMark(g.schema)+procedure, strings.ReplaceAll(text, before, after))
			changed++
		}
	}
	require.Equal(t, 1, changed)
}

// join has a handle join, and returns when it waits.
func (g *group) join(t *testing.T, ctx context.Context, s *mysql.Store, ask string) <-chan joined {
	t.Helper()
	before := len(g.waiting(t))
	done, ended := make(chan joined, 1), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	var turn store.GroupTurn
	go func() {
		defer close(ended)
		var err error
		turn, err = s.Join(ctx, g.head.Key, []byte(ask))
		done <- joined{turn, err}
	}()
	t.Cleanup(func() {
		cancel()
		if <-ended; turn != nil {
			turn.End()
		}
	})
	waits := func() bool { return len(g.waiting(t)) > before || len(done) > 0 }
	require.Eventually(t, waits, 2*time.Minute, time.Millisecond)
	return done
}

// lead has a handle get its turn, with an ask.
func (g *group) lead(t *testing.T, s *mysql.Store, ask string) store.GroupTurn {
	t.Helper()
	turn, err := s.Join(t.Context(), g.head.Key, []byte(ask))
	require.NoError(t, err)
	t.Cleanup(turn.End)
	answer, _, err := turn.Answered()
	require.NoError(t, err)
	require.Nil(t, answer)
	require.Len(t, turn.Heads(), 1)
	g.head = turn.Heads()[0]
	return turn
}

func (g *group) open(t *testing.T) *mysql.Store {
	t.Helper()
	return open(t, g.dsn, g.schema)
}

// commit commits in the turn, and answers each ask with itself in capitals.
func (g *group) commit(t *testing.T, s *mysql.Store, turn store.GroupTurn) (store.Record, error) {
	t.Helper()
	for i, ask := range turn.Asks() {
		turn.Answer(i, bytes.ToUpper(ask))
	}
	heads, err := s.Commit(t.Context(), store.Change{Head: turn.Heads()[0], Turn: turn})
	if err != nil {
		return store.Record{}, err
	}
	return heads[0], nil
}

// TestJoinAnswered has one turn answer those that came before it began, but for one, which has its own turn then.
func TestJoinAnswered(t *testing.T) {
	g := newGroup(t)
	unblock := g.block(t)
	leader := g.open(t)
	leads := g.join(t, t.Context(), leader, "leader")
	b, c := g.join(t, t.Context(), g.open(t), "b"), g.join(t, t.Context(), g.open(t), "c")
	d := g.join(t, t.Context(), g.open(t), "")
	e := g.join(t, t.Context(), g.open(t), "e")
	unblock()
	turn := (<-leads).turn
	require.Equal(t, [][]byte{[]byte("b"), []byte("c"), []byte("e")}, turn.Asks())
	turn.Answer(0, []byte("for b"))
	turn.Answer(2, []byte{})
	heads, err := leader.Commit(t.Context(), store.Change{Head: turn.Heads()[0], Turn: turn})
	require.NoError(t, err)
	answer, revision := (<-b).answered(t)
	require.Equal(t, "for b", answer)
	require.Equal(t, heads[0].Revision, revision)

	next := <-c
	require.NoError(t, next.err)
	require.Equal(t, heads, next.turn.Heads())
	require.Empty(t, next.turn.Asks(), "that of the leader is gone, and the other has been answered")
	next.turn.End()
	answer, revision = (<-e).answered(t)
	require.Empty(t, answer)
	require.Equal(t, heads[0].Revision, revision)
	(<-d).turn.End()
	require.Zero(t, g.count(t, "ask"))
}

// TestJoinLeft has one leave that is to be answered: the commit fails, and answers nobody.
func TestJoinLeft(t *testing.T) {
	g := newGroup(t)
	leader := g.open(t)
	unblock := g.block(t)
	leads := g.join(t, t.Context(), leader, "leader")
	ctx, cancel := context.WithCancel(t.Context())
	leaves, stays := g.join(t, ctx, g.open(t), "leaves"), g.join(t, t.Context(), g.open(t), "stays")
	unblock()
	turn := (<-leads).turn
	cancel()
	left := <-leaves
	require.ErrorIs(t, left.err, context.Canceled)
	require.NotErrorIs(t, left.err, store.ErrUnknown)
	_, err := g.commit(t, leader, turn)
	var conflict *store.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, turn.Heads()[0], conflict.Current)
	answer, _, err := turn.Answered()
	require.NoError(t, err)
	require.Nil(t, answer)

	next := <-stays
	require.NoError(t, next.err)
	require.Equal(t, turn.Heads(), next.turn.Heads(), "nothing was committed")
	require.Empty(t, next.turn.Asks())
	next.turn.End()
	require.Zero(t, g.count(t, "ask"))
}

// TestJoinCut ends the session of one that waits before it is answered, and that of one that was answered and has not
// heard of it, because another one is before it in the line.
func TestJoinCut(t *testing.T) {
	g := newGroup(t)
	leader := g.open(t)
	unblock := g.block(t)
	leads, cut := g.join(t, t.Context(), leader, "leader"), g.join(t, t.Context(), g.open(t), "cut")
	unblock()
	turn := (<-leads).turn
	g.kill(t, g.waiting(t))
	err := (<-cut).err
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrUnknown)
	_, err = g.commit(t, leader, turn)
	require.ErrorIs(t, err, store.ErrConflict)

	unblock = g.block(t)
	leads = g.join(t, t.Context(), leader, "leader")
	between, cut := g.join(t, t.Context(), g.open(t), ""), g.join(t, t.Context(), g.open(t), "cut")
	unblock()
	h, err := g.commit(t, leader, (<-leads).turn)
	require.NoError(t, err)
	next := <-between
	require.NoError(t, next.err)
	g.kill(t, g.waiting(t))
	answer, revision := (<-cut).answered(t)
	require.Equal(t, "CUT", answer)
	require.Equal(t, h.Revision, revision)
	next.turn.End()
}

// TestJoinOutlived has a turn last too long. The next one comes, and does nothing for that one, who then meets a
// conflict.
func TestJoinOutlived(t *testing.T) {
	g := newGroup(t)
	slow, quick := g.open(t), g.open(t)
	late := g.lead(t, slow, "late")
	next := <-g.join(t, t.Context(), quick, "quick")
	require.NoError(t, next.err)
	require.Empty(t, next.turn.Asks(), "nothing is done for who had a turn before")
	_, err := g.commit(t, quick, next.turn)
	require.NoError(t, err)
	_, err = g.commit(t, slow, late)
	require.ErrorIs(t, err, store.ErrConflict)
	answer, _, err := late.Answered()
	require.NoError(t, err)
	require.Nil(t, answer)
}

// TestJoinLateCommit has a turn last too long, and commit nevertheless. It answers nobody any more: who waited has its
// own turn.
func TestJoinLateCommit(t *testing.T) {
	g := newGroup(t)
	slow := g.open(t)
	unblock := g.block(t)
	leads, waits := g.join(t, t.Context(), slow, "slow"), g.join(t, t.Context(), g.open(t), "waits")
	unblock()
	late, next := (<-leads).turn, <-waits
	require.NoError(t, next.err)
	require.Empty(t, next.turn.Asks(), "the session of the slow one is over")
	require.Len(t, late.Asks(), 1)
	_, err := g.commit(t, slow, late)
	var conflict *store.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, g.head, conflict.Current)
	answer, _, err := next.turn.Answered()
	require.NoError(t, err)
	require.Nil(t, answer)
	next.turn.End()

	// Without answers it commits, in the line.
	late = g.lead(t, slow, "slow")
	other := <-g.join(t, t.Context(), g.open(t), "")
	other.turn.End()
	_, err = g.commit(t, slow, late)
	require.NoError(t, err)
	require.Zero(t, g.count(t, "ask"))
}

// TestJoinKilled ends the session of one that has its turn, as the end of its process does, and of the next one.
func TestJoinKilled(t *testing.T) {
	g := newGroup(t)
	other := g.open(t)
	first := g.lead(t, g.open(t), "first")
	a, b := g.join(t, t.Context(), g.open(t), "a"), g.join(t, t.Context(), other, "b")
	g.kill(t, g.holder(t))
	turn := (<-a).turn
	require.Equal(t, [][]byte{[]byte("b")}, turn.Asks(), "nothing is done for the first one, whose session is over")
	g.kill(t, g.holder(t))
	next := <-b
	require.Empty(t, next.turn.Asks())
	_, err := g.commit(t, other, next.turn)
	require.NoError(t, err)
	for _, turn := range []store.GroupTurn{first, turn} {
		turn.End()
		answer, _, err := turn.Answered()
		require.NoError(t, err)
		require.Nil(t, answer)
	}
}

// TestJoinCommitFails has commits fail, and therefore give no answer.
func TestJoinCommitFails(t *testing.T) {
	g := newGroup(t)
	leader := g.open(t)
	h, err := storetest.CommitOne(t.Context(), leader, g.head, create(allocation("a", "x", "10.0.0.0/24")))
	require.NoError(t, err)
	for i, change := range []store.Change{
		{Head: h, Writes: []store.Write{create(allocation("a", "y", "10.0.0.1/32"))}},
		{Head: h, Writes: []store.Write{create(allocation("a", "x", "10.0.0.1/32"))}},
		{Head: g.head},
	} {
		unblock := g.block(t)
		leads, waits := g.join(t, t.Context(), leader, "leader"), g.join(t, t.Context(), g.open(t), fmt.Sprint(i))
		unblock()
		turn := (<-leads).turn
		turn.Answer(0, []byte("done"))
		if i < 2 {
			change.Head = turn.Heads()[0]
		} else {
			change.Head.Revision--
		}
		change.Turn = turn
		_, err := leader.Commit(t.Context(), change)
		require.Error(t, err)
		require.NotErrorIs(t, err, store.ErrUnknown)
		answer, _, err := turn.Answered()
		require.NoError(t, err)
		require.Nil(t, answer)
		next := <-waits
		require.NoError(t, next.err)
		require.Equal(t, []store.Record{h}, next.turn.Heads())
		next.turn.End()
	}
	require.Zero(t, g.count(t, "ask"))
	require.Zero(t, g.count(t, "answer"))
}

// TestJoinCommitUnknown loses what the server says of a commit that answers.
func TestJoinCommitUnknown(t *testing.T) {
	o := newOutage(t, 4)
	g := &group{dsn: o.dsn, schema: o.schema, db: connect(t, o.dsn), head: o.head}
	g.findLine(t)
	unblock := g.block(t)
	leads, waits := g.join(t, t.Context(), o.through, "leader"), g.join(t, t.Context(), g.open(t), "waits")
	unblock()
	turn := (<-leads).turn
	turn.Answer(0, []byte("done"))
	lost := o.proxy.LoseReply("owner to lose")
	_, err := o.through.Commit(t.Context(), store.Change{
		Head: turn.Heads()[0], Turn: turn, Writes: []store.Write{put(allocation("a", "owner to lose", "10.0.0.1/32"))},
	})
	<-lost
	require.ErrorIs(t, err, store.ErrUnknown)
	answer, _, err := turn.Answered()
	require.NoError(t, err, "the table tells, through another connection")
	require.Nil(t, answer)
	told, revision := (<-waits).answered(t)
	require.Equal(t, "done", told)
	o.requireHead(t, true)
	require.Equal(t, o.head.Revision, revision)
}

// TestJoinSwept has an answer that is too old for anyone to look for it, which the next answer removes, and a new one.
func TestJoinSwept(t *testing.T) {
	g := newGroup(t)
	for id, age := range map[string]string{"old": "11 MINUTE", "new": "9 MINUTE"} {
		_, err := g.db.ExecContext(t.Context(), "INSERT INTO "+quoted(g.schema)+".answer (line, id, answer, at) "+
			"VALUES (?, ?, 'x', UTC_TIMESTAMP(6) - INTERVAL "+age+")", g.line, id)
		require.NoError(t, err)
	}
	unblock, leader := g.block(t), g.open(t)
	leads, waits := g.join(t, t.Context(), leader, "leader"), g.join(t, t.Context(), g.open(t), "waits")
	unblock()
	_, err := g.commit(t, leader, (<-leads).turn)
	require.NoError(t, err)
	(<-waits).answered(t)
	require.Zero(t, g.count(t, "answer WHERE id LIKE 'old%'"))
	require.Equal(t, 1, g.count(t, "answer WHERE id LIKE 'new%'"))
}

// TestJoinOldAsk has one wait for longer than processes are taken for alive. It is not answered, and has its turn.
func TestJoinOldAsk(t *testing.T) {
	g := newGroup(t)
	g.change(t, "join_line", "INTERVAL 5 SECOND", "INTERVAL 1 MICROSECOND")
	unblock := g.block(t)
	leads, waits := g.join(t, t.Context(), g.open(t), "leader"), g.join(t, t.Context(), g.open(t), "old")
	unblock()
	turn := (<-leads).turn
	require.Empty(t, turn.Asks())
	turn.End()
	next := <-waits
	require.NoError(t, next.err)
	require.Len(t, next.turn.Heads(), 1)
}

// TestJoinLost has one wait for so long that an answer would have been removed: nothing can be said of its ask.
func TestJoinLost(t *testing.T) {
	g := newGroup(t)
	g.change(t, "join_line", "INTERVAL 5 MINUTE", "INTERVAL 1 MICROSECOND")
	unblock := g.block(t)
	waits := g.join(t, t.Context(), g.open(t), "waits")
	unblock()
	require.ErrorIs(t, (<-waits).err, store.ErrUnknown)
	g.lead(t, g.open(t), "").End()
}

// TestStoppedHolder has a session keep the lock that nobody else may end: the server does so itself.
func TestStoppedHolder(t *testing.T) {
	g := newGroup(t)
	g.change(t, "oust", "KILL CONNECTION v_session", "DO 0")
	g.lead(t, g.open(t), "stopped")
	begin := time.Now()
	next := <-g.join(t, t.Context(), g.open(t), "next")
	require.NoError(t, next.err)
	require.Greater(t, time.Since(begin), 2*store.MaxTurn)
	next.turn.End()
}

// TestJoinContexts has many joins whose contexts end at any time. Those are told to be answered that a commit that
// succeeded has answered, and no others.
func TestJoinContexts(t *testing.T) {
	g := newGroup(t)
	var mu sync.Mutex
	given, told, unknown := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var wg sync.WaitGroup
	for worker := range 6 {
		s := g.open(t)
		wg.Go(func() {
			for n := range 60 {
				ask := fmt.Sprintf("%d/%d", worker, n)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(int(20*time.Millisecond))))
				turn, err := s.Join(ctx, g.head.Key, []byte(ask))
				cancel()
				if err != nil {
					mu.Lock()
					unknown[ask] = errors.Is(err, store.ErrUnknown)
					mu.Unlock()
					continue
				}
				answer, _, err := turn.Answered()
				if err == nil && answer == nil {
					for i := range turn.Asks() {
						turn.Answer(i, []byte("done"))
					}
					_, err = s.Commit(t.Context(), store.Change{Head: turn.Heads()[0], Turn: turn})
					mu.Lock()
					for _, ask := range turn.Asks() {
						if err == nil && given[string(ask)] {
							t.Errorf("%s was answered twice", ask)
						}
						given[string(ask)] = given[string(ask)] || err == nil
					}
					mu.Unlock()
					if err == nil {
						continue
					}
					answer, _, err = turn.Answered()
				}
				mu.Lock()
				told[ask], unknown[ask] = answer != nil, err != nil
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for ask, is := range given {
		require.True(t, is == told[ask] || unknown[ask], ask)
	}
	for ask, is := range told {
		require.True(t, is == given[ask] || unknown[ask], ask)
	}
	t.Logf("%d were answered", len(told))
}

// TestJoinModes joins with and without arguments in the text of statements.
func TestJoinModes(t *testing.T) {
	for name, interpolates := range map[string]bool{"text": true, "prepared": false} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t)
			handle := func() *mysql.Store {
				db := connect(t, g.dsn, func(config *driver.Config) { config.InterpolateParams = interpolates })
				return openOn(t, db, 4, g.schema)
			}
			leader, asker := handle(), handle()
			for range 2 {
				unblock := g.block(t)
				leads, waits := g.join(t, t.Context(), leader, "leader"), g.join(t, t.Context(), asker, "waits")
				unblock()
				h, err := g.commit(t, leader, (<-leads).turn)
				require.NoError(t, err)
				answer, revision := (<-waits).answered(t)
				require.Equal(t, "WAITS", answer)
				require.Equal(t, h.Revision, revision)
			}
			records, err := leader.GetAll(t.Context(), g.head.Key, head("b").Key)
			require.NoError(t, err)
			require.NotZero(t, records[0].Revision)
			require.Equal(t, store.Record{Key: head("b").Key}, records[1])
		})
	}
}

// TestJoinOneConnection has too few connections for turns in the server.
func TestJoinOneConnection(t *testing.T) {
	g := newGroup(t)
	s := openOn(t, connect(t, g.dsn), 1, g.schema)
	first := g.lead(t, s, "first")
	done := make(chan joined, 2)
	join := func(ask string) {
		turn, err := s.Join(t.Context(), g.head.Key, []byte(ask))
		done <- joined{turn, err}
	}
	go join("a")
	time.Sleep(store.MaxTurn / 4)
	go join("b")
	time.Sleep(store.MaxTurn / 4)
	first.End()
	h, err := g.commit(t, s, (<-done).turn)
	require.NoError(t, err)
	answer, revision := (<-done).answered(t)
	require.Equal(t, "B", answer)
	require.Equal(t, h.Revision, revision)
}
