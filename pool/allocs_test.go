package pool_test

import (
	"fmt"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// A grant and its release in memory allocate what is held and a copy of the prefixes for the caller, and nothing else,
// however many addresses are held.
func TestHeapAllocationsInMemory(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for _, held := range []int{0, 60_000} {
		p, err := pool.New(specOf("10.0.0.0/16"), nil)
		require.NoError(t, err)
		for i := range held {
			allocate(t, p, pool.Claim{Owner: fmt.Sprint(i)})
		}
		ctx := t.Context()
		got := testing.AllocsPerRun(1000, func() {
			if _, err := p.Allocate(ctx, pool.Claim{Owner: "a"}); err != nil {
				t.Error(err)
			}
			if _, err := p.Release(ctx, pool.Held{Owner: "a"}); err != nil {
				t.Error(err)
			}
		})
		require.InDelta(t, 2, got, 0, "with %d held", held)
	}
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
