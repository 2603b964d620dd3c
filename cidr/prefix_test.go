package cidr_test

import (
	"math/big"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
)

// invalidPrefixes are of every kind that netip lets exist.
var invalidPrefixes = []netip.Prefix{
	{},
	netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), 33),
	netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), -1),
	netip.PrefixFrom(netip.MustParseAddr("::"), 129),
	netip.PrefixFrom(netip.Addr{}, 8),
}

// prefixes draws prefixes of both families and any length, some with host bits.
func prefixes() *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		addr := addrs(rapid.Bool().Draw(t, "is4")).Draw(t, "addr")
		return netip.PrefixFrom(addr, rapid.IntRange(0, addr.BitLen()).Draw(t, "bits"))
	})
}

func TestUsableAndReserved(t *testing.T) {
	const last6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	for _, test := range []struct {
		prefix   string
		usable   netipx.IPRange
		reserved []string
	}{
		{"0.0.0.0/0", span("0.0.0.1", "255.255.255.254"), []string{"0.0.0.0", "255.255.255.255"}},
		{"192.0.2.0/24", span("192.0.2.1", "192.0.2.254"), []string{"192.0.2.0", "192.0.2.255"}},
		{"192.0.2.77/24", span("192.0.2.1", "192.0.2.254"), []string{"192.0.2.0", "192.0.2.255"}},
		{"192.0.2.4/30", span("192.0.2.5", "192.0.2.6"), []string{"192.0.2.4", "192.0.2.7"}},
		{"192.0.2.4/31", span("192.0.2.4", "192.0.2.5"), nil},
		{"192.0.2.5/31", span("192.0.2.4", "192.0.2.5"), nil},
		{"192.0.2.4/32", span("192.0.2.4", "192.0.2.4"), nil},
		{"::/0", span("::1", last6), []string{"::"}},
		{"2001:db8::/64", span("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"), []string{"2001:db8::"}},
		{"2001:db8::5/64", span("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"), []string{"2001:db8::"}},
		{"2001:db8::4/126", span("2001:db8::5", "2001:db8::7"), []string{"2001:db8::4"}},
		{"2001:db8::4/127", span("2001:db8::4", "2001:db8::5"), nil},
		{"2001:db8::4/128", span("2001:db8::4", "2001:db8::4"), nil},
		{"::ffff:10.0.0.0/120", span("::ffff:10.0.0.1", "::ffff:10.0.0.255"), []string{"::ffff:10.0.0.0"}},
	} {
		t.Run(test.prefix, func(t *testing.T) {
			p := prefix(test.prefix)
			assert.Equal(t, test.usable, cidr.Usable(p))
			var reserved []netip.Addr
			for _, text := range test.reserved {
				reserved = append(reserved, netip.MustParseAddr(text))
			}
			assert.Equal(t, reserved, cidr.Reserved(p))
		})
	}
	for _, p := range invalidPrefixes {
		assert.Equal(t, netipx.IPRange{}, cidr.Usable(p))
		assert.Nil(t, cidr.Reserved(p))
	}
}

func TestUsableAndReservedMakeThePrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := prefixes().Draw(t, "prefix")
		usable := cidr.SetOf(cidr.Usable(p))
		var b netipx.IPSetBuilder
		for _, addr := range cidr.Reserved(p) {
			require.False(t, usable.Contains(addr))
			b.Add(addr)
		}
		reserved, err := b.IPSet()
		require.NoError(t, err)
		require.Equal(t, []netipx.IPRange{netipx.RangeOfPrefix(p)}, cidr.Union(usable, reserved).Ranges())

		want := uint64(0)
		if hostBits := p.Addr().BitLen() - p.Bits(); hostBits > 1 {
			want = 1
			if p.Addr().Is4() {
				want = 2
			}
		}
		require.Equal(t, cidr.CountOf(want), cidr.Size(reserved))
	})
}

func TestPrefixSize(t *testing.T) {
	for _, bits := range []int{0, 1, 8, 31, 32} {
		assert.Equal(t, cidr.CountOf(1<<(32-bits)), cidr.PrefixSize(netip.PrefixFrom(netip.MustParseAddr("10.1.2.3"), bits)))
	}
	for bits := range 129 {
		want := new(big.Int).Lsh(big.NewInt(1), uint(128-bits))
		assert.Equal(t, want.String(), cidr.PrefixSize(netip.PrefixFrom(netip.MustParseAddr("::1"), bits)).String())
	}
	for _, p := range invalidPrefixes {
		assert.True(t, cidr.PrefixSize(p).IsZero())
	}
}

func TestSplitAgreesWithWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := prefixes().Draw(t, "prefix")
		bits := min(p.Bits()+rapid.IntRange(0, 6).Draw(t, "more"), p.Addr().BitLen())

		// Subnet by subnet, where each starts one after the last address of the one before.
		var want []netip.Prefix
		for addr := p.Masked().Addr(); p.Contains(addr); {
			subnet := netip.PrefixFrom(addr, bits)
			want = append(want, subnet)
			addr = netipx.PrefixLastIP(subnet).Next()
		}

		var got []netip.Prefix
		for subnet := range cidr.Split(p, bits) {
			require.Less(t, len(got), len(want), "%v is one too many", subnet)
			got = append(got, subnet)
		}
		require.Equal(t, want, got)
		for i, subnet := range want {
			nth, ok := cidr.Subnet(p, bits, cidr.CountOf(uint64(i)))
			require.True(t, ok)
			require.Equal(t, subnet, nth)
		}
		require.Len(t, want, 1<<(bits-p.Bits()))
		_, ok := cidr.Subnet(p, bits, cidr.CountOf(uint64(len(want))))
		require.False(t, ok)
	})
}

func TestSubnetAgreesWithBigIntegers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := prefixes().Draw(t, "prefix")
		family := p.Addr().BitLen()
		bits := rapid.IntRange(p.Bits(), family).Draw(t, "bits")
		n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "n"))
		n.And(n, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(bits-p.Bits())), big.NewInt(1)))
		want := new(big.Int).SetBytes(p.Masked().Addr().AsSlice())
		want.Add(want, new(big.Int).Lsh(n, uint(family-bits)))

		subnet, ok := cidr.Subnet(p, bits, countOf(n))
		require.True(t, ok)
		index, ok := cidr.SubnetIndex(p, subnet)
		require.True(t, ok)
		require.Equal(t, n.String(), index.String())
		require.Equal(t, bits, subnet.Bits())
		require.Equal(t, family, subnet.Addr().BitLen())
		require.Equal(t, want.String(), new(big.Int).SetBytes(subnet.Addr().AsSlice()).String())
	})
}

func TestSubnetIndex(t *testing.T) {
	for _, test := range []struct{ p, subnet, index string }{
		{"10.0.0.0/8", "10.0.0.0/8", "0"},
		{"10.0.0.0/8", "10.0.1.0/24", "1"},
		{"10.7.7.7/8", "10.0.1.77/24", "1"}, // host bits are ignored
		{"0.0.0.0/0", "255.255.255.255/32", "4294967295"},
		{"::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", "340282366920938463463374607431768211455"},
		{"::ffff:0:0/96", "::ffff:0.0.1.0/120", "1"},
		{"10.0.0.0/8", "10.0.0.0/7", ""},
		{"10.0.0.0/8", "11.0.0.0/24", ""},
		{"10.0.0.0/8", "9.255.255.0/24", ""},
		{"0.0.0.0/0", "::/0", ""},
		{"0.0.0.0/0", "::ffff:10.0.0.0/120", ""},
		{"::/0", "10.0.0.0/8", ""},
	} {
		index, ok := cidr.SubnetIndex(prefix(test.p), prefix(test.subnet))
		assert.Equal(t, test.index != "", ok, "%v", test)
		if ok {
			assert.Equal(t, test.index, index.String(), "%v", test)
		} else {
			assert.True(t, index.IsZero())
		}
	}
	for _, invalid := range invalidPrefixes {
		for _, other := range append(invalidPrefixes, prefix("10.0.0.0/8"), prefix("::/0")) {
			_, ok := cidr.SubnetIndex(invalid, other)
			assert.False(t, ok)
			_, ok = cidr.SubnetIndex(other, invalid)
			assert.False(t, ok)
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	type call struct {
		p    netip.Prefix
		bits int
	}
	calls := []call{
		{prefix("10.0.0.0/8"), 7}, {prefix("10.0.0.0/8"), 33}, {prefix("10.0.0.0/8"), -1},
		{prefix("fd00::/64"), 63}, {prefix("fd00::/64"), 129},
	}
	for _, p := range invalidPrefixes {
		calls = append(calls, call{p, 24}, call{p, 0}, call{p, -1})
	}
	for _, c := range calls {
		assert.Empty(t, slices.Collect(cidr.Split(c.p, c.bits)), "%v", c)
		subnet, ok := cidr.Subnet(c.p, c.bits, cidr.Count{})
		assert.False(t, ok, "%v", c)
		assert.Equal(t, netip.Prefix{}, subnet)
	}
	_, ok := cidr.Subnet(prefix("::/0"), 128, cidr.Pow2(128))
	assert.False(t, ok)
	_, ok = cidr.Subnet(prefix("::/0"), 128, cidr.Pow2(192))
	assert.False(t, ok)
}

func TestSplitStopsEarlyAndStartsAgain(t *testing.T) {
	subnets := cidr.Split(prefix("::/0"), 128)
	for range 2 {
		var first []string
		for subnet := range subnets {
			first = append(first, subnet.String())
			if len(first) == 3 {
				break
			}
		}
		assert.Equal(t, []string{"::/128", "::1/128", "::2/128"}, first)
	}
}

// fewest returns how many prefixes it takes to cover the numbers from and up to to, both below 256, by
// trying all ways.
func fewest(from, to int) int {
	best := make([]int, to+2) // best[i] covers i and up to to
	for i := to; i >= from; i-- {
		best[i] = to + 1
		for size := 1; i%size == 0 && i+size-1 <= to; size *= 2 {
			best[i] = min(best[i], 1+best[i+size])
		}
	}
	return best[from]
}

func TestPrefixesAreTheFewest(t *testing.T) {
	for _, base := range []string{
		"0.0.0.0", "255.255.255.0", "::", "2001:db8::ffff:ff00", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00",
	} {
		block := make([]netip.Addr, 256)
		block[0] = netip.MustParseAddr(base)
		for i := range 255 {
			block[i+1] = block[i].Next()
		}
		rapid.Check(t, func(t *rapid.T) {
			from := rapid.IntRange(0, 255).Draw(t, "from")
			to := rapid.IntRange(from, 255).Draw(t, "to")
			covered := from
			list := slices.Collect(cidr.Prefixes(netipx.IPRangeFrom(block[from], block[to])))
			for _, p := range list {
				require.Equal(t, p.Masked(), p)
				require.Equal(t, block[covered], p.Addr(), "neither gap nor overlap")
				covered += 1 << (p.Addr().BitLen() - p.Bits())
			}
			require.Equal(t, to+1, covered)
			require.Len(t, list, fewest(from, to))
		})
	}
}

func TestPrefixesCoverLargeRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := ranges(rapid.Bool().Draw(t, "is4")).Draw(t, "range")
		var pieces []netipx.IPRange
		var size cidr.Count
		for p := range cidr.Prefixes(r) {
			pieces = append(pieces, netipx.RangeOfPrefix(p))
			size = size.Add(cidr.PrefixSize(p))
		}
		require.Equal(t, []netipx.IPRange{r}, cidr.SetOf(pieces...).Ranges())
		require.Equal(t, cidr.RangeSize(r), size, "no overlap")
		require.LessOrEqual(t, len(pieces), max(1, 2*r.From().BitLen()-2))
	})
}

func TestMostPrefixes(t *testing.T) {
	assert.Len(t, slices.Collect(cidr.Prefixes(span("0.0.0.1", "255.255.255.254"))), 62)
	assert.Len(t, slices.Collect(cidr.Prefixes(span("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"))), 254)
	for p := range cidr.Prefixes(span("10.0.0.1", "10.0.0.9")) {
		assert.Equal(t, prefix("10.0.0.1/32"), p)
		break
	}
}
