package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

var labKey = store.Key{Kind: store.KindPool, Pool: "lab"}

// line is a store of one process whose Join and Commit a test can look into: Turns, and heads that it replaces.
type line struct {
	turns   store.Turns
	mu      sync.Mutex
	heads   map[store.Key]store.Record
	last    int64
	slow    func()       // before a commit takes effect
	outcome func() error // of a commit that took effect
}

func (l *line) Get(ctx context.Context, key store.Key) (store.Record, error) {
	if err := ctx.Err(); err != nil {
		return store.Record{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	head, ok := l.heads[key]
	if !ok {
		return store.Record{}, store.ErrNotFound
	}
	return head, nil
}

func (l *line) join(ctx context.Context, key store.Key, ask string) (store.GroupTurn, error) {
	return l.turns.Join(ctx, l.Get, key, []byte(ask))
}

func (l *line) commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	defer store.EndTurns(changes)
	given, err := l.turns.Answers(ctx, changes)
	if err != nil {
		return nil, err
	}
	if l.slow != nil {
		l.slow()
	}
	heads, err := l.replace(changes)
	given(heads, err)
	return heads, err
}

// commitDuring has the change committed while the next commit is under way, and calls check once it waits. Its outcome
// is sent to the channel.
func (l *line) commitDuring(t *testing.T, change store.Change, check func(outcome chan error)) chan error {
	t.Helper()
	outcome := make(chan error, 1)
	l.slow = func() {
		l.slow = nil
		go func() {
			_, err := l.commit(t.Context(), change)
			outcome <- err
		}()
		synctest.Wait()
		check(outcome)
	}
	return outcome
}

func (l *line) replace(changes []store.Change) ([]store.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range changes {
		current := l.heads[c.Head.Key]
		if current.Key = c.Head.Key; current.Revision != c.Head.Revision {
			return nil, &store.ConflictError{Expected: c.Head.Revision, Current: current}
		}
	}
	l.last++
	if l.heads == nil {
		l.heads = map[store.Key]store.Record{}
	}
	var heads []store.Record
	for _, c := range changes {
		c.Head.Revision = l.last
		heads, l.heads[c.Head.Key] = append(heads, c.Head), c.Head
	}
	if l.outcome != nil {
		return heads, l.outcome()
	}
	return heads, nil
}

// joining is a call of Join in a goroutine of its own.
type joining struct {
	turn  store.GroupTurn
	err   error
	ended bool
	leave context.CancelFunc
}

// begin calls Join, and returns when it waits or has returned.
func (l *line) begin(t *testing.T, key store.Key, ask string) *joining {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	j := &joining{leave: leave}
	go func() {
		j.turn, j.err = l.join(ctx, key, ask)
		j.ended = true
	}()
	synctest.Wait()
	return j
}

// behind returns a turn at key, and those that wait behind it with the asks.
func (l *line) behind(t *testing.T, key store.Key, asks ...string) (store.GroupTurn, []*joining) {
	t.Helper()
	first, err := l.join(t.Context(), key, "")
	require.NoError(t, err)
	second := l.begin(t, key, "")
	var all []*joining
	for _, ask := range asks {
		all = append(all, l.begin(t, key, ask))
	}
	first.End()
	synctest.Wait()
	require.True(t, second.ended)
	require.Len(t, second.turn.Asks(), len(asks))
	return second.turn, all
}

// in is a change in a turn, on the head with which it began.
func in(turn store.GroupTurn) store.Change { return store.Change{Head: turn.Heads()[0], Turn: turn} }

func requireAnswer(t *testing.T, j *joining, want string, revision int64) {
	t.Helper()
	synctest.Wait()
	require.True(t, j.ended)
	require.NoError(t, j.err)
	answer, at, err := j.turn.Answered()
	require.NoError(t, err)
	require.Equal(t, want, string(answer))
	require.Equal(t, revision, at)
}

// requireNone ends the turn, and checks that nobody has answered.
func requireNone(t *testing.T, turn store.GroupTurn) {
	t.Helper()
	turn.End()
	answer, _, err := turn.Answered()
	require.NoError(t, err)
	require.Nil(t, answer)
}

// TestAnswersOfSeveralTurns has one commit answer at two heads, neither of them its first.
func TestAnswersOfSeveralTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l line
		other, third := store.Key{Kind: store.KindPool, Pool: "other"}, store.Key{Kind: store.KindPool, Pool: "third"}
		one, ones := l.behind(t, labKey, "a", "b")
		two, twos := l.behind(t, other, "c")
		one.Answer(1, []byte("for b"))
		two.Answer(0, []byte("for c"))
		heads, err := l.commit(t.Context(), store.Change{Head: store.Record{Key: third}, Turn: two}, in(one), in(two))
		require.NoError(t, err)
		requireAnswer(t, ones[1], "for b", heads[0].Revision)
		requireAnswer(t, twos[0], "for c", heads[0].Revision)
		synctest.Wait()
		require.Equal(t, heads[1:2], ones[0].turn.Heads())
		requireNone(t, ones[0].turn)
		_, err = l.commit(t.Context(), store.Change{Head: heads[1], Turn: one}) // which has ended: its answers are given
		require.NoError(t, err)
	})
}

// TestAnswersOfAnotherStore commits with a turn of one store in another: nobody there has done anything.
func TestAnswersOfAnotherStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l, elsewhere line
		turn, askers := l.behind(t, labKey, "a")
		turn.Answer(0, []byte("done"))
		_, err := elsewhere.commit(t.Context(), in(turn))
		require.NoError(t, err)
		synctest.Wait()
		require.True(t, askers[0].ended)
		requireNone(t, askers[0].turn)
	})
}

// TestAnswersToOneThatLeaves has an asker leave before and during a commit that answers it.
func TestAnswersToOneThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l line
		turn, askers := l.behind(t, labKey, "a", "b")
		askers[0].leave()
		synctest.Wait()
		require.ErrorIs(t, askers[0].err, context.Canceled)
		turn.Answer(0, []byte("done"))
		turn.Answer(1, []byte("done"))
		_, err := l.commit(t.Context(), in(turn))
		var conflict *store.ConflictError
		require.ErrorAs(t, err, &conflict)
		require.Equal(t, store.ConflictError{Current: store.Record{Key: labKey}}, *conflict)
		require.Zero(t, l.last)
		synctest.Wait()
		requireNone(t, askers[1].turn)

		for _, fails := range []bool{false, true} {
			turn, askers = l.behind(t, labKey, "a")
			turn.Answer(0, []byte("done"))
			l.slow = func() {
				askers[0].leave()
				synctest.Wait() // it waits to see what comes of the commit
				require.False(t, askers[0].ended)
			}
			change := in(turn)
			if fails {
				change.Head.Revision++
			}
			_, err = l.commit(t.Context(), change)
			require.Equal(t, fails, errors.Is(err, store.ErrConflict))
			l.slow = nil
			if !fails {
				requireAnswer(t, askers[0], "done", l.last)
				continue
			}
			synctest.Wait()
			require.ErrorIs(t, askers[0].err, context.Canceled)
		}
	})
}

// TestAnswersOfUnknownOutcome tells the askers that nobody knows, in line and when they leave.
func TestAnswersOfUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := line{outcome: func() error { return store.ErrUnknown }}
		turn, askers := l.behind(t, labKey, "stays", "leaves", "not answered")
		turn.Answer(0, []byte("done"))
		turn.Answer(1, []byte("done"))
		l.slow = func() {
			askers[1].leave()
			synctest.Wait()
		}
		other := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "other"}}
		_, err := l.commit(t.Context(), in(turn), store.Change{Head: other, Turn: turn})
		require.ErrorIs(t, err, store.ErrUnknown)
		synctest.Wait()
		require.NoError(t, askers[0].err)
		require.Empty(t, askers[0].turn.Heads())
		answer, _, err := askers[0].turn.Answered()
		require.ErrorIs(t, err, store.ErrUnknown)
		require.Nil(t, answer)
		require.ErrorIs(t, askers[1].err, store.ErrUnknown)
		requireNone(t, askers[2].turn)
	})
}

// passedOver returns a turn that was passed over, and the one after it, whose ask it has.
func (l *line) passedOver(t *testing.T, key store.Key) (before store.GroupTurn, after *joining) {
	t.Helper()
	before, askers := l.behind(t, key, "a")
	time.Sleep(2 * store.MaxTurn)
	synctest.Wait()
	require.True(t, askers[0].ended)
	require.NoError(t, askers[0].err)
	before.Answer(0, []byte("done"))
	return before, askers[0]
}

// TestPassedOver has one that was passed over, and one that it answers, commit in either order, and one during the
// other.
func TestPassedOver(t *testing.T) {
	for name, do := range map[string]func(*testing.T, *line, store.GroupTurn, *joining){
		"the former first": func(t *testing.T, l *line, before store.GroupTurn, after *joining) {
			heads, err := l.commit(t.Context(), in(before))
			require.NoError(t, err)
			_, err = l.commit(t.Context(), in(after.turn))
			require.ErrorIs(t, err, store.ErrConflict)
			requireAnswer(t, after, "done", heads[0].Revision)
		},
		"the former first, and the latter on the head after": func(
			t *testing.T, l *line, before store.GroupTurn, after *joining,
		) {
			heads, err := l.commit(t.Context(), in(before))
			require.NoError(t, err)
			_, err = l.commit(t.Context(), store.Change{Head: heads[0], Turn: after.turn})
			var conflict *store.ConflictError
			require.ErrorAs(t, err, &conflict)
			require.Equal(t, store.ConflictError{Expected: 1, Current: heads[0]}, *conflict)
			requireAnswer(t, after, "done", heads[0].Revision)
			_, err = l.commit(t.Context(), store.Change{Head: heads[0], Turn: after.turn}) // which it knows by now
			require.NoError(t, err)
		},
		"the latter first, and the former on the head after": func(
			t *testing.T, l *line, before store.GroupTurn, after *joining,
		) {
			heads, err := l.commit(t.Context(), in(after.turn))
			require.NoError(t, err)
			_, err = l.commit(t.Context(), store.Change{Head: heads[0], Turn: before})
			require.ErrorIs(t, err, store.ErrConflict)
			requireNone(t, after.turn)
		},
		"the latter during the former": func(t *testing.T, l *line, before store.GroupTurn, after *joining) {
			done := l.commitDuring(t, in(after.turn), func(done chan error) {
				require.Empty(t, done, "it waits to see what comes of the commit")
			})
			heads, err := l.commit(t.Context(), in(before))
			require.NoError(t, err)
			require.ErrorIs(t, <-done, store.ErrConflict)
			requireAnswer(t, after, "done", heads[0].Revision)
		},
		"the latter during the former, which fails": func(
			t *testing.T, l *line, before store.GroupTurn, after *joining,
		) {
			done := l.commitDuring(t, in(after.turn), func(chan error) {})
			change := in(before)
			change.Head.Revision++
			_, err := l.commit(t.Context(), change)
			require.ErrorIs(t, err, store.ErrConflict)
			require.NoError(t, <-done)
			requireNone(t, after.turn)
		},
		"the latter during the former, and leaves": func(
			t *testing.T, l *line, before store.GroupTurn, after *joining,
		) {
			ended, leave := context.WithCancel(t.Context())
			done := make(chan error, 1)
			l.slow = func() {
				l.slow = nil
				go func() {
					_, err := l.commit(ended, in(after.turn))
					done <- err
				}()
				synctest.Wait()
				leave()
				require.ErrorIs(t, <-done, context.Canceled)
			}
			heads, err := l.commit(t.Context(), in(before))
			require.NoError(t, err)
			requireAnswer(t, after, "done", heads[0].Revision)
		},
		"the former during the latter": func(t *testing.T, l *line, before store.GroupTurn, after *joining) {
			l.slow = func() {
				l.slow = nil
				_, err := l.commit(t.Context(), in(before))
				require.ErrorIs(t, err, store.ErrConflict)
			}
			_, err := l.commit(t.Context(), in(after.turn))
			require.NoError(t, err)
			requireNone(t, after.turn)
		},
		"another one during the former, for the same": func(
			t *testing.T, l *line, before store.GroupTurn, after *joining,
		) {
			l.slow = func() {
				l.slow = nil
				_, err := l.commit(t.Context(), in(before))
				require.ErrorIs(t, err, store.ErrConflict)
			}
			_, err := l.commit(t.Context(), in(before))
			require.NoError(t, err)
			requireAnswer(t, after, "done", 1)
		},
		"the former does not know what came of it, and tries again": func(
			t *testing.T, l *line, before store.GroupTurn, after *joining,
		) {
			l.outcome = func() error { return store.ErrUnknown }
			_, err := l.commit(t.Context(), in(before))
			require.ErrorIs(t, err, store.ErrUnknown)
			l.outcome = nil
			head, err := l.Get(t.Context(), labKey)
			require.NoError(t, err)
			_, err = l.commit(t.Context(), store.Change{Head: head, Turn: before})
			require.ErrorIs(t, err, store.ErrConflict)
			_, _, err = after.turn.Answered()
			require.ErrorIs(t, err, store.ErrUnknown)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l line
				before, after := l.passedOver(t, labKey)
				do(t, &l, before, after)
				next := l.begin(t, labKey, "next")
				after.turn.End()
				synctest.Wait()
				require.True(t, next.ended, "the line goes on")
				requireNone(t, next.turn)
			})
		})
	}
}

// TestAnsweredMeanwhile has another commit answer the one turn of a commit while that waits for the other.
func TestAnsweredMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l line
		beforeOne, one := l.passedOver(t, labKey)
		beforeTwo, two := l.passedOver(t, store.Key{Kind: store.KindPool, Pool: "other"})
		givenTwo, err := l.turns.Answers(t.Context(), []store.Change{in(beforeTwo)})
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() {
			_, err := l.commit(t.Context(), in(one.turn), in(two.turn))
			done <- err
		}()
		synctest.Wait()
		givenOne, err := l.turns.Answers(t.Context(), []store.Change{in(beforeOne)})
		require.NoError(t, err)
		givenTwo(nil, store.ErrConflict)
		require.ErrorIs(t, <-done, store.ErrConflict)
		givenOne([]store.Record{{Key: labKey, Revision: 7}}, nil)
		requireAnswer(t, one, "done", 7)
		requireNone(t, two.turn)
	})
}

// TestSlowBeginning has a turn passed over while it begins, and begin while the one after it commits.
func TestSlowBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l line
		first, err := l.join(t.Context(), labKey, "")
		require.NoError(t, err)
		begins := make(chan struct{})
		former := make(chan store.GroupTurn, 1)
		go func() {
			turn, err := l.turns.Join(t.Context(), func(ctx context.Context, key store.Key) (store.Record, error) {
				<-begins
				return l.Get(ctx, key)
			}, labKey, []byte("former"))
			if err == nil {
				former <- turn
			}
		}()
		synctest.Wait()
		latter, last := l.begin(t, labKey, "latter"), l.begin(t, labKey, "last")
		first.End()
		time.Sleep(2 * store.MaxTurn)
		synctest.Wait()
		require.True(t, latter.ended)
		l.slow = func() {
			l.slow = nil
			close(begins)
			require.Equal(t, [][]byte{[]byte("last")}, (<-former).Asks())
		}
		_, err = l.commit(t.Context(), in(latter.turn))
		require.NoError(t, err)
		synctest.Wait()
		require.True(t, last.ended)
	})
}

// TestJoinEnds has calls of Join end for reasons of their own.
func TestJoinEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l line
		begin := time.Now()
		_, err := l.join(t.Context(), labKey, string(make([]byte, store.MaxAskBytes+1)))
		require.ErrorIs(t, err, store.ErrInvalid)
		_, err = l.join(t.Context(), store.Key{}, "a")
		require.ErrorIs(t, err, store.ErrInvalid)
		broken := errors.New("broken")
		_, err = l.turns.Join(t.Context(), func(context.Context, store.Key) (store.Record, error) {
			return store.Record{}, broken
		}, labKey, []byte("a"))
		require.ErrorIs(t, err, broken)
		turn, askers := l.behind(t, labKey, "a", "b")
		turn.Answer(0, []byte{})
		turn.Answer(1, []byte("taken back"))
		turn.Answer(1, nil)
		heads, err := l.commit(t.Context(), in(turn))
		require.NoError(t, err)
		requireAnswer(t, askers[0], "", heads[0].Revision)
		answer, _, _ := askers[0].turn.Answered()
		require.NotNil(t, answer)
		synctest.Wait()
		requireNone(t, askers[1].turn)
		require.Zero(t, time.Since(begin), "nobody was passed over")
	})
}

// TestAnswersAreExact has many count together, of which some leave, take long, commit on a head that they have read
// again, or do not learn what came of it. In a bubble long turns take no time.
func TestAnswersAreExact(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { countTogether(t, seed) })
		})
	}
}

// count is how many of those who count got what.
type count struct {
	mu            sync.Mutex
	got           map[int]bool
	twice, unsure int
	own, refused  int
}

func countTogether(t *testing.T, seed uint64) {
	const writers, each = 6, 40
	var l line
	var c count
	random := rand.New(rand.NewPCG(seed, 1))
	var mu sync.Mutex
	chance := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	pause := func() { time.Sleep([]time.Duration{0, 1, store.MaxTurn / 4, store.MaxTurn * 2}[chance(4)]) }
	l.slow = pause
	l.outcome = func() error {
		if chance(20) == 0 {
			return store.ErrUnknown
		}
		return nil
	}
	c.got = map[int]bool{}
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				ctx, cancel := context.WithTimeout(t.Context(), store.MaxTurn*time.Duration(chance(20)+1)/4)
				c.next(ctx, &l, pause, chance(3) == 0)
				cancel()
			}
		})
	}
	all.Wait()
	head, err := l.Get(t.Context(), labKey)
	require.NoError(t, err)
	total := numberIn(head)
	t.Logf("%d: %d known, %d own, %d unsure, %d refused", total, len(c.got), c.own, c.unsure, c.refused)
	require.Zero(t, c.twice)
	require.LessOrEqual(t, len(c.got), total)
	require.GreaterOrEqual(t, len(c.got)+c.unsure, total)
	require.Greater(t, len(c.got), c.own)
	require.Positive(t, c.refused)
}

// next asks for the next number once.
func (c *count) next(ctx context.Context, l *line, pause func(), reads bool) {
	turn, err := l.join(ctx, labKey, "next")
	if err != nil {
		c.took(nil, err)
		return
	}
	defer turn.End()
	if answer, _, err := turn.Answered(); answer != nil || err != nil {
		c.took(answer, err)
		return
	}
	head := turn.Heads()[0]
	pause()
	if reads { // which helps nobody
		if now, err := l.Get(context.WithoutCancel(ctx), labKey); err == nil {
			head = now
		}
	}
	n := numberIn(head) + 1
	for i := range turn.Asks() {
		turn.Answer(i, []byte(strconv.Itoa(n+1+i)))
	}
	head.Data = json.RawMessage(strconv.Itoa(n + len(turn.Asks())))
	_, err = l.commit(context.WithoutCancel(ctx), store.Change{Head: head, Turn: turn})
	if err == nil || errors.Is(err, store.ErrUnknown) {
		c.mu.Lock()
		c.own++
		c.mu.Unlock()
		c.took([]byte(strconv.Itoa(n)), err)
		return
	}
	c.mu.Lock()
	c.refused++
	c.mu.Unlock()
	turn.End()
	answer, _, err := turn.Answered()
	c.took(answer, err)
}

// took takes note of what somebody got.
func (c *count) took(number []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case errors.Is(err, store.ErrUnknown):
		c.unsure++
	case number != nil:
		n, _ := strconv.Atoi(string(number))
		if c.got[n] {
			c.twice++
		}
		c.got[n] = true
	}
}

func numberIn(head store.Record) (n int) {
	if len(head.Data) > 0 {
		_ = json.Unmarshal(head.Data, &n)
	}
	return n
}

// TestGetAllOfAnyStore reads from a store that is no Reader.
func TestGetAllOfAnyStore(t *testing.T) {
	memory := store.NewMemory()
	head, err := storetest.CommitOne(t.Context(), memory, store.Record{Key: labKey})
	require.NoError(t, err)
	missing := store.Key{Kind: store.KindPool, Pool: "missing"}
	for _, s := range []store.Store{memory, struct{ store.Store }{memory}} {
		for _, keys := range [][]store.Key{{}, {labKey}, {missing}, {missing, labKey, missing, labKey}} {
			want := make([]store.Record, len(keys))
			for i, key := range keys {
				if want[i].Key = key; key == labKey {
					want[i] = head
				}
			}
			got, err := store.GetAll(t.Context(), s, keys...)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		_, err = store.GetAll(t.Context(), s, labKey, store.Key{})
		require.ErrorIs(t, err, store.ErrInvalid)
	}
}
