package faults_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// The parts of a store that are not all of it.
type (
	onlyStore struct{ store.Store }
	onlyJoins struct {
		store.Store
		store.Grouper
	}
	onlyReads struct {
		store.Store
		store.Reader
	}
)

func TestWrapIsWhatTheInnerStoreIs(t *testing.T) {
	memory := store.NewMemory()
	for _, c := range []struct {
		inner         store.Store
		groups, reads bool
	}{
		{memory, true, true}, {onlyStore{memory}, false, false}, {onlyJoins{memory, memory}, true, false},
		{onlyReads{memory, memory}, false, true},
	} {
		var injector faults.Injector
		s := injector.Wrap(c.inner)
		_, groups := s.(store.Grouper)
		_, reads := s.(store.Reader)
		require.Equal(t, [2]bool{c.groups, c.reads}, [2]bool{groups, reads})
	}
}

func TestFaultsOfGetAll(t *testing.T) {
	memory := store.NewMemory()
	head, err := storetest.CommitOne(t.Context(), memory, poolHead)
	require.NoError(t, err)
	injector := faults.Injector{Choose: func(c faults.Call) faults.Fault {
		require.Equal(t, faults.Call{Method: faults.GetAll, N: c.N, Key: poolClaim.Key}, c)
		return faults.Fault{Effect: []faults.Effect{faults.Pass, faults.Refuse}[c.N%2]}
	}}
	s := injector.Wrap(memory)
	_, err = store.GetAll(t.Context(), s, poolClaim.Key, head.Key)
	require.ErrorIs(t, err, faults.ErrInjected)
	got, err := store.GetAll(t.Context(), s, poolClaim.Key, head.Key)
	require.NoError(t, err)
	require.Equal(t, []store.Record{{Key: poolClaim.Key}, head}, got)
	require.Equal(t, faults.Counts{GetAll: 2}, injector.Counts())
	require.Equal(t, 2, injector.Counts().RoundTrips())
}

func TestFaultsOfJoin(t *testing.T) {
	for effect, want := range map[faults.Effect]error{
		faults.Pass: nil, faults.Refuse: faults.ErrInjected, faults.LoseReply: store.ErrUnknown,
	} {
		injector := faults.Injector{Choose: func(c faults.Call) faults.Fault {
			require.Equal(t, faults.Call{Method: faults.Join, N: 1, Key: poolHead.Key, Heads: 1}, c)
			return faults.Fault{Effect: effect}
		}}
		memory := store.NewMemory()
		turn, err := injector.Wrap(memory).(store.Grouper).Join(t.Context(), poolHead.Key, []byte("one"))
		require.ErrorIs(t, err, want)
		require.Equal(t, errors.Is(want, store.ErrUnknown), errors.Is(err, store.ErrUnknown))
		require.Equal(t, faults.Counts{Turn: 1}, injector.Counts())
		if err == nil {
			turn.End()
		}
		synctest.Test(t, func(t *testing.T) { // nobody is in line
			turn, err := memory.Turn(t.Context(), poolHead.Key)
			require.NoError(t, err)
			turn.End()
		})
	}
}

// TestFaultsOfAnswers has a commit with an answer meet each fault. The asker must be told what is so.
func TestFaultsOfAnswers(t *testing.T) {
	for _, c := range []struct {
		fault    faults.Fault
		err      error
		answered bool // else the asker has its turn
	}{
		{faults.Fault{}, nil, true},
		{faults.Fault{Effect: faults.Refuse}, faults.ErrInjected, false},
		{faults.Fault{Effect: faults.LoseRequest}, store.ErrUnknown, false},
		{faults.Fault{Effect: faults.LoseReply}, store.ErrUnknown, true},
		{faults.Fault{Effect: faults.LandLate, Late: 1}, store.ErrUnknown, false}, // too late: the asker has its turn
	} {
		synctest.Test(t, func(t *testing.T) {
			memory, injector := store.NewMemory(), faults.Injector{Choose: faults.Script(c.fault)}
			s := injector.Wrap(memory).(store.Grouper)
			turn, asker := joinedBehind(t, s)
			turn.Answer(0, []byte("done"))
			_, err := injectedCommit(s, turn)
			require.ErrorIs(t, err, c.err)
			got := <-asker
			answer, revision, err := got.Answered()
			require.NoError(t, err)
			require.Equal(t, c.answered, answer != nil)
			require.Equal(t, c.answered, revision == 1)
			_, _ = s.(store.Store).Get(t.Context(), poolHead.Key) // before which the late commit lands
			_, err = memory.Get(t.Context(), poolHead.Key)
			require.Equal(t, c.answered || c.fault.Effect == faults.LandLate, err == nil)
			got.End()
			answer, _, err = got.Answered()
			require.NoError(t, err)
			require.Equal(t, c.answered || c.fault.Effect == faults.LandLate, answer != nil)
		})
	}
}

// joinedBehind returns a turn, and from a channel that of an asker behind it.
func joinedBehind(t *testing.T, s store.Grouper) (store.GroupTurn, chan store.GroupTurn) {
	first, err := s.Join(t.Context(), poolHead.Key, nil)
	require.NoError(t, err)
	turns, asker := make(chan store.GroupTurn, 1), make(chan store.GroupTurn, 1)
	go join(t.Context(), s, "", turns)
	synctest.Wait()
	go join(t.Context(), s, "one", asker)
	synctest.Wait()
	first.End()
	turn := <-turns
	require.Equal(t, [][]byte{[]byte("one")}, turn.Asks())
	return turn, asker
}

func join(ctx context.Context, s store.Grouper, ask string, had chan store.GroupTurn) {
	if turn, err := s.Join(ctx, poolHead.Key, []byte(ask)); err == nil {
		had <- turn
	}
}

func injectedCommit(s store.Grouper, turn store.Turn) ([]store.Record, error) {
	return s.(store.Store).Commit(context.Background(), store.Change{Head: poolHead, Turn: turn})
}
