package pool_test

import (
	"fmt"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// A grant and its release in memory allocate what is held and a copy of the prefixes for the caller, and nothing else,
// however many addresses are held.
func TestHeapAllocationsInMemory(t *testing.T) {
	for _, held := range []int{0, 60_000} {
		require.InDelta(t, 2, allocationsOfAPair(t, specOf("10.0.0.0/16"), nil, held), 0, "with %d held", held)
	}
}

// What cools down after that is one more. Leases, a scope, a band, a cooldown and an observer take nothing beside.
func TestHeapAllocationsOfFeaturesInMemory(t *testing.T) {
	spec := cooling("10.0.0.0/16")
	spec.Scope, spec.Strategy = "team", pool.NextFree
	spec.Bands = []pool.Band{{Name: "static", Ranges: []netipx.IPRange{netipx.MustParseIPRange("10.0.0.0-10.0.0.255")}}}
	for _, held := range []int{0, 60_000} {
		got := allocationsOfAPair(t, spec, &pool.Options{Observer: pool.NoObserver{}}, held)
		require.InDelta(t, 3, got, 0, "with %d held", held)
	}
}

// allocationsOfAPair returns how many heap allocations a claim and its release take in a pool in memory in which so
// many owners hold a lease.
func allocationsOfAPair(t *testing.T, spec pool.Spec, options *pool.Options, held int) float64 {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	p, err := pool.New(spec, options)
	require.NoError(t, err)
	for i := range held {
		allocate(t, p, pool.Claim{Owner: fmt.Sprint(i), Scope: spec.Scope, TTL: time.Hour})
	}
	ctx := t.Context()
	return testing.AllocsPerRun(1000, func() {
		if _, err := p.Allocate(ctx, pool.Claim{Owner: "a", Scope: spec.Scope, TTL: time.Hour}); err != nil {
			t.Error(err)
		}
		if _, err := p.Release(ctx, pool.Held{Owner: "a"}); err != nil {
			t.Error(err)
		}
	})
}

// On store.Memory a pair takes two commits of a head. In bulk a grant takes the record, what the handle remembers and a
// copy of the prefixes for the caller, and a claim of what is held already a copy of the record instead.
func TestHeapAllocationsOnStoreMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector's own are counted too")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	p, err := pool.Create(t.Context(), store.NewMemory(), "p", specOf("10.0.0.0/15"), nil)
	require.NoError(t, err)
	allocate(t, p, pool.Claim{Owner: "a"})
	ctx := t.Context()
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		allocate(t, p, pool.Claim{Owner: "b"})
		release(t, p, "b")
	}), 75.0)

	const n, most = 16 << 10, 4 // for each
	owners := make([]string, 2*n)
	for i := range owners {
		owners[i] = fmt.Sprint(i)
	}
	grant := func(owners []string) func() {
		return func() {
			for r, err := range p.Each(ctx, func(yield func(pool.Step) bool) {
				for _, owner := range owners {
					if !yield(pool.Allocate(pool.Claim{Owner: owner})) {
						return
					}
				}
			}) {
				if err != nil || r.Err != nil {
					t.Error(err, r.Err)
				}
			}
		}
	}
	grant(owners[:n])()
	require.LessOrEqual(t, testing.AllocsPerRun(1, grant(owners[:n]))/n, float64(most), "held already")
	runs := [][]string{nil, owners[n:]} // the first of which is not counted
	require.LessOrEqual(t, testing.AllocsPerRun(1, func() {
		grant(runs[0])()
		runs = runs[1:]
	})/n, float64(most), "new")
}

// Info of a pool in a store that has not changed since reads its head, and copies what is known of it.
func TestHeapAllocationsOfInfo(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	p, err := pool.Create(t.Context(), store.NewMemory(), "p", specOf("10.0.0.0/16"), nil)
	require.NoError(t, err)
	allocate(t, p, pool.Claim{Owner: "a"})
	first, err := p.Info(t.Context())
	require.NoError(t, err)
	first.Stats[0].Family, first.Spec.Ranges[0] = pool.IPv6, netipx.IPRange{} // it is the caller's
	again, err := p.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, pool.IPv4, again.Stats[0].Family)
	require.True(t, again.Spec.Equal(specOf("10.0.0.0/16")))
	ctx := t.Context()
	got := testing.AllocsPerRun(100, func() {
		if _, err := p.Info(ctx); err != nil {
			t.Error(err)
		}
	})
	require.LessOrEqual(t, got, 6.0)
}

// A plan reads the clock once, if it depends on the time at all.
func TestClockReadsInMemory(t *testing.T) {
	for _, c := range []struct {
		spec    pool.Spec
		release int
	}{{specOf("10.0.0.0/16"), 0}, {cooling("10.0.0.0/16"), 1}} {
		reads := 0
		p, err := pool.New(c.spec, &pool.Options{Clock: func() time.Time { reads++; return time.Unix(1e9, 0) }})
		require.NoError(t, err)
		reads = 0
		a := allocate(t, p, pool.Claim{Owner: "a", TTL: time.Hour})
		require.Equal(t, 1, reads, "an allocation")
		require.Equal(t, time.Unix(1e9, 0).UTC(), a.Created)
		reads = 0
		_, err = p.Release(t.Context(), pool.Held{Owner: "a"})
		require.NoError(t, err)
		require.Equal(t, c.release, reads, "a release")
	}
}
