package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
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
	url, schema string
	db          *pgxpool.Pool
	head        store.Record
	line        int64 // in which they wait
}

func newGroup(t *testing.T) *group {
	t.Helper()
	g := &group{url: sharedServer(t).url("postgres"), schema: newSchema()}
	g.db = connect(t, g.url)
	var err error
	g.head, err = storetest.CommitOne(t.Context(), g.open(t), head("a"))
	require.NoError(t, err)
	g.findLine(t)
	return g
}

// findLine finds out which line it is.
func (g *group) findLine(t *testing.T) {
	t.Helper()
	g.lead(t, g.open(t), "who waits").End()
	sql := "SELECT line FROM " + quoted(g.schema) + ".ask"
	require.NoError(t, g.db.QueryRow(t.Context(), sql).Scan(&g.line))
}

// block keeps all from having turns until the function that it returns is called.
func (g *group) block(t *testing.T) (unblock func()) {
	t.Helper()
	tx, err := g.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock($1)", g.line)
	require.NoError(t, err)
	return func() {
		t.Helper()
		require.NoError(t, tx.Rollback(t.Context()))
	}
}

// count is how many rows of table ask there are.
func (g *group) count(t *testing.T, where string) (n int) {
	t.Helper()
	sql := "SELECT count(*) FROM " + quoted(g.schema) + ".ask WHERE " + where
	require.NoError(t, g.db.QueryRow(t.Context(), sql).Scan(&n))
	return n
}

// waits selects the sessions that wait for their turns.
const waits = "wait_event = 'advisory'"

// sessions does something with sessions of the schema, and returns with how many.
func (g *group) sessions(t *testing.T, do, where string) int {
	t.Helper()
	tag, err := g.db.Exec(t.Context(), "SELECT "+do+" FROM pg_stat_activity WHERE "+where+
		" AND pid <> pg_backend_pid() AND position($1 IN query) > 0", quoted(g.schema))
	require.NoError(t, err)
	return int(tag.RowsAffected())
}

// join has a handle join, and returns when it waits.
func (g *group) join(t *testing.T, ctx context.Context, s *postgres.Store, ask string) <-chan joined {
	t.Helper()
	before := g.sessions(t, "pid", waits)
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
	require.Eventually(t, func() bool { return g.sessions(t, "pid", waits) > before }, 10*time.Second, time.Millisecond)
	return done
}

// lead has a handle get its turn, with an ask.
func (g *group) lead(t *testing.T, s *postgres.Store, ask string) store.GroupTurn {
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

func (g *group) open(t *testing.T) *postgres.Store {
	t.Helper()
	return open(t, g.url, g.schema)
}

// commit commits in the turn, and answers each ask with itself in capitals.
func (g *group) commit(t *testing.T, s *postgres.Store, turn store.GroupTurn) (store.Record, error) {
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
	require.Zero(t, g.count(t, "ask IS NOT NULL"))
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
	require.Zero(t, g.count(t, "ask IS NOT NULL"))
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
	require.Equal(t, 1, g.sessions(t, "pg_terminate_backend(pid)", waits))
	var refused *pgconn.PgError
	err := (<-cut).err
	require.ErrorAs(t, err, &refused)
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
	require.Equal(t, 1, g.sessions(t, "pg_terminate_backend(pid)", waits))
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
	begin := time.Now()
	next := <-g.join(t, t.Context(), quick, "quick")
	require.NoError(t, next.err)
	require.Less(t, time.Since(begin), 2*store.MaxTurn)
	require.Empty(t, next.turn.Asks(), "nothing is done for who had a turn before")
	_, err := g.commit(t, quick, next.turn)
	require.NoError(t, err)
	_, err = g.commit(t, slow, late)
	require.ErrorIs(t, err, store.ErrConflict)
	answer, _, err := late.Answered()
	require.NoError(t, err)
	require.Nil(t, answer)
}

// TestJoinLateCommit has a turn last too long, and commit nevertheless. It answers what it has seen, also to one that
// has had its turn since then.
func TestJoinLateCommit(t *testing.T) {
	g := newGroup(t)
	slow := g.open(t)
	unblock := g.block(t)
	leads, waits := g.join(t, t.Context(), slow, "slow"), g.join(t, t.Context(), g.open(t), "waits")
	unblock()
	late, next := (<-leads).turn, <-waits
	require.NoError(t, next.err)
	require.Empty(t, next.turn.Asks(), "the session of the slow one is over")
	h, err := g.commit(t, slow, late)
	require.NoError(t, err)
	next.turn.End()
	answer, revision, err := next.turn.Answered()
	require.NoError(t, err)
	require.Equal(t, "WAITS", string(answer))
	require.Equal(t, h.Revision, revision)
	require.Zero(t, g.count(t, "ask IS NOT NULL"))
}

// TestJoinKilled ends the session of one that has its turn, as the end of its process does, and of the next one.
func TestJoinKilled(t *testing.T) {
	g := newGroup(t)
	other := g.open(t)
	first := g.lead(t, g.open(t), "first")
	a, b := g.join(t, t.Context(), g.open(t), "a"), g.join(t, t.Context(), other, "b")
	begin := time.Now()
	require.Equal(t, 1, g.sessions(t, "pg_terminate_backend(pid)", "state = 'idle in transaction'"))
	turn := (<-a).turn
	require.Equal(t, [][]byte{[]byte("b")}, turn.Asks(), "nothing is done for the first one, whose session is over")
	require.Equal(t, 1, g.sessions(t, "pg_terminate_backend(pid)", "state = 'idle in transaction'"))
	next := <-b
	require.Less(t, time.Since(begin), 2*store.MaxTurn)
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
	require.Zero(t, g.count(t, "ask IS NOT NULL OR answer IS NOT NULL"))
}

// TestJoinCommitUnknown loses what the server says of a commit that answers.
func TestJoinCommitUnknown(t *testing.T) {
	o := newOutage(t)
	g := &group{url: o.url, schema: o.schema, db: connect(t, o.url), head: o.head}
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

// TestJoinWithoutTable has the rows of table ask be lost, as in a crash of the server: nothing can be said of an ask.
func TestJoinWithoutTable(t *testing.T) {
	g := newGroup(t)
	turn := g.lead(t, g.open(t), "leader")
	ctx, cancel := context.WithCancel(t.Context())
	waits := g.join(t, ctx, g.open(t), "waits")
	_, err := g.db.Exec(t.Context(), "DELETE FROM "+quoted(g.schema)+".ask")
	require.NoError(t, err)
	cancel()
	err = (<-waits).err
	require.ErrorIs(t, err, store.ErrUnknown)
	require.ErrorIs(t, err, context.Canceled)
	turn.End()
	_, _, err = turn.Answered()
	require.ErrorIs(t, err, store.ErrUnknown)
}

// TestJoinSwept leaves rows in the table, as dead processes do.
func TestJoinSwept(t *testing.T) {
	g := newGroup(t)
	_, err := g.db.Exec(t.Context(), "INSERT INTO "+quoted(g.schema)+
		".ask (line, slot, serial, ask, at) VALUES (1, 1, 1, 'old', now() - interval '2 minutes'), (1, 2, 1, 'new', now())")
	require.NoError(t, err)
	g.lead(t, g.open(t), "leader").End()
	require.Equal(t, 1, g.count(t, "line = 1"))
	require.Equal(t, 1, g.count(t, "line = 1 AND ask = 'new'"))
}

// TestJoinOldAsk has one wait for longer than processes are taken for alive. It is not answered, and has its turn.
func TestJoinOldAsk(t *testing.T) {
	g := newGroup(t)
	unblock := g.block(t)
	leads, waits := g.join(t, t.Context(), g.open(t), "leader"), g.join(t, t.Context(), g.open(t), "old")
	_, err := g.db.Exec(t.Context(), "UPDATE "+quoted(g.schema)+
		".ask SET at = at - interval '10 seconds' WHERE ask = 'old'")
	require.NoError(t, err)
	unblock()
	turn := (<-leads).turn
	require.Empty(t, turn.Asks())
	turn.End()
	next := <-waits
	require.NoError(t, next.err)
	require.Len(t, next.turn.Heads(), 1)
}

// TestJoinContexts has many joins whose contexts end at any time. Those are told to be answered that a commit that
// succeeded has answered, and no others. Of those that end amid the first ask of a slot nobody can tell.
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

// TestJoinModes joins in each of the modes in which pgx can run statements.
func TestJoinModes(t *testing.T) {
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec,
		pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			g := newGroup(t)
			handle := func() *postgres.Store {
				db := connect(t, g.url, func(config *pgxpool.Config) { config.ConnConfig.DefaultQueryExecMode = mode })
				s, err := postgres.New(t.Context(), db, &postgres.Options{Schema: g.schema})
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, s.Close()) })
				return s
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

// TestJoinOneConnection has a pool of connections that is too small for turns in the server.
func TestJoinOneConnection(t *testing.T) {
	g := newGroup(t)
	db := connect(t, g.url, func(config *pgxpool.Config) { config.MaxConns = 1 })
	s, err := postgres.New(t.Context(), db, &postgres.Options{Schema: g.schema})
	require.NoError(t, err)
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
