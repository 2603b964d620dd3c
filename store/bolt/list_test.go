package bolt_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
)

// A list copies the records of a page at once, so a record takes its name, its prefixes and little more.
func TestHeapAllocationsOfAList(t *testing.T) {
	const n = 4_000
	p, s, _ := newPool(t)
	doEach(t, p, steps(0, n, 1, claim))
	each := testing.AllocsPerRun(3, func() {
		listed := 0
		for _, err := range s.List(t.Context(), store.KindAllocation, "pods") {
			require.NoError(t, err)
			listed++
		}
		require.Equal(t, n, listed)
	}) / n
	t.Log(each, "heap allocations a record")
	require.LessOrEqual(t, each, 6.0)
}
