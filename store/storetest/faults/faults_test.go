package faults_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

var (
	poolHead  = store.Record{Key: store.Key{Kind: store.KindPool, Pool: "a"}}
	poolClaim = store.Record{
		Key:      store.Key{Kind: store.KindAllocation, Pool: "a", Name: "x"},
		State:    "allocated",
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")},
	}
)

// TestFaultsConform runs the suite through a wrapper that lets everything through.
func TestFaultsConform(t *testing.T) {
	storetest.Run(t, func(testing.TB) storetest.Backend {
		shared, injector := store.NewMemory(), &faults.Injector{}
		return storetest.Backend{
			Open: func(context.Context) (store.Store, error) { return injector.Wrap(shared.Open()), nil },
		}
	})
}

func TestFaultsOfCommit(t *testing.T) {
	cause := errors.New("pulled the plug")
	for _, c := range []struct {
		name     string
		fault    faults.Fault
		errs     []error
		now, yet bool // took effect when it returned; after two further calls
	}{
		{"pass", faults.Fault{}, nil, true, true},
		{"refuse", faults.Fault{Effect: faults.Refuse}, []error{faults.ErrInjected}, false, false},
		{"lose request", faults.Fault{Effect: faults.LoseRequest}, []error{store.ErrUnknown, faults.ErrInjected}, false,
			false},
		{"lose reply", faults.Fault{Effect: faults.LoseReply, Err: cause}, []error{store.ErrUnknown, cause}, true,
			true},
		{"land late", faults.Fault{Effect: faults.LandLate, Late: 2}, []error{store.ErrUnknown}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, shared := t.Context(), store.NewMemory()
			injector := faults.Injector{Choose: faults.Script(c.fault)}
			s, other := injector.Wrap(shared.Open()), injector.Wrap(shared.Open())
			_, err := storetest.CommitOne(ctx, s, poolHead, store.Write{Op: store.Create, Record: poolClaim})
			if c.errs == nil {
				require.NoError(t, err)
			}
			for _, want := range c.errs {
				require.ErrorIs(t, err, want)
			}
			if !errors.Is(err, store.ErrUnknown) && c.errs != nil {
				require.NotErrorIs(t, err, store.ErrUnknown)
			}
			require.Equal(t, c.now, holds(t, shared))
			for range 2 {
				_, _ = other.Get(ctx, poolHead.Key)
			}
			require.Equal(t, c.yet, holds(t, shared))
			want := faults.Counts{Commit: 1, Get: 2}
			if c.yet {
				want.Committed, want.Writes, want.Bytes = 1, 1, 5+11+1+9+18
			}
			require.Equal(t, want, injector.Counts())
			require.Equal(t, 3, injector.Counts().RoundTrips())
		})
	}
}

// TestFaultsOfTwoHeads does the same to commits of two heads.
func TestFaultsOfTwoHeads(t *testing.T) {
	other := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "b"}}
	for _, c := range []struct {
		fault    faults.Fault
		err      error
		now, yet bool
	}{
		{faults.Fault{}, nil, true, true},
		{faults.Fault{Effect: faults.Refuse}, faults.ErrInjected, false, false},
		{faults.Fault{Effect: faults.LoseRequest}, store.ErrUnknown, false, false},
		{faults.Fault{Effect: faults.LoseReply}, store.ErrUnknown, true, true},
		{faults.Fault{Effect: faults.LandLate, Late: 2}, store.ErrUnknown, false, true},
	} {
		ctx, shared := t.Context(), store.NewMemory()
		injector := faults.Injector{Choose: faults.Script(c.fault)}
		s := injector.Wrap(shared)
		changes := []store.Change{{Head: poolHead, Writes: []store.Write{{Op: store.Create, Record: poolClaim}}},
			{Head: other}}
		_, err := s.Commit(ctx, changes...)
		require.ErrorIs(t, err, c.err)
		require.Equal(t, errors.Is(c.err, store.ErrUnknown), errors.Is(err, store.ErrUnknown))
		require.Equal(t, c.now, holds(t, shared))
		for range 2 {
			_, _ = s.Get(ctx, other.Key)
		}
		require.Equal(t, c.yet, holds(t, shared))
		_, err = shared.Get(ctx, other.Key)
		require.Equal(t, c.yet, err == nil)
		want := faults.Counts{Commit: 1, Get: 2}
		if c.yet {
			want.Committed, want.Writes, want.Bytes = 1, 1, 5+11+1+9+18+5
		}
		require.Equal(t, want, injector.Counts())
	}
}

// holds reports whether both records of the commit are there, and fails if only one is.
func holds(t *testing.T, s store.Store) bool {
	t.Helper()
	_, headErr := s.Get(t.Context(), poolHead.Key)
	_, claimErr := s.Get(t.Context(), poolClaim.Key)
	require.Equal(t, headErr == nil, claimErr == nil)
	return headErr == nil
}

// TestLateCommitIsTooLate lets another commit overtake one that is under way.
func TestLateCommitIsTooLate(t *testing.T) {
	ctx, shared := t.Context(), store.NewMemory()
	injector := faults.Injector{Choose: faults.Script(faults.Fault{Effect: faults.LandLate, Late: 2})}
	s := injector.Wrap(shared)
	_, err := storetest.CommitOne(ctx, s, poolHead, store.Write{Op: store.Create, Record: poolClaim})
	require.ErrorIs(t, err, store.ErrUnknown)
	won, err := storetest.CommitOne(ctx, s, poolHead)
	require.NoError(t, err)
	got, err := s.Get(ctx, poolHead.Key)
	require.NoError(t, err)
	require.Equal(t, won, got)
	_, err = s.Get(ctx, poolClaim.Key)
	require.ErrorIs(t, err, store.ErrNotFound)
}

// TestFaultsDoNotHideErrors expects what a store says by itself, whatever the fault.
func TestFaultsDoNotHideErrors(t *testing.T) {
	for _, effect := range []faults.Effect{faults.Refuse, faults.LoseRequest, faults.LoseReply, faults.LandLate} {
		injector := faults.Injector{Choose: func(faults.Call) faults.Fault { return faults.Fault{Effect: effect} }}
		s := injector.Wrap(store.NewMemory())
		_, err := storetest.CommitOne(t.Context(), s, store.Record{})
		require.ErrorIs(t, err, store.ErrInvalid)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = storetest.CommitOne(ended, s, poolHead)
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, s.Close())
		_, err = storetest.CommitOne(t.Context(), s, poolHead)
		require.ErrorIs(t, err, store.ErrClosed)
	}
}

func TestFaultsOfReads(t *testing.T) {
	ctx, shared := t.Context(), store.NewMemory()
	head := poolHead
	for _, name := range []string{"x", "y", "z"} {
		r := poolClaim
		r.Name = name
		var err error
		head, err = storetest.CommitOne(ctx, shared, head, store.Write{Op: store.Create, Record: r})
		require.NoError(t, err)
	}
	injector := faults.Injector{Choose: func(c faults.Call) faults.Fault {
		if c.N == 1 {
			return faults.Fault{Effect: faults.Refuse, After: 2}
		}
		return faults.Fault{}
	}}
	s := injector.Wrap(shared)
	_, err := s.Get(ctx, head.Key)
	require.ErrorIs(t, err, faults.ErrInjected)
	_, err = s.Get(ctx, head.Key)
	require.NoError(t, err)
	_, err = s.Find(ctx, "a", netip.MustParseAddr("10.0.0.1"))
	require.ErrorIs(t, err, faults.ErrInjected)
	_, err = s.Find(ctx, "a", netip.MustParseAddr("10.0.0.1"))
	require.NoError(t, err)
	for round, wantRecords := range []int{2, 3} {
		records, errs := 0, 0
		for _, err := range s.List(ctx, store.KindAllocation, "a") {
			if err == nil {
				records++
			} else {
				require.ErrorIs(t, err, faults.ErrInjected)
				errs++
			}
		}
		require.Equal(t, wantRecords, records)
		require.Equal(t, 1-round, errs)
	}
	_, err = s.Watch(ctx, head.Key, 0)
	require.ErrorIs(t, err, faults.ErrInjected)
	got, err := s.Watch(ctx, head.Key, 0)
	require.NoError(t, err)
	require.Equal(t, head, got)
	for _, wantErr := range []error{faults.ErrInjected, nil} {
		err = nil
		for _, err = range s.ByExpiry(ctx, store.KindAllocation, "a") {
		}
		require.ErrorIs(t, err, wantErr)
	}
	require.Equal(t, faults.Counts{Get: 2, Find: 2, List: 2, Listed: 5, Watch: 2, ByExpiry: 2}, injector.Counts())
	injector.ResetCounts()
	require.Zero(t, injector.Counts())
}

func TestFaultsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		injector := faults.Injector{Choose: faults.Script(faults.Fault{Delay: time.Hour},
			faults.Fault{Delay: time.Hour})}
		s, begin := injector.Wrap(store.NewMemory()), time.Now()
		head, err := storetest.CommitOne(t.Context(), s, poolHead)
		require.NoError(t, err)
		require.Equal(t, time.Hour, time.Since(begin))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = storetest.CommitOne(ctx, s, head)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Hour+time.Minute, time.Since(begin))
	})
}

func TestRandomFaults(t *testing.T) {
	rates := faults.Rates{Refuse: 0.1, LoseRequest: 0.1, LoseReply: 0.2, LandLate: 0.2, Read: 0.5, MaxLate: 3,
		MaxDelay: time.Millisecond}
	const calls = 10_000
	sequence := func(seed uint64) []faults.Fault {
		choose := faults.Random(seed, rates)
		var all []faults.Fault
		for i := range calls {
			all = append(all, choose(faults.Call{Method: []faults.Method{faults.Commit, faults.Get}[i%2]}))
		}
		return all
	}
	first := sequence(1)
	require.Equal(t, first, sequence(1))
	require.NotEqual(t, first, sequence(2))
	var commits, reads [faults.LandLate + 1]float64
	for i, f := range first {
		require.LessOrEqual(t, f.Delay, rates.MaxDelay)
		require.LessOrEqual(t, f.Late, rates.MaxLate)
		if i%2 == 0 {
			commits[f.Effect] += 2.0 / calls
		} else {
			reads[f.Effect] += 2.0 / calls
		}
	}
	require.InDeltaSlice(t, []float64{0.4, 0.1, 0.1, 0.2, 0.2}, commits[:], 0.03)
	require.InDeltaSlice(t, []float64{0.5, 0.5, 0, 0, 0}, reads[:], 0.03)
}

// ExampleInjector loses the reply to a commit, and recovers as the contract says: read again.
func ExampleInjector() {
	ctx := context.Background()
	injector := faults.Injector{Choose: faults.Script(faults.Fault{Effect: faults.LoseReply})}
	s := injector.Wrap(store.NewMemory())
	head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "lab"}}
	_, err := s.Commit(ctx, store.Change{Head: head})
	if errors.Is(err, store.ErrUnknown) {
		head, err = s.Get(ctx, head.Key)
	}
	fmt.Println(head.Revision, err, injector.Counts().RoundTrips())
	// Output: 1 <nil> 2
}
