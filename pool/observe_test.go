package pool_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// witness keeps what an observer is told.
type witness struct {
	mu      sync.Mutex
	calls   []pool.CallEvent
	commits []pool.CommitEvent
}

func (w *witness) ObserveCall(e pool.CallEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, e)
}

func (w *witness) ObserveCommit(e pool.CommitEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commits = append(w.commits, e)
}

// take returns what came since, and forgets it.
func (w *witness) take() ([]pool.CallEvent, []pool.CommitEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls, commits := w.calls, w.commits
	w.calls, w.commits = nil, nil
	return calls, commits
}

// observed runs a test on observed pools, whose clock goes on by a second each time that it is asked.
func observed(
	t *testing.T, spec pool.Spec, test func(t *testing.T, p *pool.Pool, w *witness, injector *faults.Injector),
) {
	options := func(w *witness) *pool.Options {
		clock := newManualClock()
		return &pool.Options{Observer: w, Clock: func() time.Time { clock.Add(time.Second); return clock.Now() }}
	}
	t.Run("in memory", func(t *testing.T) {
		w := &witness{}
		p, err := pool.New(spec, options(w))
		require.NoError(t, err)
		test(t, p, w, nil)
		_, commits := w.take()
		require.Empty(t, commits, "pools in memory have none")
	})
	t.Run("stored", func(t *testing.T) {
		w, injector := &witness{}, &faults.Injector{}
		p, err := pool.Create(t.Context(), injector.Wrap(store.NewMemory()), "blue", spec, options(w))
		require.NoError(t, err)
		_, commits := w.take()
		require.Len(t, commits, 1, "that which made the pool")
		test(t, p, w, injector)
	})
}

func TestObserverIsToldOfEachCall(t *testing.T) {
	observed(t, cooling("10.0.0.0/31"), func(t *testing.T, p *pool.Pool, w *witness, _ *faults.Injector) {
		requireCalls := func(want ...pool.CallEvent) {
			t.Helper()
			calls, _ := w.take()
			require.Len(t, calls, len(want))
			for i, call := range calls {
				require.Equal(t, p.Name(), call.Pool)
				require.Equal(t, want[i].Call, call.Call)
				require.Equal(t, want[i].Owner, call.Owner)
				require.GreaterOrEqual(t, call.Duration, time.Second)
				if want[i].Err != nil {
					require.ErrorIs(t, call.Err, want[i].Err)
					require.Empty(t, call.Allocation)
				} else {
					require.NoError(t, call.Err)
					require.Equal(t, call.Owner, call.Allocation.Owner)
					require.NotEmpty(t, call.Allocation.Prefixes)
				}
			}
		}
		event := func(call pool.Call, owner string, err error) pool.CallEvent {
			return pool.CallEvent{Call: call, Owner: owner, Err: err}
		}
		allocate(t, p, lease("a", time.Hour))
		requireCalls(event(pool.CallAllocate, "a", nil))
		_, _ = p.Renew(t.Context(), pool.Held{Owner: "a"}, 2*time.Hour)
		_, _ = p.Renew(t.Context(), pool.Held{Owner: "x"}, time.Hour)
		requireCalls(event(pool.CallRenew, "a", nil), event(pool.CallRenew, "x", pool.ErrNotFound))
		_, _ = p.Allocate(t.Context(), ofBits("b", 31))
		_, _ = p.Allocate(t.Context(), pool.Claim{})
		requireCalls(event(pool.CallAllocate, "b", pool.ErrExhausted), event(pool.CallAllocate, "", pool.ErrInvalid))
		release(t, p, "a")
		_, _ = p.Release(t.Context(), pool.Held{Owner: "a"})
		requireCalls(event(pool.CallRelease, "a", nil), event(pool.CallRelease, "a", pool.ErrNotFound))

		_, _ = allocateMany(t.Context(), p, claimsOf("b", "c"))
		requireCalls(event(pool.CallAllocate, "b", nil), event(pool.CallAllocate, "c", pool.ErrExhausted))
		_, _ = allocateAll(t.Context(), p, claimsOf("d", "e"))
		requireCalls(event(pool.CallAllocate, "d", pool.ErrExhausted), event(pool.CallAllocate, "e", pool.ErrExhausted))
		_, _ = releaseMany(t.Context(), p, []string{"b", "c"})
		requireCalls(event(pool.CallRelease, "b", nil), event(pool.CallRelease, "c", pool.ErrNotFound))
		_, err := together(t.Context(), "a", []*pool.Pool{p})
		require.NoError(t, err)
		requireCalls(event(pool.CallAllocate, "a", nil))
		_, err = p.All(t.Context(), pool.Allocate(ofBits("f", 31)))
		require.Error(t, err)
		requireCalls(event(pool.CallAllocate, "f", pool.ErrExhausted))
		_, err = releaseTogether(t.Context(), "a", p)
		require.NoError(t, err)
		requireCalls(event(pool.CallRelease, "a", nil))

		// What is no call of an owner is not told as one: looks, marks, changes.
		allocate(t, p, pool.Claim{Owner: "b"})
		requireCalls(event(pool.CallAllocate, "b", nil))
		reconcile(t, p, live(), &pool.ReconcileOptions{Grace: time.Hour})
		dry(t, p, pool.Claim{Owner: "b"})
		require.NoError(t, p.Update(t.Context(), cooling("10.0.0.0/30")))
		requireOK(t, p)
		requireCalls()
		reconcile(t, p, live(), nil)
		requireCalls(event(pool.CallRelease, "b", nil))
	})
}

func TestObserverIsToldOfGrantsInTheParent(t *testing.T) {
	w, s := &witness{}, store.NewMemory()
	parent := createNamed(t, s, "parent", specOf("10.0.0.0/24"))
	child, err := pool.Carve(t.Context(), parent, ofBits("node", 30), "child", pool.Spec{}, &pool.Options{Observer: w})
	require.NoError(t, err)
	w.take()
	_, err = child.Extend(t.Context(), ofBits("more", 30))
	require.NoError(t, err)
	_, err = child.Retract(t.Context(), "more")
	require.NoError(t, err)
	_, err = child.Retract(t.Context(), "more")
	require.ErrorIs(t, err, pool.ErrNotFound)
	calls, _ := w.take()
	require.Len(t, calls, 3)
	for i, want := range []pool.Call{pool.CallAllocate, pool.CallRelease, pool.CallRelease} {
		require.Equal(t, want, calls[i].Call)
		require.Equal(t, "parent", calls[i].Pool)
		require.Equal(t, "more", calls[i].Owner)
	}
	require.ErrorIs(t, calls[2].Err, pool.ErrNotFound)
}

func TestObserverSeesConflictsAndUnknownOutcomes(t *testing.T) {
	observed(t, specOf("10.0.0.0/24"), func(t *testing.T, p *pool.Pool, w *witness, injector *faults.Injector) {
		if injector == nil {
			return
		}
		requireCommits := func(want ...error) {
			t.Helper()
			_, commits := w.take()
			require.Len(t, commits, len(want))
			for i, commit := range commits {
				require.Equal(t, "blue", commit.Pool)
				require.Positive(t, commit.Duration)
				if want[i] == nil {
					require.NoError(t, commit.Err)
				} else {
					require.ErrorIs(t, commit.Err, want[i])
				}
			}
		}
		allocate(t, p, pool.Claim{Owner: "a"})
		requireCommits(nil)
		allocate(t, p, pool.Claim{Owner: "a"})
		requireCommits() // the answer was there

		injector.ResetCounts()
		injector.Choose = faults.Script(faults.Fault{Effect: faults.LoseReply})
		allocate(t, p, pool.Claim{Owner: "b"})
		requireCommits(store.ErrUnknown, store.ErrExists)
		injector.ResetCounts()
		injector.Choose = faults.Script(faults.Fault{Effect: faults.Refuse})
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: "c"})
		require.ErrorIs(t, err, faults.ErrInjected)
		requireCommits(faults.ErrInjected)
		injector.ResetCounts()
		_, err = together(t.Context(), "d", []*pool.Pool{p})
		require.ErrorIs(t, err, faults.ErrInjected)
		requireCommits(faults.ErrInjected)
		injector.Choose = nil
		require.NoError(t, p.Update(t.Context(), specOf("10.0.0.0/25")))
		requireCommits(nil)
	})

	w, memory := &witness{}, store.NewMemory()
	create(t, memory, specOf("10.0.0.0/24"))
	p, err := pool.Open(t.Context(), memory, "blue", &pool.Options{Observer: w})
	require.NoError(t, err)
	allocate(t, open(t, memory.Open()), pool.Claim{Owner: "a"})
	allocate(t, p, pool.Claim{Owner: "b"})
	_, commits := w.take()
	require.Len(t, commits, 2)
	require.ErrorIs(t, commits[0].Err, store.ErrConflict)
	require.Equal(t, 1, commits[1].Writes)
}

func TestDurationIsNeverNegative(t *testing.T) {
	w, clock := &witness{}, newManualClock()
	back := func() time.Time { clock.Add(-time.Hour); return clock.Now() }
	p, err := pool.New(specOf("10.0.0.0/24"), &pool.Options{Observer: w, Clock: back})
	require.NoError(t, err)
	allocate(t, p, pool.Claim{Owner: "a"})
	calls, _ := w.take()
	require.Zero(t, calls[0].Duration)
}
