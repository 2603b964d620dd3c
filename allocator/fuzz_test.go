package allocator_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/internal/bench"
)

// FuzzDecode checks that Decode either refuses its input or returns a sound state that encodes to the same bytes. Every
// second input gets a right checksum, so that the fuzzer gets past it.
func FuzzDecode(f *testing.F) {
	for _, a := range encodingSamples(f) {
		b, err := a.MarshalBinary()
		require.NoError(f, err)
		f.Add(b[:len(b)-4], true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal {
			b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
		}
		a, err := allocator.Decode(b)
		if err != nil {
			require.NotEqual(t, errors.Is(err, allocator.ErrCorrupt), errors.Is(err, allocator.ErrNewerFormat), "%v", err)
			return
		}
		require.NoError(t, a.Check())
		set := a.Set()
		for r := range a.FreeRanges() {
			require.True(t, set.ContainsRange(r), "free outside of the set: %v", r)
		}
		again, err := a.MarshalBinary()
		require.NoError(t, err)
		back, err := allocator.Decode(again)
		require.NoError(t, err)
		require.Equal(t, slices.Collect(a.FreeRanges()), slices.Collect(back.FreeRanges()))
		require.True(t, a.Set().Equal(back.Set()))
		require.Equal(t, a.Free(), back.Free())
	})
}

// FuzzSetFree holds that an encoding of a range is refused, with nothing changed, or frees within the range only.
func FuzzSetFree(f *testing.F) {
	for _, a := range encodingSamples(f) {
		b, _, err := a.AppendFree(nil, netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.0.0/20")), 0)
		if err == nil {
			f.Add(b[:len(b)-4], uint16(0), uint16(4095))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, from, to uint16) {
		from, to = from%16384, to%16384
		if to < from {
			from, to = to, from
		}
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
		a := bench.NewAllocator("10.0.0.0/18")
		bench.Alternate(a)
		outside := func(r netipx.IPRange) (free []netipx.IPRange) {
			for run := range a.FreeRanges() {
				if !r.Contains(run.From()) {
					free = append(free, run)
				}
			}
			return free
		}
		base := netip.MustParseAddr("10.0.0.0")
		r := netipx.IPRangeFrom(plus(base, int(from)), plus(base, int(to)))
		before, beside := slices.Collect(a.FreeRanges()), outside(r)
		if err := a.SetFree(r, b); err != nil {
			require.ErrorIs(t, err, allocator.ErrCorrupt)
			require.Equal(t, before, slices.Collect(a.FreeRanges()))
		}
		require.NoError(t, a.Check())
		for _, run := range beside { // a run may have grown into the range, but not shrunk
			require.True(t, a.IsFree(netip.PrefixFrom(run.From(), 32)))
		}
	})
}

func encodingSamples(tb testing.TB) []*allocator.Allocator {
	alternate := bench.NewAllocator("10.0.0.0/20")
	bench.Alternate(alternate)
	full := bench.NewAllocator("10.0.0.0/24")
	require.NoError(tb, full.Take(netip.MustParsePrefix("10.0.0.0/24")))
	sparse := bench.NewAllocator("2001:db8::/64")
	for _, p := range bench.RandomIn64(100) {
		require.NoError(tb, sparse.Take(p))
	}
	edges := bench.NewAllocator("::/0")
	require.NoError(tb, edges.Take(netip.MustParsePrefix("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128")))
	return []*allocator.Allocator{
		alternate, full, sparse, edges, bench.NewAllocator("0.0.0.0/0"), bench.NewAllocator("::/0"),
	}
}

// Every single changed bit and every cut is noticed.
func TestCorruptEncoding(t *testing.T) {
	for _, a := range encodingSamples(t) {
		b, err := a.MarshalBinary()
		require.NoError(t, err)
		for i := range b {
			if i > 300 && i%97 != 0 {
				continue
			}
			for bit := range 8 {
				changed := slices.Clone(b)
				changed[i] ^= 1 << bit
				_, err := allocator.Decode(changed)
				require.ErrorIs(t, err, allocator.ErrCorrupt, "bit %d of byte %d", bit, i)
			}
			_, err := allocator.Decode(b[:i])
			require.ErrorIs(t, err, allocator.ErrCorrupt, "cut at %d", i)
		}
	}
}

// A version that is not known is refused, as a newer one if it is higher. The version of damaged bytes counts for
// nothing.
func TestOtherVersionsOfTheEncoding(t *testing.T) {
	b, err := bench.NewAllocator("10.0.0.0/16").MarshalBinary()
	require.NoError(t, err)
	body := b[:len(b)-crc32.Size]
	for version, want := range map[byte]error{
		0: allocator.ErrCorrupt, 2: allocator.ErrNewerFormat, 255: allocator.ErrNewerFormat,
	} {
		other := slices.Clone(body)
		other[0] = version
		_, err = allocator.Decode(append(slices.Clone(other), b[len(body):]...))
		require.ErrorIs(t, err, allocator.ErrCorrupt)
		sum := crc32.Checksum(other, crc32.MakeTable(crc32.Castagnoli))
		_, err = allocator.Decode(binary.LittleEndian.AppendUint32(other, sum))
		require.ErrorIs(t, err, want)
		require.Equal(t, errors.Is(want, allocator.ErrCorrupt), errors.Is(err, allocator.ErrCorrupt))
	}
}

// An encoding that frees more than the range it is set for is refused, and nothing changes.
func TestSetFreeStaysInRange(t *testing.T) {
	a := bench.NewAllocator("10.0.0.0/16")
	wide, _, err := a.AppendFree(nil, netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.0.0/17")), 0)
	require.NoError(t, err)
	require.NoError(t, a.Take(netip.MustParsePrefix("10.0.64.0/18")))
	before := slices.Collect(a.FreeRanges())
	require.ErrorIs(t, a.SetFree(netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.0.0/18")), wide), allocator.ErrCorrupt)
	require.Equal(t, before, slices.Collect(a.FreeRanges()))
	require.NoError(t, a.SetFree(netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.0.0/17")), wide))
	require.Equal(t, a.Total(), a.Free())
}
