package pool_test

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// tooLarge is a store that takes no more than so many writes in one commit.
type tooLarge struct {
	store.Store
	limit   int
	commits int
}

func (s *tooLarge) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	if n := len(changes[0].Writes); n > s.limit {
		return nil, &store.TooLargeError{What: "writes", Size: int64(n), Limit: int64(s.limit)}
	}
	s.commits++
	return s.Store.Commit(ctx, changes...)
}

// addrOf is the nth address of 10.0.0.0/8.
func addrOf(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

func numbered(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}

// doer is a pool, or a trial of one.
type doer interface {
	All(ctx context.Context, steps ...pool.Step) ([]pool.Result, error)
	Each(ctx context.Context, steps iter.Seq[pool.Step]) iter.Seq2[pool.Result, error]
}

// each does steps, each by itself, and returns all results.
func each(ctx context.Context, p doer, steps []pool.Step) (results []pool.Result, err error) {
	for r, failed := range p.Each(ctx, slices.Values(steps)) {
		if failed != nil {
			err = failed
		} else {
			results = append(results, r)
		}
	}
	return results, err
}

// all does steps, all or nothing, and returns what they are about.
func all(ctx context.Context, p doer, steps []pool.Step) (about []pool.Allocation, err error) {
	results, err := p.All(ctx, steps...)
	for _, r := range results {
		about = append(about, r.Allocation)
	}
	return about, err
}

func allocations(claims []pool.Claim) (steps []pool.Step) {
	for _, c := range claims {
		steps = append(steps, pool.Allocate(c))
	}
	return steps
}

func releases(owners []string) (steps []pool.Step) {
	for _, owner := range owners {
		steps = append(steps, pool.Release(pool.Held{Owner: owner}))
	}
	return steps
}

func allocateMany(ctx context.Context, p doer, claims []pool.Claim) ([]pool.Result, error) {
	return each(ctx, p, allocations(claims))
}

func allocateAll(ctx context.Context, p doer, claims []pool.Claim) ([]pool.Allocation, error) {
	return all(ctx, p, allocations(claims))
}

func releaseMany(ctx context.Context, p doer, owners []string) ([]pool.Result, error) {
	return each(ctx, p, releases(owners))
}

func releaseAll(ctx context.Context, p doer, owners []string) ([]pool.Allocation, error) {
	return all(ctx, p, releases(owners))
}

func claimsOf(owners ...string) (claims []pool.Claim) {
	for _, owner := range owners {
		claims = append(claims, pool.Claim{Owner: owner})
	}
	return claims
}

func TestManyClaimsHaveResultsOneByOne(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/29"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, claim("held", "10.0.0.1"))
		b.faults.ResetCounts()
		results, err := allocateMany(t.Context(), b, []pool.Claim{
			{Owner: "a"}, claim("b", "10.0.0.1"), {Owner: "held"}, {}, ofBits("c", 31), ofBits("d", 29),
			claim("e", "10.9.9.9"), {Owner: "f"},
		})

		require.NoError(t, err)
		require.Len(t, results, 8)
		// The results are those of one call after the other.
		for i, want := range []string{"10.0.0.0", "", "10.0.0.1", "", "10.0.0.2/31", "", "", "10.0.0.4"} {
			require.Equal(t, want, texts(results[i].Allocation), "%d", i)
		}
		for i, want := range map[int]error{1: pool.ErrTaken, 3: pool.ErrInvalid, 5: pool.ErrExhausted, 6: pool.ErrNotInPool} {
			require.ErrorIs(t, results[i].Err, want)
			require.ErrorAs(t, results[i].Err, new(*pool.Error))
		}
		if b.memory != nil {
			require.Equal(t, 1, b.faults.Counts().Commit)
		}
		require.Equal(t, uint64(5), b.stats(t).Used.Uint64())
		other, err := allocateMany(t.Context(), b.another(t), claimsOf("a", "f"))
		require.NoError(t, err)
		require.Equal(t, results[0].Allocation, other[0].Allocation)
		require.Equal(t, results[7].Allocation, other[1].Allocation)

		b.faults.ResetCounts()
		again := []pool.Claim{{Owner: "x"}, {Owner: "y"}, {Owner: "x"}, claim("y", "10.0.0.7")}
		results, err = allocateMany(t.Context(), b, again)
		require.NoError(t, err)
		require.Equal(t, results[0].Allocation, results[2].Allocation, "the steps of one owner are done one after the other")
		require.ErrorIs(t, results[3].Err, pool.ErrHeld)
		_, err = releaseMany(t.Context(), b, []string{"x", "y"})
		require.NoError(t, err)
		none, err := allocateMany(t.Context(), b, nil)
		require.NoError(t, err)
		require.Empty(t, none)

		released, err := releaseMany(t.Context(), b.another(t), []string{"a", "nobody", "", "c"})
		require.NoError(t, err)
		require.Equal(t, "10.0.0.0", texts(released[0].Allocation))
		require.ErrorIs(t, released[1].Err, pool.ErrNotFound)
		require.ErrorIs(t, released[2].Err, pool.ErrInvalid)
		require.Equal(t, "10.0.0.2/31", texts(released[3].Allocation))
	})
}

func TestAllOrNothingLeavesNoTrace(t *testing.T) {
	spec := cooling("10.0.0.0/29")
	spec.Strategy = pool.NextFree
	inMemoryAndStored(t, spec, func(t *testing.T, b *trial) {
		allocate(t, b.Pool, claim("held", "10.0.0.1"))
		allocate(t, b.Pool, lease("leased", time.Second))
		release(t, b.Pool, "held")
		allocate(t, b.Pool, claim("held", "10.0.0.3"))
		b.clock.Add(time.Second)
		before := withoutRevisions(snapshot(t, b.Pool))
		for name, claims := range map[string][]pool.Claim{
			"one is taken":       {{Owner: "a"}, claim("b", "10.0.0.3"), {Owner: "c"}},
			"one is not in it":   {{Owner: "a"}, claim("b", "10.9.9.9")},
			"too many":           claimsOf(numbered("n", 8)...),
			"one holds another":  {{Owner: "a"}, claim("held", "10.0.0.5")},
			"one breaks a rule":  {{Owner: "a"}, {}},
			"one is there twice": {{Owner: "a"}, {Owner: "b"}, claim("a", "10.0.0.3")},
			"too large":          {{Owner: "a"}, ofBits("b", 29)},
		} {
			got, err := allocateAll(t.Context(), b, claims)
			require.Error(t, err, name)
			require.Empty(t, got)
			require.Equal(t, before, withoutRevisions(snapshot(t, b.Pool)), name)
			requireOK(t, b.Pool)
		}
		_, err := allocateAll(t.Context(), b, []pool.Claim{{Owner: "a"}, claim("b", "10.0.0.3")})
		require.ErrorContains(t, err, `allocate for "b": 10.0.0.3/32: taken`, "it says which one")
		for _, names := range [][]string{{"held", "nobody"}, {"held", ""}, {"held", "held"}} {
			_, err := releaseAll(t.Context(), b, names)
			require.Error(t, err)
			require.Equal(t, before, withoutRevisions(snapshot(t, b.Pool)), "%q", names)
		}

		got, err := allocateAll(t.Context(), b, claimsOf(numbered("n", 6)...)) // what is left, and the lease that has ended
		require.NoError(t, err)
		require.Len(t, got, 6)
		require.Equal(t, got[0].Generation, got[5].Generation, "in one commit")
		released, err := releaseAll(t.Context(), b.another(t), numbered("n", 6))
		require.NoError(t, err)
		require.Len(t, released, 6)
		none, err := allocateAll(t.Context(), b, nil)
		require.NoError(t, err)
		require.Empty(t, none)
	})
}

func TestManyClaimsOfAStoreThatTakesFewAtOnce(t *testing.T) {
	small := &tooLarge{Store: store.NewMemory(), limit: 10}
	p, err := pool.Create(t.Context(), onlyStore{small}, "blue", specOf("10.0.0.0/24"), nil)
	require.NoError(t, err)
	small.commits = 0
	results, err := allocateMany(t.Context(), p, claimsOf(numbered("n", 100)...))
	require.NoError(t, err)
	for i, result := range results {
		require.NoError(t, result.Err)
		require.Equal(t, addrOf(i), result.Allocation.Addrs()[0], "in the order of the claims")
	}
	require.LessOrEqual(t, small.commits, 100/5+2)
	_, err = allocateAll(t.Context(), p, claimsOf(numbered("m", 20)...))
	require.ErrorIs(t, err, store.ErrTooLarge)
	require.Equal(t, uint64(100), used(t, p))
	_, err = allocateAll(t.Context(), p, claimsOf(numbered("m", 10)...))
	require.NoError(t, err)
	_, err = releaseMany(t.Context(), p, numbered("n", 100))
	require.NoError(t, err)
	requireOK(t, p)
}

func TestFaultsInBulk(t *testing.T) {
	for _, effect := range []faults.Effect{faults.LoseRequest, faults.LoseReply, faults.LandLate} {
		t.Run(fmt.Sprint(effect), func(t *testing.T) {
			b := stored(t, specOf("10.0.0.0/28"))
			b.faults.ResetCounts()
			b.faults.Choose = faults.Script(faults.Fault{Effect: effect, Late: 2})
			results, err := allocateMany(t.Context(), b, claimsOf(numbered("n", 8)...))
			require.NoError(t, err)
			for i, result := range results {
				require.NoError(t, result.Err)
				require.Equal(t, addrOf(i), result.Allocation.Addrs()[0])
			}
			b.faults.ResetCounts()
			released, err := releaseAll(t.Context(), b, numbered("n", 8))
			require.NoError(t, err)
			require.Len(t, released, 8)
			b.faults.ResetCounts()
			all, err := allocateAll(t.Context(), b, claimsOf(numbered("m", 16)...))
			require.NoError(t, err)
			require.Len(t, all, 16)
			requireOK(t, b.Pool)
			requireOK(t, b.another(t))
		})
	}
	b := stored(t, specOf("10.0.0.0/28"))
	b.faults.ResetCounts()
	b.faults.Choose = faults.Script(faults.Fault{Effect: faults.Refuse})
	results, err := allocateMany(t.Context(), b, []pool.Claim{{Owner: "a"}, {}})
	require.ErrorIs(t, err, faults.ErrInjected)
	require.ErrorIs(t, results[0].Err, faults.ErrInjected)
	require.ErrorIs(t, results[1].Err, pool.ErrInvalid)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	results, err = allocateMany(ctx, b, claimsOf("a"))
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, results[0].Err, context.Canceled)
	requireHoldsNothing(t, b.Pool, "a")
}

func TestDryRunTakesNothing(t *testing.T) {
	for _, strategy := range []pool.Strategy{pool.LowestFree, pool.NextFree} {
		inMemoryAndStored(t, specWith(strategy, "10.0.0.0/29"), func(t *testing.T, b *trial) {
			allocate(t, b.Pool, lease("leased", time.Minute))
			before := snapshot(t, b.Pool)
			for _, c := range []pool.Claim{{Owner: "a"}, ofBits("a", 30), claim("a", "10.0.0.7"), lease("leased", time.Minute)} {
				b.faults.ResetCounts()
				want := dry(t, b.another(t), c)
				require.Equal(t, want.Prefixes, dry(t, b.Pool, c).Prefixes)
				require.Zero(t, b.faults.Counts().Commit)
				require.LessOrEqual(t, b.faults.Counts().RoundTrips(), 2)
				require.Equal(t, before, snapshot(t, b.Pool))
			}
			for _, c := range []pool.Claim{{Owner: "a"}, ofBits("b", 30)} {
				require.Equal(t, texts(dry(t, b.Pool, c)), texts(allocate(t, b.Pool, c)), "what a claim would get is what it gets")
			}
			_, err := b.DryRun(t.Context(), ofBits("x", 29))
			require.ErrorIs(t, err, pool.ErrExhausted)
			_, err = b.DryRun(t.Context(), claim("leased", "10.0.0.7"))
			require.ErrorIs(t, err, pool.ErrHeld)
			_, err = b.DryRun(t.Context(), pool.Claim{})
			require.ErrorIs(t, err, pool.ErrInvalid)
			b.clock.Add(time.Minute)
			require.Equal(t, "10.0.0.0", texts(dry(t, b.Pool, claim("y", "10.0.0.0"))), "it would take a lease that has ended")
			_, err = b.Get(t.Context(), pool.Held{Owner: "leased"})
			require.NoError(t, err)
		})
	}
}

// commitsAndReads counts what bulk claims cost a store.
type commitsAndReads struct {
	store.Store
	commits, reads int
}

func (s *commitsAndReads) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	s.commits++
	return s.Store.Commit(ctx, changes...)
}

func (s *commitsAndReads) GetAll(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	s.reads++
	return store.GetAll(ctx, s.Store, keys...)
}

func (s *commitsAndReads) Get(ctx context.Context, key store.Key) (store.Record, error) {
	s.reads++
	return s.Store.Get(ctx, key)
}

// TestManyClaimsOfWhatIsHeld claims what another process has been granted. The first commit finds out, and from then on
// the records of all claims that come together are read at once.
func TestManyClaimsOfWhatIsHeld(t *testing.T) {
	const batches = 5
	backend := store.NewMemory()
	// Where time stands still, no commit takes so long that the next one is made smaller.
	still := time.Unix(1_800_000_000, 0)
	options := &pool.Options{Clock: func() time.Time { return still }}
	granted, err := pool.Create(t.Context(), backend, "p", specOf("10.0.0.0/16"), options)
	require.NoError(t, err)
	claims := allocations(claimsOf(numbered("o", batches*4096)...))
	want, err := each(t.Context(), granted, claims)
	require.NoError(t, err)

	counted := &commitsAndReads{Store: backend}
	p, err := pool.Open(t.Context(), counted, "p", options)
	require.NoError(t, err)
	counted.reads = 0
	got, err := each(t.Context(), p, claims)
	require.NoError(t, err)
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, want[i].Allocation, got[i].Allocation)
	}
	require.LessOrEqual(t, counted.commits, 1)
	require.LessOrEqual(t, counted.reads, batches)

	// Claims of new owners read little again, after the first batch.
	counted.commits, counted.reads = 0, 0
	_, err = each(t.Context(), p, allocations(claimsOf(numbered("new", 3*4096)...)))
	require.NoError(t, err)
	require.Equal(t, 3, counted.commits)
	require.LessOrEqual(t, counted.reads, 1)
}
