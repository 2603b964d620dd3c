package allocator_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/allocator"
)

// TestBestFreeDividesTheSmallestBlock compares BestFree with a search in the list of free blocks, while blocks of any
// order are taken and released.
func TestBestFreeDividesTheSmallestBlock(t *testing.T) {
	inEachSet(t, checkBestFree)
}

func checkBestFree(t *rapid.T, set *netipx.IPSet) {
	a, err := allocator.New(set)
	require.NoError(t, err)
	near := somewhere(set)
	width := near.Draw(t, "first").BitLen()
	for range rapid.IntRange(1, 12).Draw(t, "changes") {
		bits := width - rapid.IntRange(0, 20).Draw(t, "order")
		found, err := a.BestFree(bits)
		want, ok := bestOf(a, bits)
		require.Equal(t, want, found)
		if !ok {
			require.ErrorIs(t, err, allocator.ErrExhausted)
		} else if require.NoError(t, err); rapid.Bool().Draw(t, "take") {
			require.NoError(t, a.Take(found))
		}
		if rapid.IntRange(0, 9).Draw(t, "encode") == 0 {
			a = decoded(t, a)
		}
		change(t, a, near)
		if rapid.IntRange(0, 3).Draw(t, "copy") == 0 {
			before := a
			a = a.Clone()
			change(t, before, near)
			_, _ = before.BestFree(bits)
		}
	}
}

// decoded is the allocator after its way to a store and back.
func decoded(t *rapid.T, a *allocator.Allocator) *allocator.Allocator {
	b, err := a.MarshalBinary()
	require.NoError(t, err)
	again, err := allocator.Decode(b)
	require.NoError(t, err)
	return again
}

// bestOf is the beginning of the lowest one of the smallest free blocks that have room for a prefix of the length.
func bestOf(a *allocator.Allocator, bits int) (best netip.Prefix, ok bool) {
	for r := range a.FreeRanges() {
		for _, block := range r.Prefixes() {
			if block.Bits() <= bits && (!ok || block.Bits() > best.Bits()) {
				best, ok = block, true
			}
		}
	}
	if !ok {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(best.Addr(), bits), true
}

func TestBestFreeOfNothing(t *testing.T) {
	for _, a := range []*allocator.Allocator{{}, allocator.Empty(true)} {
		_, err := a.BestFree(32)
		require.ErrorIs(t, err, allocator.ErrExhausted)
	}
	_, err := allocator.Empty(true).BestFree(33)
	require.ErrorIs(t, err, allocator.ErrInvalid)
}
