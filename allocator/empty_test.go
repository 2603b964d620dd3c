package allocator_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
)

// An empty allocator has a family and no address: nothing is found, nothing can be taken, and it survives its encoding.
func TestEmpty(t *testing.T) {
	for _, c := range []struct {
		is4           bool
		prefix, other string
	}{
		{true, "10.0.0.0/24", "2001:db8::/64"},
		{false, "2001:db8::/64", "10.0.0.0/24"},
	} {
		p := netip.MustParsePrefix(c.prefix)
		whole := netip.PrefixFrom(p.Addr(), 0).Masked()
		encoded, err := allocator.Empty(c.is4).MarshalBinary()
		require.NoError(t, err)
		decoded, err := allocator.Decode(encoded)
		require.NoError(t, err)
		for _, a := range []*allocator.Allocator{allocator.Empty(c.is4), decoded, decoded.Clone()} {
			require.Equal(t, c.is4, a.Is4())
			require.NoError(t, a.Check())
			for _, err := range []error{
				second(a.TakeFirst(p.Bits())), second(a.TakeFirstFrom(p.Addr(), p.Bits())),
				second(a.TakeFirstIn(p.Bits(), netipx.RangeOfPrefix(whole))),
			} {
				require.ErrorIs(t, err, allocator.ErrExhausted)
			}
			require.ErrorIs(t, a.Take(p), allocator.ErrOutside)
			require.ErrorIs(t, a.Release(p), allocator.ErrOutside)
			require.ErrorIs(t, a.Take(netip.MustParsePrefix(c.other)), allocator.ErrInvalid)
			require.ErrorIs(t, second(a.TakeFirst(129)), allocator.ErrInvalid)
			require.False(t, a.IsFree(p) || a.IsTaken(p) || a.Covers(p) || a.Covers(whole))
			require.True(t, a.Total().IsZero() && a.Free().IsZero() && a.Taken().IsZero())
			require.Empty(t, a.Set().Ranges())
			for r := range a.FreeRanges() {
				t.Error(r)
			}
			for r := range a.TakenRanges() {
				t.Error(r)
			}
			for _, change := range []func(netipx.IPRange) (cidr.Count, error){a.Occupy, a.Vacate} {
				changed, err := change(netipx.RangeOfPrefix(whole))
				require.NoError(t, err)
				require.True(t, changed.IsZero())
				require.NoError(t, a.Check())
			}
			n, err := a.CountFree(p.Bits())
			require.NoError(t, err)
			require.True(t, n.IsZero())
			_, ok := a.LargestFree()
			require.False(t, ok)
			piece, rest, err := a.AppendFree(nil, netipx.RangeOfPrefix(whole), 1)
			require.NoError(t, err)
			require.False(t, rest.IsValid())
			require.NoError(t, a.SetFree(netipx.RangeOfPrefix(whole), piece))
		}
	}
}

// What is free in another allocator cannot be loaded into an empty one.
func TestEmptyRefusesFreeAddresses(t *testing.T) {
	r := netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.0.0/24"))
	var set netipx.IPSetBuilder
	set.AddRange(r)
	full, err := set.IPSet()
	require.NoError(t, err)
	a, err := allocator.New(full)
	require.NoError(t, err)
	piece, _, err := a.AppendFree(nil, r, 0)
	require.NoError(t, err)
	empty := allocator.Empty(true)
	require.ErrorIs(t, empty.SetFree(r, piece), allocator.ErrCorrupt)
	require.NoError(t, empty.Check())
}
