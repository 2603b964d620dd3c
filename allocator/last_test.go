package allocator_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
)

// sets are packed and sparse ones.
var sets = map[string][]string{
	"packed":   {"10.0.0.3-10.0.0.200", "10.0.1.0/25"},
	"IPv4":     {"0.0.0.0/0"},
	"spread":   {"10.0.0.0/8", "10.255.0.0-11.0.0.7", "172.16.0.0/29", "255.255.255.240/28"},
	"IPv6":     {"2001:db8::/48"},
	"all IPv6": {"::/0"},
}

func inEachSet(t *testing.T, check func(*rapid.T, *netipx.IPSet)) {
	t.Helper()
	for name, texts := range sets {
		t.Run(name, func(t *testing.T) {
			set, err := cidr.ParseSet(texts...)
			require.NoError(t, err)
			rapid.Check(t, func(t *rapid.T) { check(t, set) })
		})
	}
}

// TestLastFreeIsTheHighestInTheFreeRanges compares LastFree with a search in the list of free ranges: in packed and in
// sparse sets, with blocks of any order taken and released.
func TestLastFreeIsTheHighestInTheFreeRanges(t *testing.T) {
	inEachSet(t, checkLastFree)
}

func checkLastFree(t *rapid.T, set *netipx.IPSet) {
	a, err := allocator.New(set)
	require.NoError(t, err)
	near := somewhere(set)
	width := near.Draw(t, "first").BitLen()
	for range rapid.IntRange(0, 12).Draw(t, "changes") {
		change(t, a, near)
	}
	free := a.Free()
	for range 3 {
		from, bits := near.Draw(t, "from"), width-rapid.IntRange(0, 20).Draw(t, "order")
		found, err := a.LastFree(from, bits)
		want, ok := highest(slices.Collect(a.FreeRanges()), from, bits)
		require.Equal(t, want, found)
		if !ok {
			require.ErrorIs(t, err, allocator.ErrExhausted)
			continue
		}
		require.NoError(t, err)
		require.True(t, a.IsFree(found))
	}
	require.Equal(t, free, a.Free())
}

// change makes some block taken or free.
func change(t *rapid.T, a *allocator.Allocator, near *rapid.Generator[netip.Addr]) {
	addr := near.Draw(t, "addr")
	p, err := addr.Prefix(addr.BitLen() - rapid.IntRange(0, 30).Draw(t, "order"))
	require.NoError(t, err)
	if rapid.IntRange(0, 3).Draw(t, "change") == 0 {
		_, err = a.Vacate(netipx.RangeOfPrefix(p))
	} else {
		_, err = a.Occupy(netipx.RangeOfPrefix(p))
	}
	require.NoError(t, err)
}

// somewhere draws addresses of the set, and around them: many of them near one another.
func somewhere(set *netipx.IPSet) *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		ranges := set.Ranges()
		r := ranges[rapid.IntRange(0, len(ranges)-1).Draw(t, "range")]
		addr := rapid.SampledFrom([]netip.Addr{r.From(), r.To()}).Draw(t, "end")
		b := addr.AsSlice()
		for range rapid.IntRange(0, 3).Draw(t, "bytes") {
			b[len(b)-1-rapid.IntRange(0, 2).Draw(t, "place")] ^= rapid.Byte().Draw(t, "byte")
		}
		addr, _ = netip.AddrFromSlice(b)
		return addr
	})
}

// highest is the highest prefix of the length in the ranges that starts at addr or below.
func highest(ranges []netipx.IPRange, addr netip.Addr, bits int) (netip.Prefix, bool) {
	for _, r := range slices.Backward(ranges) {
		from := r.To()
		if addr.Less(from) {
			from = addr
		}
		p := netip.PrefixFrom(from, bits).Masked()
		if r.To().Less(netipx.PrefixLastIP(p)) { // then the one before it, if there is one
			if p.Addr() == p.Addr().Prev().Next() && p.Addr().Prev().IsValid() {
				p = netip.PrefixFrom(p.Addr().Prev(), bits).Masked()
			}
		}
		if r.Contains(p.Addr()) && r.Contains(netipx.PrefixLastIP(p)) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

func TestLastFreeOfNothing(t *testing.T) {
	addr := netip.MustParseAddr("10.0.0.1")
	_, err := new(allocator.Allocator).LastFree(addr, 32)
	require.ErrorIs(t, err, allocator.ErrExhausted)
	_, err = allocator.Empty(true).LastFree(addr, 32)
	require.ErrorIs(t, err, allocator.ErrExhausted)
	_, err = allocator.Empty(false).LastFree(addr, 32)
	require.ErrorIs(t, err, allocator.ErrInvalid)
	_, err = allocator.Empty(true).LastFree(addr, 33)
	require.ErrorIs(t, err, allocator.ErrInvalid)
}
