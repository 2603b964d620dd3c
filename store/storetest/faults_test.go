package storetest_test

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
)

var (
	poolHead  = store.Record{Key: store.Key{Kind: store.KindPool, Pool: "a"}}
	poolClaim = store.Record{
		Key:      store.Key{Kind: store.KindAllocation, Pool: "a", Name: "x"},
		State:    "allocated",
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")},
	}
)

// TestFaultsConform runs the suite through a wrapper that lets everything through, and one that hides what it can.
func TestFaultsConform(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprint("plain=", plain), func(t *testing.T) {
			storetest.Run(t, func(testing.TB) storetest.Backend {
				shared, faults := store.NewMemory(), &storetest.Faults{Plain: plain}
				return storetest.Backend{
					Open: func(context.Context) (store.Store, error) { return faults.Wrap(shared.Open()), nil },
				}
			})
		})
	}
}

func TestFaultsOfCommit(t *testing.T) {
	cause := errors.New("pulled the plug")
	for _, c := range []struct {
		name     string
		fault    storetest.Fault
		errs     []error
		now, yet bool // took effect when it returned; after two further calls
	}{
		{"pass", storetest.Fault{}, nil, true, true},
		{"refuse", storetest.Fault{Effect: storetest.Refuse}, []error{storetest.ErrInjected}, false, false},
		{"lose request", storetest.Fault{Effect: storetest.LoseRequest}, []error{store.ErrUnknown, storetest.ErrInjected}, false, false},
		{"lose reply", storetest.Fault{Effect: storetest.LoseReply, Err: cause}, []error{store.ErrUnknown, cause}, true, true},
		{"land late", storetest.Fault{Effect: storetest.LandLate, Late: 2}, []error{store.ErrUnknown}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, shared := t.Context(), store.NewMemory()
			faults := storetest.Faults{Choose: storetest.Script(c.fault)}
			s, other := faults.Wrap(shared.Open()), faults.Wrap(shared.Open())
			_, err := s.Commit(ctx, poolHead, []store.Write{{Op: store.Create, Record: poolClaim}})
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
			want := storetest.Counts{Commit: 1, Get: 2}
			if c.yet {
				want.Committed, want.Writes, want.Bytes = 1, 1, 5+11+1+9+18
			}
			require.Equal(t, want, faults.Counts())
			require.Equal(t, 3, faults.Counts().RoundTrips())
		})
	}
}

// TestFaultsOfSeveral does the same to commits of two heads.
func TestFaultsOfSeveral(t *testing.T) {
	other := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "b"}}
	for _, c := range []struct {
		fault    storetest.Fault
		err      error
		now, yet bool
	}{
		{storetest.Fault{}, nil, true, true},
		{storetest.Fault{Effect: storetest.Refuse}, storetest.ErrInjected, false, false},
		{storetest.Fault{Effect: storetest.LoseRequest}, store.ErrUnknown, false, false},
		{storetest.Fault{Effect: storetest.LoseReply}, store.ErrUnknown, true, true},
		{storetest.Fault{Effect: storetest.LandLate, Late: 2}, store.ErrUnknown, false, true},
	} {
		ctx, shared := t.Context(), store.NewMemory()
		faults := storetest.Faults{Choose: storetest.Script(c.fault)}
		s := faults.Wrap(shared)
		changes := []store.Change{{Head: poolHead, Writes: []store.Write{{Op: store.Create, Record: poolClaim}}}, {Head: other}}
		_, err := s.(store.SeveralCommitter).CommitSeveral(ctx, changes)
		require.ErrorIs(t, err, c.err)
		require.Equal(t, errors.Is(c.err, store.ErrUnknown), errors.Is(err, store.ErrUnknown))
		require.Equal(t, c.now, holds(t, shared))
		for range 2 {
			_, _ = s.Get(ctx, other.Key)
		}
		require.Equal(t, c.yet, holds(t, shared))
		_, err = shared.Get(ctx, other.Key)
		require.Equal(t, c.yet, err == nil)
		want := storetest.Counts{CommitSeveral: 1, Get: 2}
		if c.yet {
			want.Committed, want.Writes, want.Bytes = 1, 1, 5+11+1+9+18+5
		}
		require.Equal(t, want, faults.Counts())
	}
}

// TestFaultsImplementWhatIsThere looks at what wrapped stores implement.
func TestFaultsImplementWhatIsThere(t *testing.T) {
	memory := store.NewMemory()
	for _, c := range []struct {
		faults                  *storetest.Faults
		inner                   store.Store
		finds, expires          bool
		commitsSeveral, watches bool
	}{
		{&storetest.Faults{}, memory, true, true, true, true},
		{&storetest.Faults{}, struct{ store.Store }{memory}, true, true, false, false},
		{&storetest.Faults{}, struct {
			store.Store
			store.Watcher
		}{memory, memory}, true, true, false, true},
		{&storetest.Faults{}, struct {
			store.Store
			store.SeveralCommitter
		}{memory, memory}, true, true, true, false},
		{&storetest.Faults{Plain: true}, memory, false, false, false, false},
	} {
		s := c.faults.Wrap(c.inner)
		_, finds := s.(store.Finder)
		_, expires := s.(store.Expirer)
		_, commitsSeveral := s.(store.SeveralCommitter)
		_, watches := s.(store.Watcher)
		require.Equal(t, []bool{c.finds, c.expires, c.commitsSeveral, c.watches}, []bool{finds, expires, commitsSeveral, watches})
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
	faults := storetest.Faults{Choose: storetest.Script(storetest.Fault{Effect: storetest.LandLate, Late: 2})}
	s := faults.Wrap(shared)
	_, err := s.Commit(ctx, poolHead, []store.Write{{Op: store.Create, Record: poolClaim}})
	require.ErrorIs(t, err, store.ErrUnknown)
	won, err := s.Commit(ctx, poolHead, nil)
	require.NoError(t, err)
	got, err := s.Get(ctx, poolHead.Key)
	require.NoError(t, err)
	require.Equal(t, won, got)
	_, err = s.Get(ctx, poolClaim.Key)
	require.ErrorIs(t, err, store.ErrNotFound)
}

// TestFaultsDoNotHideErrors expects what a store says by itself, whatever the fault.
func TestFaultsDoNotHideErrors(t *testing.T) {
	for _, effect := range []storetest.Effect{storetest.Refuse, storetest.LoseRequest, storetest.LoseReply, storetest.LandLate} {
		faults := storetest.Faults{Choose: func(storetest.Call) storetest.Fault { return storetest.Fault{Effect: effect} }}
		s := faults.Wrap(store.NewMemory())
		_, err := s.Commit(t.Context(), store.Record{}, nil)
		require.ErrorIs(t, err, store.ErrInvalid)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = s.Commit(ended, poolHead, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, s.Close())
		_, err = s.Commit(t.Context(), poolHead, nil)
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
		head, err = shared.Commit(ctx, head, []store.Write{{Op: store.Create, Record: r}})
		require.NoError(t, err)
	}
	faults := storetest.Faults{Choose: func(c storetest.Call) storetest.Fault {
		if c.N == 1 {
			return storetest.Fault{Effect: storetest.Refuse, After: 2}
		}
		return storetest.Fault{}
	}}
	s := faults.Wrap(shared)
	_, err := s.Get(ctx, head.Key)
	require.ErrorIs(t, err, storetest.ErrInjected)
	_, err = s.Get(ctx, head.Key)
	require.NoError(t, err)
	_, err = store.Find(ctx, s, "a", netip.MustParseAddr("10.0.0.1"))
	require.ErrorIs(t, err, storetest.ErrInjected)
	_, err = store.Find(ctx, s, "a", netip.MustParseAddr("10.0.0.1"))
	require.NoError(t, err)
	for round, wantRecords := range []int{2, 3} {
		records, errs := 0, 0
		for _, err := range s.List(ctx, store.KindAllocation, "a") {
			if err == nil {
				records++
			} else {
				require.ErrorIs(t, err, storetest.ErrInjected)
				errs++
			}
		}
		require.Equal(t, wantRecords, records)
		require.Equal(t, 1-round, errs)
	}
	_, err = store.Watch(ctx, s, head.Key, 0, 0)
	require.ErrorIs(t, err, storetest.ErrInjected)
	got, err := store.Watch(ctx, s, head.Key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, head, got)
	for _, wantErr := range []error{storetest.ErrInjected, nil} {
		err = nil
		for _, err = range store.ByExpiry(ctx, s, store.KindAllocation, "a") {
		}
		require.ErrorIs(t, err, wantErr)
	}
	require.Equal(t, storetest.Counts{Get: 2, Find: 2, List: 2, Listed: 5, Watch: 2, ByExpiry: 2}, faults.Counts())
	faults.ResetCounts()
	require.Zero(t, faults.Counts())
}

func TestFaultsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := storetest.Faults{Choose: storetest.Script(storetest.Fault{Delay: time.Hour}, storetest.Fault{Delay: time.Hour})}
		s, begin := faults.Wrap(store.NewMemory()), time.Now()
		head, err := s.Commit(t.Context(), poolHead, nil)
		require.NoError(t, err)
		require.Equal(t, time.Hour, time.Since(begin))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = s.Commit(ctx, head, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Hour+time.Minute, time.Since(begin))
	})
}

func TestRandomFaults(t *testing.T) {
	rates := storetest.Rates{Refuse: 0.1, LoseRequest: 0.1, LoseReply: 0.2, LandLate: 0.2, Read: 0.5, MaxLate: 3, MaxDelay: time.Millisecond}
	const calls = 10_000
	sequence := func(seed uint64) []storetest.Fault {
		choose := storetest.Random(seed, rates)
		var faults []storetest.Fault
		for i := range calls {
			faults = append(faults, choose(storetest.Call{Method: []storetest.Method{storetest.Commit, storetest.Get}[i%2]}))
		}
		return faults
	}
	faults := sequence(1)
	require.Equal(t, faults, sequence(1))
	require.NotEqual(t, faults, sequence(2))
	var commits, reads [storetest.LandLate + 1]float64
	for i, f := range faults {
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

// ExampleFaults loses the reply to a commit, and recovers as the contract says: read again.
func ExampleFaults() {
	ctx := context.Background()
	faults := storetest.Faults{Choose: storetest.Script(storetest.Fault{Effect: storetest.LoseReply})}
	s := faults.Wrap(store.NewMemory())
	head, err := s.Commit(ctx, store.Record{Key: store.Key{Kind: store.KindPool, Pool: "lab"}}, nil)
	if errors.Is(err, store.ErrUnknown) {
		head, err = s.Get(ctx, store.Key{Kind: store.KindPool, Pool: "lab"})
	}
	fmt.Println(head.Revision, err, faults.Counts().RoundTrips())
	// Output: 1 <nil> 2
}
