package space_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// nthBlock is the block with the number i of so many bits, from 10.0.0.0 on.
func nthBlock(i, bits int) netip.Prefix {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24+uint32(i)<<(32-bits))
	return netip.PrefixFrom(netip.AddrFrom4(b), bits)
}

// every returns a part of n blocks of two addresses, each followed by six others.
func every(n int) *space.Part {
	ranges := make([]netipx.IPRange, n)
	for i := range ranges {
		ranges[i] = netipx.RangeOfPrefix(netip.PrefixFrom(nthBlock(i, 29).Addr(), 31))
	}
	return space.NewPart(ranges)
}

// counted counts the searches in an allocator.
type counted struct {
	*allocator.Allocator
	searches int
}

func (c *counted) FirstFree(addr netip.Addr, bits int) (netip.Prefix, error) {
	c.searches++
	return c.Allocator.FirstFree(addr, bits)
}

// A search leaps over what is in its way: neither many ranges in front of the first free address, nor many free
// addresses in front of the next range, take more steps.
func TestSearchesLeap(t *testing.T) {
	for _, n := range []int{1000, 10_000} {
		all, err := allocator.New(setOf(t, "10.0.0.0/8"))
		require.NoError(t, err)
		last := nthBlock(n-1, 29).Addr()
		for i := range n {
			require.NoError(t, all.Take(nthBlock(i, 29)))
		}
		require.NoError(t, all.Release(netip.PrefixFrom(last, 32)))
		free := &counted{Allocator: all}
		got, err := space.FirstFree(every(n), free, 32, 0, netip.Addr{})
		require.NoError(t, err)
		require.Equal(t, netip.PrefixFrom(last, 32), got)
		require.Equal(t, 2, free.searches, "of %d ranges that are full but for the last", n)

		free = &counted{Allocator: allocator.Empty(true)}
		_, err = space.FirstFree(every(n), free, 32, 0, netip.Addr{})
		require.ErrorIs(t, err, allocator.ErrExhausted)
		require.Equal(t, 1, free.searches, "of %d ranges without a free address", n)
	}
}

// A want that is used again goes on where it found something, so that n of them take O(n) steps together.
func TestWantGoesOn(t *testing.T) {
	s := spaceOf(t, "10.0.0.0/8")
	const n = 1000
	w := &space.Want{Bits: 32, Tiers: []*space.Part{every(n)}}
	for i := range 2 * n {
		want := netip.PrefixFrom(nthBlock(i/2, 29).Addr(), 32)
		if i%2 == 1 {
			want = netip.PrefixFrom(want.Addr().Next(), 32)
		}
		require.Equal(t, want.String(), take(t, s, w))
		require.Equal(t, i/2, space.RangeOf(w))
	}
	require.ErrorIs(t, refused(s, w), allocator.ErrExhausted)
	require.NoError(t, s.Free(prefix("10.0.0.1/32"), space.Held))
	require.Equal(t, "10.0.0.1/32", take(t, s, w), "what was freed since is found")
	start := s.Mark()
	require.ErrorIs(t, refused(s, w), allocator.ErrExhausted)
	s.Rollback(start)
	s.Rollback(space.Mark{})
	require.Equal(t, "10.0.0.0/32", take(t, s, w), "what was undone since is found")
}

// A part is what its ranges are.
func TestPartAgreesWithItsSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFamily(t)
		var b netipx.IPSetBuilder
		for range rapid.IntRange(0, 4).Draw(t, "ranges") {
			b.AddPrefix(drawPrefix(t, f))
		}
		set, err := b.IPSet()
		require.NoError(t, err)
		part, p := space.NewPart(set.Ranges()), drawPrefix(t, f)
		require.Equal(t, set.ContainsPrefix(p), part.Contains(p))
		require.Equal(t, set.OverlapsPrefix(p), part.Overlaps(p))
		n := cidr.CountOf(uint64(rapid.IntRange(0, 200).Draw(t, "n")))
		want, found := cidr.Nth(set, n)
		got, ok := space.Nth(part, n)
		require.Equal(t, found, ok)
		require.Equal(t, want, got)
		free, err := allocator.New(set)
		if err != nil {
			return
		}
		for range rapid.IntRange(0, 4).Draw(t, "taken") {
			_ = free.Take(drawPrefix(t, f))
		}
		requireLowest(t, free, part, p)
	})
}

// requireLowest compares a search from an address on with all that is free.
func requireLowest(t *rapid.T, free *allocator.Allocator, part *space.Part, p netip.Prefix) {
	got, err := space.FirstFree(part, free, p.Bits(), 0, p.Addr())
	for a := range free.FreeRanges() {
		for _, addr := range addrs(a) {
			want := netip.PrefixFrom(addr, p.Bits())
			if want == want.Masked() && !addr.Less(p.Addr()) && free.IsFree(want) && part.Contains(want) {
				require.NoError(t, err)
				require.Equal(t, want, got)
				return
			}
		}
	}
	require.ErrorIs(t, err, allocator.ErrExhausted, "%v", got)
}
