package allocator_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
)

// FirstFree finds what TakeFirstFrom takes, and takes nothing.
func TestFirstFreeIsWhatTakeFirstFromTakes(t *testing.T) {
	set, err := cidr.ParseSet("10.0.0.3-10.0.0.200", "10.0.1.0/25")
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		a, err := allocator.New(set)
		require.NoError(t, err)
		at := rapid.Custom(func(t *rapid.T) netip.Addr {
			addr, _ := cidr.Nth(set, cidr.CountOf(uint64(rapid.IntRange(0, 325).Draw(t, "n"))))
			return addr
		})
		for range rapid.IntRange(0, 9).Draw(t, "taken") {
			_ = a.Take(netip.PrefixFrom(at.Draw(t, "addr"), rapid.IntRange(28, 32).Draw(t, "bits")).Masked())
		}
		from, bits, free := at.Draw(t, "from"), rapid.IntRange(24, 33).Draw(t, "bits"), a.Free()
		found, err := a.FirstFree(from, bits)
		require.Equal(t, free, a.Free())
		taken, takeErr := a.TakeFirstFrom(from, bits)
		require.Equal(t, taken, found)
		for _, sentinel := range []error{allocator.ErrExhausted, allocator.ErrInvalid} {
			require.Equal(t, errors.Is(takeErr, sentinel), errors.Is(err, sentinel))
		}
	})
}

func TestFirstFreeOfNothing(t *testing.T) {
	addr := netip.MustParseAddr("10.0.0.1")
	_, err := new(allocator.Allocator).FirstFree(addr, 32)
	require.ErrorIs(t, err, allocator.ErrExhausted)
	_, err = allocator.Empty(true).FirstFree(addr, 32)
	require.ErrorIs(t, err, allocator.ErrExhausted)
	_, err = allocator.Empty(false).FirstFree(addr, 32)
	require.ErrorIs(t, err, allocator.ErrInvalid)
}
