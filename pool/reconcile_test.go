package pool_test

import (
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// live iterates over these owners.
func live(owners ...string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, owner := range owners {
			if !yield(owner, nil) {
				return
			}
		}
	}
}

func ownersOf(allocations []pool.Allocation) []string {
	out := []string{}
	for _, a := range allocations {
		out = append(out, a.Owner)
	}
	slices.Sort(out)
	return out
}

func markOf(t testing.TB, p *pool.Pool) pool.Mark {
	t.Helper()
	mark, err := p.Mark(t.Context())
	require.NoError(t, err)
	return mark
}

func reconcile(
	t testing.TB, p *pool.Pool, alive iter.Seq2[string, error], options *pool.ReconcileOptions,
) pool.Reconciliation {
	t.Helper()
	done, err := p.Reconcile(t.Context(), markOf(t, p), alive, options)
	require.NoError(t, err)
	return done
}

func TestReconcileReleasesWhatOwnersHoldThatAreNoMore(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/28"), func(t *testing.T, b *trial) {
		for _, owner := range []string{"a", "b", "c", "d"} {
			allocate(t, b.Pool, pool.Claim{Owner: owner, Labels: map[string]string{"node": owner}})
		}
		done := reconcile(t, b.another(t), live("a", "c", "who holds nothing"), nil)
		require.Equal(t, []string{"b", "d"}, ownersOf(done.Released))
		require.Equal(t, 2, done.Live)
		require.Empty(t, done.Missing)
		require.Equal(t, uint64(2), b.stats(t).Used.Uint64())

		require.Equal(t, []string{"a", "c"}, ownersOf(reconcile(t, b.Pool, live(), nil).Released),
			"an empty iteration: nobody is live")
	})
}

func TestReconcileDryRunChangesNothing(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/28"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, pool.Claim{Owner: "a"})
		allocate(t, b.Pool, pool.Claim{Owner: "b"})
		before := snapshot(t, b.Pool)
		done := reconcile(t, b.Pool, live("a"), &pool.ReconcileOptions{DryRun: true})
		require.Equal(t, []string{"b"}, ownersOf(done.Released))
		done = reconcile(t, b.Pool, live("a"), &pool.ReconcileOptions{DryRun: true, Grace: time.Minute})
		require.Equal(t, []string{"b"}, ownersOf(done.Missing))
		require.Equal(t, before, snapshot(t, b.Pool))
		b.clock.Add(time.Hour)
		done = reconcile(t, b.Pool, live("a"), &pool.ReconcileOptions{Grace: time.Minute})
		require.Empty(t, done.Released, "a dry run has begun no grace")
	})
}

func TestReconcileGraceGoesOnOverRestarts(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/28"), func(t *testing.T, b *trial) {
		grace := &pool.ReconcileOptions{Grace: time.Minute}
		for _, owner := range []string{"gone", "back", "renews", "claims", "there"} {
			allocate(t, b.Pool, lease(owner, time.Hour))
		}
		done := reconcile(t, b.another(t), live("there"), grace)
		require.Equal(t, []string{"back", "claims", "gone", "renews"}, ownersOf(done.Missing))
		require.Empty(t, done.Released)
		b.clock.Add(time.Minute - time.Microsecond)
		done = reconcile(t, b.another(t), live("there", "back"), grace)
		require.Equal(t, []string{"claims", "gone", "renews"}, ownersOf(done.Missing))
		require.Equal(t, []string{"back"}, ownersOf(done.Back))
		require.Equal(t, 2, done.Live)
		// This makes the lease no longer, but shows that the owner is there.
		_, err := b.Renew(t.Context(), pool.Held{Owner: "renews"}, time.Minute)
		require.NoError(t, err)
		allocate(t, b.another(t), lease("claims", time.Hour))

		b.clock.Add(time.Microsecond)
		done = reconcile(t, b.another(t), live("there"), grace)
		require.Equal(t, []string{"gone"}, ownersOf(done.Released))
		require.Equal(t, []string{"back", "claims", "renews"}, ownersOf(done.Missing), "whose grace begins anew")
		_, err = b.Reconcile(t.Context(), markOf(t, b.Pool), live(), &pool.ReconcileOptions{Grace: -1})
		require.ErrorIs(t, err, pool.ErrInvalid)
		_, err = b.Reconcile(t.Context(), pool.Mark{}, live(), nil)
		require.ErrorIs(t, err, pool.ErrInvalid, "without a mark from before the list")
		other := createNamed(t, store.NewMemory(), "other", specOf("10.0.0.0/28"))
		_, err = b.Reconcile(t.Context(), markOf(t, other), live(), nil)
		require.ErrorIs(t, err, pool.ErrInvalid, "with the mark of another pool")
	})
}

// Nothing that was granted after the look at the world began is released.
func TestReconcileKeepsWhatWasGrantedAfterTheLook(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/28"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, pool.Claim{Owner: "old"})
		allocate(t, b.Pool, pool.Claim{Owner: "again"})
		during := func(yield func(string, error) bool) {
			allocate(t, b.another(t), pool.Claim{Owner: "new"})
			release(t, b.another(t), "again")
			allocate(t, b.another(t), pool.Claim{Owner: "again"})
		}
		done := reconcile(t, b.Pool, during, nil)
		require.Equal(t, []string{"old"}, ownersOf(done.Released))
		require.Equal(t, 2, done.Newer)

		mark := markOf(t, b.another(t))
		allocate(t, b.Pool, pool.Claim{Owner: "newer"})
		done, err := b.Reconcile(t.Context(), mark, live(), nil)
		require.NoError(t, err)
		require.Equal(t, []string{"again", "new"}, ownersOf(done.Released))
		_, err = b.Get(t.Context(), pool.Held{Owner: "newer"})
		require.NoError(t, err)
	})
}

// An owner releases and claims again between the look and the release, through another process.
func TestReconcileReleasesOnlyTheGrantThatItSaw(t *testing.T) {
	for name, options := range map[string]*pool.ReconcileOptions{"at once": nil, "after its grace": {Grace: time.Minute}} {
		t.Run(name, func(t *testing.T) {
			clock, memory := newManualClock(), store.NewMemory()
			hooks := &hooked{Store: memory}
			create(t, memory, specOf("10.0.0.0/28"))
			with := &pool.Options{Clock: clock.Now}
			p, err := pool.Open(t.Context(), onlyStoreOf(hooks), "blue", with)
			require.NoError(t, err)
			other, err := pool.Open(t.Context(), memory.Open(), "blue", with)
			require.NoError(t, err)
			for _, owner := range []string{"gone", "renewed", "again"} {
				allocate(t, other, lease(owner, time.Hour))
			}
			if options != nil {
				reconcile(t, other, live(), options)
				clock.Add(2 * time.Minute)
			}
			hooks.beforeCommit = func(store.Record, []store.Write) error {
				hooks.beforeCommit = nil
				release(t, other, "again")
				allocate(t, other, lease("again", time.Hour))
				if options != nil { // who is within a grace is there when it renews
					_, err := other.Renew(t.Context(), pool.Held{Owner: "renewed"}, 2*time.Hour)
					require.NoError(t, err)
				} else {
					release(t, other, "renewed")
				}
				return nil
			}
			done := reconcile(t, p, live(), options)
			require.Equal(t, []string{"gone"}, ownersOf(done.Released), "it reports what it did")
			_, err = other.Get(t.Context(), pool.Held{Owner: "again"})
			require.NoError(t, err)
			requireOK(t, p)
		})
	}
}

func onlyStoreOf(s store.Store) store.Store { return onlyStore{s} }

func TestErrorOfTheIteratorReleasesNothing(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/28"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, pool.Claim{Owner: "a"})
		allocate(t, b.Pool, pool.Claim{Owner: "b"})
		before := snapshot(t, b.Pool)
		failure := errors.New("the API server is away")
		broken := func(yield func(string, error) bool) {
			_ = yield("a", nil) && yield("", failure)
		}
		done, err := b.Reconcile(t.Context(), markOf(t, b.Pool), broken, nil)
		require.ErrorIs(t, err, failure)
		require.Empty(t, done)
		_, err = b.Reconcile(t.Context(), markOf(t, b.Pool), broken, &pool.ReconcileOptions{Grace: time.Minute})
		require.ErrorIs(t, err, failure)
		require.Equal(t, before, snapshot(t, b.Pool))
	})
}
