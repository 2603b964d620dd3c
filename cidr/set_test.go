package cidr_test

import (
	"math/big"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
)

// universe is the addresses that the naive model knows, in order: windows of both families, at the ends of
// the families and where a carry runs through the words of an address.
var universe = func() []netip.Addr {
	var all []netip.Addr
	for _, window := range []string{
		"0.0.0.0", "9.255.255.240", "255.255.255.224",
		"::", "2001:db8::ffff:ffff:ffff:fff0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffe0",
	} {
		addr := netip.MustParseAddr(window)
		for range windowSize {
			all = append(all, addr)
			addr = addr.Next()
		}
	}
	return all
}()

// windowSize is the number of addresses that are neighbours in the universe.
const windowSize = 32

// model is a set as a list of flags, one for each address of the universe.
type model []bool

// sets draws a set within the universe and its model.
func sets(t *rapid.T, name string) (*netipx.IPSet, model) {
	flags := make(model, len(universe))
	var ranges []netipx.IPRange
	for range rapid.IntRange(0, 12).Draw(t, name+" ranges") {
		from := rapid.IntRange(0, len(universe)-1).Draw(t, name+" from")
		to := min(from+rapid.IntRange(0, windowSize).Draw(t, name+" length"), from|(windowSize-1))
		ranges = append(ranges, netipx.IPRangeFrom(universe[from], universe[to]))
		for i := from; i <= to; i++ {
			flags[i] = true
		}
	}
	return cidr.SetOf(ranges...), flags
}

// requireSet requires that s has the addresses of the model, and no others as far as a count tells.
func requireSet(t require.TestingT, want model, s *netipx.IPSet) {
	size := uint64(0)
	for i, addr := range universe {
		require.Equal(t, want[i], s.Contains(addr), "%v", addr)
		if want[i] {
			size++
		}
	}
	require.Equal(t, cidr.CountOf(size), cidr.Size(s))
}

func TestSetAlgebraAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, inA := sets(t, "a")
		b, inB := sets(t, "b")
		union, difference, intersection := make(model, len(universe)), make(model, len(universe)), make(model, len(universe))
		overlaps := false
		for i := range universe {
			union[i] = inA[i] || inB[i]
			difference[i] = inA[i] && !inB[i]
			intersection[i] = inA[i] && inB[i]
			overlaps = overlaps || intersection[i]
		}

		requireSet(t, inA, a)
		requireSet(t, union, cidr.Union(a, b))
		requireSet(t, difference, cidr.Difference(a, b))
		requireSet(t, intersection, cidr.Intersection(a, b))
		require.Equal(t, overlaps, cidr.Overlaps(a, b))
		require.Equal(t, overlaps, cidr.Overlaps(b, a))
		requireSet(t, inA, a) // no argument was changed
		requireSet(t, inB, b)
	})
}

func TestNthAndIndexAgreeWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, in := sets(t, "set")
		next := uint64(0)
		for i, addr := range universe {
			index, ok := cidr.Index(s, addr)
			require.Equal(t, in[i], ok, "Index(%v)", addr)
			if !in[i] {
				require.True(t, index.IsZero())
				continue
			}
			require.Equal(t, cidr.CountOf(next), index, "Index(%v)", addr)
			nth, ok := cidr.Nth(s, cidr.CountOf(next))
			require.True(t, ok)
			require.Equal(t, addr, nth, "Nth(%d)", next)
			next++
		}
		require.Equal(t, cidr.CountOf(next), cidr.Size(s))
		nth, ok := cidr.Nth(s, cidr.CountOf(next))
		require.False(t, ok)
		require.Equal(t, netip.Addr{}, nth)
	})
}

// addrs draws addresses of one family from all of it.
func addrs(is4 bool) *rapid.Generator[netip.Addr] {
	length := 16
	if is4 {
		length = 4
	}
	edge := rapid.SampledFrom([]byte{0, 0, 0xff, 0xff, 0x80})
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		b := rapid.SliceOfN(rapid.OneOf(rapid.Byte(), edge), length, length).Draw(t, "bytes")
		addr, _ := netip.AddrFromSlice(b)
		return addr
	})
}

// ranges draws ranges of any size of one family.
func ranges(is4 bool) *rapid.Generator[netipx.IPRange] {
	return rapid.Custom(func(t *rapid.T) netipx.IPRange {
		a, b := addrs(is4).Draw(t, "a"), addrs(is4).Draw(t, "b")
		if b.Less(a) {
			a, b = b, a
		}
		return netipx.IPRangeFrom(a, b)
	})
}

// bigSize is the size of a range.
func bigSize(r netipx.IPRange) *big.Int {
	from := new(big.Int).SetBytes(r.From().AsSlice())
	to := new(big.Int).SetBytes(r.To().AsSlice())
	return to.Sub(to, from).Add(to, big.NewInt(1))
}

func TestLargeSetsAgreeWithBigIntegers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := cidr.SetOf(append(
			rapid.SliceOfN(ranges(true), 0, 3).Draw(t, "ipv4"),
			rapid.SliceOfN(ranges(false), 1, 4).Draw(t, "ipv6")...)...)
		before := new(big.Int)
		for _, r := range s.Ranges() {
			size := bigSize(r)
			require.Equal(t, size.String(), cidr.RangeSize(r).String())
			last := new(big.Int).Add(before, size)
			last.Sub(last, big.NewInt(1))
			for _, end := range []struct {
				index *big.Int
				addr  netip.Addr
			}{{before, r.From()}, {last, r.To()}} {
				index, ok := cidr.Index(s, end.addr)
				require.True(t, ok)
				require.Equal(t, end.index.String(), index.String())
				addr, ok := cidr.Nth(s, index)
				require.True(t, ok)
				require.Equal(t, end.addr, addr)
			}
			before = new(big.Int).Add(before, size)
		}
		require.Equal(t, before.String(), cidr.Size(s).String())
	})
}

func TestNthInTheMiddleOfLargeSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := ranges(rapid.Bool().Draw(t, "is4")).Draw(t, "range")
		n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 17, 17).Draw(t, "n"))
		n.Mod(n, bigSize(r))
		want := new(big.Int).Add(new(big.Int).SetBytes(r.From().AsSlice()), n)

		addr, ok := cidr.Nth(cidr.SetOf(r), countOf(n))
		require.True(t, ok)
		require.Equal(t, want.String(), new(big.Int).SetBytes(addr.AsSlice()).String())
		require.Equal(t, r.From().Is4(), addr.Is4())
		index, ok := cidr.Index(cidr.SetOf(r), addr)
		require.True(t, ok)
		require.Equal(t, countOf(n), index)
	})
}

func TestSetOfEverything(t *testing.T) {
	s := cidr.SetOf(netipx.RangeOfPrefix(prefix("::/0")), netipx.RangeOfPrefix(prefix("0.0.0.0/0")))
	size := cidr.Pow2(128).Add(cidr.Pow2(32))
	assert.Equal(t, size, cidr.Size(s))

	last, ok := cidr.Nth(s, size.Sub(cidr.CountOf(1)))
	assert.True(t, ok)
	assert.Equal(t, netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), last)
	first6, ok := cidr.Nth(s, cidr.Pow2(32))
	assert.True(t, ok)
	assert.Equal(t, netip.IPv6Unspecified(), first6)
	for _, n := range []cidr.Count{size, cidr.Pow2(129), cidr.Pow2(192)} {
		_, ok = cidr.Nth(s, n)
		assert.False(t, ok, "%v", n)
	}
}

func TestNilSetsAreEmpty(t *testing.T) {
	s := cidr.SetOf(span("10.0.0.1", "10.0.0.9"))
	assert.True(t, s.Equal(cidr.Union(s, nil)))
	assert.True(t, s.Equal(cidr.Union(nil, s)))
	assert.True(t, s.Equal(cidr.Difference(s, nil)))
	for name, empty := range map[string]*netipx.IPSet{
		"Union":          cidr.Union(nil, nil),
		"Difference":     cidr.Difference(nil, s),
		"Intersection 1": cidr.Intersection(nil, s),
		"Intersection 2": cidr.Intersection(s, nil),
		"SetOf":          cidr.SetOf(),
	} {
		require.NotNil(t, empty, name)
		assert.Empty(t, empty.Ranges(), name)
	}
	assert.False(t, cidr.Overlaps(s, nil))
	assert.False(t, cidr.Overlaps(nil, s))
	assert.False(t, cidr.Overlaps(nil, nil))
	assert.True(t, cidr.Size(nil).IsZero())
	assert.True(t, cidr.Size(&netipx.IPSet{}).IsZero())
	assert.Nil(t, cidr.FormatSet(nil))
	assert.Nil(t, cidr.FormatSet(&netipx.IPSet{}))
	_, ok := cidr.Nth(nil, cidr.Count{})
	assert.False(t, ok)
	_, ok = cidr.Index(nil, netip.MustParseAddr("10.0.0.1"))
	assert.False(t, ok)
}

// invalidRanges are of every kind that netipx lets exist.
var invalidRanges = map[string]netipx.IPRange{
	"zero":     {},
	"half":     netipx.IPRangeFrom(netip.MustParseAddr("10.0.0.1"), netip.Addr{}),
	"reversed": netipx.IPRangeFrom(netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.1")),
	"mixed":    netipx.IPRangeFrom(netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("::1")),
	"mapped":   netipx.IPRangeFrom(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::ffff:10.0.0.2")),
}

func TestInvalidRangesHoldNothing(t *testing.T) {
	valid := span("10.0.0.1", "10.0.0.9")
	for name, r := range invalidRanges {
		t.Run(name, func(t *testing.T) {
			assert.True(t, cidr.RangeSize(r).IsZero())
			assert.Empty(t, cidr.FormatRange(r))
			assert.Empty(t, cidr.SetOf(r).Ranges())
			assert.Equal(t, []netipx.IPRange{valid}, cidr.SetOf(r, valid, r).Ranges())
			for p := range cidr.Prefixes(r) {
				t.Errorf("yields %v", p)
			}
		})
	}
}

func TestMappedAddressesAreIPv6(t *testing.T) {
	mapped := cidr.SetOf(span("::ffff:10.0.0.1", "::ffff:10.0.0.9"))
	plain := cidr.SetOf(span("10.0.0.1", "10.0.0.9"))
	assert.False(t, cidr.Overlaps(mapped, plain))
	assert.Equal(t, cidr.CountOf(18), cidr.Size(cidr.Union(mapped, plain)))

	addr, ok := cidr.Nth(mapped, cidr.CountOf(1))
	assert.True(t, ok)
	assert.Equal(t, netip.MustParseAddr("::ffff:10.0.0.2"), addr)
	_, ok = cidr.Index(plain, addr)
	assert.False(t, ok)
	index, ok := cidr.Index(mapped, addr)
	assert.True(t, ok)
	assert.Equal(t, cidr.CountOf(1), index)

	// The one kind of range whose text is not accepted.
	assert.Equal(t, []string{"::ffff:10.0.0.1-::ffff:10.0.0.9"}, cidr.FormatSet(mapped))
	_, err := cidr.ParseSet(cidr.FormatSet(mapped)...)
	assert.Error(t, err)
}

func TestIndexOfNoMember(t *testing.T) {
	s := cidr.SetOf(netipx.RangeOfPrefix(prefix("fe80::/64")))
	for _, addr := range []netip.Addr{
		{}, netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("fe80:0:0:1::"), netip.MustParseAddr("10.0.0.1"),
	} {
		_, ok := cidr.Index(s, addr)
		assert.False(t, ok, "%v", addr)
	}
}
