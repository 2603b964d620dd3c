package pool_test

import (
	"fmt"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
)

// A grant and its release in memory allocate the prefixes, the allocation and a copy of the prefixes for the caller,
// and nothing else, however many addresses are held.
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
		require.InDelta(t, 3, got, 0, "with %d held", held)
	}
}
