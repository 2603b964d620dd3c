package servertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// Line is the line of the handles that wait for turns at a head, as the server sees it.
type Line interface {
	// Block keeps all from having turns until the function that it returns is called.
	Block(t *testing.T) (unblock func())
	// Waiting counts the sessions that wait for their turns.
	Waiting(t *testing.T) int
	// EndWaiting ends the session of the only one that waits.
	EndWaiting(t *testing.T)
	// EndHolder ends the session of the one that has the turn.
	EndHolder(t *testing.T)
	// Asks counts the asks that are stored.
	Asks(t *testing.T) int
	// Answers counts the answers that are stored.
	Answers(t *testing.T) int
}

// Group is a head at which several handles wait.
type Group struct {
	Line
	URL, Schema string
	Head        store.Record

	driver Driver
}

// NewGroup commits a head in a new schema.
func (d Driver) NewGroup(t *testing.T) *Group {
	t.Helper()
	g := &Group{driver: d}
	g.URL, g.Schema = d.Place(t)
	var err error
	g.Head, err = storetest.CommitOne(t.Context(), g.Open(t), Head("a"))
	require.NoError(t, err)
	g.Line = d.NewLine(t, g)
	return g
}

// Open opens another handle.
func (g *Group) Open(t *testing.T) Store {
	t.Helper()
	return g.driver.OpenAt(t, g.URL, g.Schema)
}

// Joined is what came of a call of Join.
type Joined struct {
	Turn store.GroupTurn
	Err  error
}

// Answered requires that another turn answered the ask.
func (j Joined) Answered(t *testing.T) (answer string, revision int64) {
	t.Helper()
	require.NoError(t, j.Err)
	data, revision, err := j.Turn.Answered()
	require.NoError(t, err)
	require.NotNil(t, data)
	require.Empty(t, j.Turn.Heads())
	return string(data), revision
}

// JoinUntil has a handle join until the context ends, and returns when it waits.
func (g *Group) JoinUntil(ctx context.Context, t *testing.T, s Store, ask string) <-chan Joined {
	t.Helper()
	before := g.Waiting(t)
	done, ended := make(chan Joined, 1), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	var turn store.GroupTurn
	go func() {
		defer close(ended)
		var err error
		turn, err = s.Join(ctx, g.Head.Key, []byte(ask))
		done <- Joined{turn, err}
	}()
	t.Cleanup(func() {
		cancel()
		if <-ended; turn != nil {
			turn.End()
		}
	})
	waits := func() bool { return g.Waiting(t) > before || len(done) > 0 }
	require.Eventually(t, waits, patience, time.Millisecond)
	return done
}

// Join has a handle join, and returns when it waits.
func (g *Group) Join(t *testing.T, s Store, ask string) <-chan Joined {
	t.Helper()
	return g.JoinUntil(t.Context(), t, s, ask)
}

// JoinNew has a new handle join, and returns when it waits.
func (g *Group) JoinNew(t *testing.T, ask string) <-chan Joined {
	t.Helper()
	return g.Join(t, g.Open(t), ask)
}

// Lead has a handle get its turn, with an ask.
func (g *Group) Lead(t *testing.T, s Store, ask string) store.GroupTurn {
	t.Helper()
	turn, err := s.Join(t.Context(), g.Head.Key, []byte(ask))
	require.NoError(t, err)
	t.Cleanup(turn.End)
	requireNoAnswer(t, turn)
	require.Len(t, turn.Heads(), 1)
	g.Head = turn.Heads()[0]
	return turn
}

// Commit commits in the turn, and answers each ask with itself in capitals.
func (g *Group) Commit(t *testing.T, s Store, turn store.GroupTurn) (store.Record, error) {
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

// AnswerOne has one handle lead, and answer the other.
func (g *Group) AnswerOne(t *testing.T, leader, asker Store) {
	t.Helper()
	unblock := g.Block(t)
	leads, waits := g.Join(t, leader, "leader"), g.Join(t, asker, "waits")
	unblock()
	h, err := g.Commit(t, leader, (<-leads).Turn)
	require.NoError(t, err)
	answer, revision := (<-waits).Answered(t)
	require.Equal(t, "WAITS", answer)
	require.Equal(t, h.Revision, revision)
}

// requireNoAnswer requires that a turn was not answered.
func requireNoAnswer(t *testing.T, turn store.GroupTurn) {
	t.Helper()
	answer, _, err := turn.Answered()
	require.NoError(t, err)
	require.Nil(t, answer)
}

// JoinAnswered has one turn answer those that came before it began, but for one, which has its own turn then.
func (d Driver) JoinAnswered(t *testing.T) {
	g := d.NewGroup(t)
	unblock := g.Block(t)
	leader := g.Open(t)
	leads := g.Join(t, leader, "leader")
	b, c := g.JoinNew(t, "b"), g.JoinNew(t, "c")
	none := g.JoinNew(t, "")
	e := g.JoinNew(t, "e")
	unblock()
	turn := (<-leads).Turn
	require.Equal(t, [][]byte{[]byte("b"), []byte("c"), []byte("e")}, turn.Asks())
	turn.Answer(0, []byte("for b"))
	turn.Answer(2, []byte{})
	heads, err := leader.Commit(t.Context(), store.Change{Head: turn.Heads()[0], Turn: turn})
	require.NoError(t, err)
	answer, revision := (<-b).Answered(t)
	require.Equal(t, "for b", answer)
	require.Equal(t, heads[0].Revision, revision)

	next := <-c
	require.NoError(t, next.Err)
	require.Equal(t, heads, next.Turn.Heads())
	require.Empty(t, next.Turn.Asks(), "that of the leader is gone, and the other has been answered")
	next.Turn.End()
	answer, revision = (<-e).Answered(t)
	require.Empty(t, answer)
	require.Equal(t, heads[0].Revision, revision)
	(<-none).Turn.End()
	require.Zero(t, g.Asks(t))
}

// JoinLeft has one leave that is to be answered: the commit fails, and answers nobody.
func (d Driver) JoinLeft(t *testing.T) {
	g := d.NewGroup(t)
	leader := g.Open(t)
	unblock := g.Block(t)
	leads := g.Join(t, leader, "leader")
	ctx, cancel := context.WithCancel(t.Context())
	leaves, stays := g.JoinUntil(ctx, t, g.Open(t), "leaves"), g.JoinNew(t, "stays")
	unblock()
	turn := (<-leads).Turn
	cancel()
	left := <-leaves
	require.ErrorIs(t, left.Err, context.Canceled)
	require.NotErrorIs(t, left.Err, store.ErrUnknown)
	_, err := g.Commit(t, leader, turn)
	var conflict *store.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, turn.Heads()[0], conflict.Current)
	requireNoAnswer(t, turn)

	next := <-stays
	require.NoError(t, next.Err)
	require.Equal(t, turn.Heads(), next.Turn.Heads(), "nothing was committed")
	require.Empty(t, next.Turn.Asks())
	next.Turn.End()
	require.Zero(t, g.Asks(t))
}

// JoinCut ends the session of one that waits before it is answered, and that of one that was answered and has not heard
// of it, because another one is before it in the line. It returns the error of the first.
func (d Driver) JoinCut(t *testing.T) error {
	g := d.NewGroup(t)
	leader := g.Open(t)
	unblock := g.Block(t)
	leads, cut := g.Join(t, leader, "leader"), g.JoinNew(t, "cut")
	unblock()
	turn := (<-leads).Turn
	g.EndWaiting(t)
	lost := (<-cut).Err
	require.Error(t, lost)
	require.NotErrorIs(t, lost, store.ErrUnknown)
	_, err := g.Commit(t, leader, turn)
	require.ErrorIs(t, err, store.ErrConflict)

	unblock = g.Block(t)
	leads = g.Join(t, leader, "leader")
	between, cut := g.JoinNew(t, ""), g.JoinNew(t, "cut")
	unblock()
	h, err := g.Commit(t, leader, (<-leads).Turn)
	require.NoError(t, err)
	next := <-between
	require.NoError(t, next.Err)
	g.EndWaiting(t)
	answer, revision := (<-cut).Answered(t)
	require.Equal(t, "CUT", answer)
	require.Equal(t, h.Revision, revision)
	next.Turn.End()
	return lost
}

// JoinOutlived has a turn last too long. The next one comes, and does nothing for that one, who then meets a conflict.
// It returns how long the next one waited.
func (d Driver) JoinOutlived(t *testing.T) time.Duration {
	g := d.NewGroup(t)
	slow, quick := g.Open(t), g.Open(t)
	late := g.Lead(t, slow, "late")
	begin := time.Now()
	next := <-g.Join(t, quick, "quick")
	waited := time.Since(begin)
	require.NoError(t, next.Err)
	require.Empty(t, next.Turn.Asks(), "nothing is done for who had a turn before")
	_, err := g.Commit(t, quick, next.Turn)
	require.NoError(t, err)
	_, err = g.Commit(t, slow, late)
	require.ErrorIs(t, err, store.ErrConflict)
	requireNoAnswer(t, late)
	return waited
}

// JoinKilled ends the session of one that has its turn, as the end of its process does, and of the next one. It returns
// how long the last one waited.
func (d Driver) JoinKilled(t *testing.T) time.Duration {
	g := d.NewGroup(t)
	other := g.Open(t)
	first := g.Lead(t, g.Open(t), "first")
	a, b := g.JoinNew(t, "a"), g.Join(t, other, "b")
	begin := time.Now()
	g.EndHolder(t)
	turn := (<-a).Turn
	require.Equal(t, [][]byte{[]byte("b")}, turn.Asks(), "nothing is done for the first one, whose session is over")
	g.EndHolder(t)
	next := <-b
	waited := time.Since(begin)
	require.Empty(t, next.Turn.Asks())
	_, err := g.Commit(t, other, next.Turn)
	require.NoError(t, err)
	for _, turn := range []store.GroupTurn{first, turn} {
		turn.End()
		requireNoAnswer(t, turn)
	}
	return waited
}

// JoinCommitFails has commits fail, and therefore give no answer.
func (d Driver) JoinCommitFails(t *testing.T) {
	g := d.NewGroup(t)
	leader := g.Open(t)
	h, err := storetest.CommitOne(t.Context(), leader, g.Head, Create(Allocation("a", "x", "10.0.0.0/24")))
	require.NoError(t, err)
	for i, change := range []store.Change{
		{Head: h, Writes: []store.Write{Create(Allocation("a", "y", "10.0.0.1/32"))}},
		{Head: h, Writes: []store.Write{Create(Allocation("a", "x", "10.0.0.1/32"))}},
		{Head: g.Head},
	} {
		unblock := g.Block(t)
		leads, waits := g.Join(t, leader, "leader"), g.JoinNew(t, fmt.Sprint(i))
		unblock()
		turn := (<-leads).Turn
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
		requireNoAnswer(t, turn)
		next := <-waits
		require.NoError(t, next.Err)
		require.Equal(t, []store.Record{h}, next.Turn.Heads())
		next.Turn.End()
	}
	require.Zero(t, g.Asks(t))
	require.Zero(t, g.Answers(t))
}

// JoinCommitUnknown loses what the server says of a commit that answers.
func (d Driver) JoinCommitUnknown(t *testing.T) {
	g := d.NewGroup(t)
	o := d.outageAt(t, g.URL, g.Schema, 4)
	o.Head = g.Head
	unblock := g.Block(t)
	leads, waits := g.Join(t, o.Through, "leader"), g.JoinNew(t, "waits")
	unblock()
	turn := (<-leads).Turn
	turn.Answer(0, []byte("done"))
	lost := o.Proxy.LoseReply("owner to lose")
	_, err := o.Through.Commit(t.Context(), store.Change{
		Head: turn.Heads()[0], Turn: turn, Writes: []store.Write{Put(Allocation("a", "owner to lose", "10.0.0.1/32"))},
	})
	<-lost
	require.ErrorIs(t, err, store.ErrUnknown)
	requireNoAnswer(t, turn) // the table tells, through another connection
	told, revision := (<-waits).Answered(t)
	require.Equal(t, "done", told)
	o.RequireHead(t, true)
	require.Equal(t, o.Head.Revision, revision)
}

// JoinOldAsk has one wait that age makes look as if it has waited for longer than processes are taken for alive. It is
// not answered, and has its turn.
func (g *Group) JoinOldAsk(t *testing.T, age func()) {
	unblock := g.Block(t)
	leads, waits := g.JoinNew(t, "leader"), g.JoinNew(t, "old")
	age()
	unblock()
	turn := (<-leads).Turn
	require.Empty(t, turn.Asks())
	turn.End()
	next := <-waits
	require.NoError(t, next.Err)
	require.Len(t, next.Turn.Heads(), 1)
}

// JoinContexts has many joins whose contexts end at any time. Those are told to be answered that a commit that
// succeeded has answered, and no others.
func (d Driver) JoinContexts(t *testing.T) {
	g := d.NewGroup(t)
	var mu sync.Mutex
	given, told, unknown := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var wg sync.WaitGroup
	for worker := range 6 {
		s := g.Open(t)
		wg.Go(func() {
			for n := range 60 {
				ask := fmt.Sprintf("%d/%d", worker, n)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(int(20*time.Millisecond))))
				turn, err := s.Join(ctx, g.Head.Key, []byte(ask))
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

// JoinMode joins twice, and reads, with handles that run statements in a mode.
func (g *Group) JoinMode(t *testing.T, leader, asker Store) {
	for range 2 {
		g.AnswerOne(t, leader, asker)
	}
	records, err := leader.GetAll(t.Context(), g.Head.Key, Head("b").Key)
	require.NoError(t, err)
	require.NotZero(t, records[0].Revision)
	require.Equal(t, store.Record{Key: Head("b").Key}, records[1])
}

// JoinOneConnection has too few connections for turns in the server.
func (d Driver) JoinOneConnection(t *testing.T) {
	g := d.NewGroup(t)
	s := d.Connect(t, g.URL, g.Schema, 1, direct)
	first := g.Lead(t, s, "first")
	done := make(chan Joined, 2)
	join := func(ask string) {
		turn, err := s.Join(t.Context(), g.Head.Key, []byte(ask))
		done <- Joined{turn, err}
	}
	go join("a")
	time.Sleep(store.MaxTurn / 4)
	go join("b")
	time.Sleep(store.MaxTurn / 4)
	first.End()
	h, err := g.Commit(t, s, (<-done).Turn)
	require.NoError(t, err)
	answer, revision := (<-done).Answered(t)
	require.Equal(t, "B", answer)
	require.Equal(t, h.Revision, revision)
}
