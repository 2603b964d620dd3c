package cidr_test

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// manyRanges returns n ranges of 1 to 8 addresses in random order. They neither overlap nor touch, half are IPv4 and
// half IPv6, and offset moves each of them.
func manyRanges(n, offset int) []netipx.IPRange {
	random := rand.New(rand.NewPCG(uint64(n), uint64(offset)))
	ranges := make([]netipx.IPRange, n)
	for i := range ranges {
		first, last := i/2*16+offset, i/2*16+offset+random.IntN(8)
		ranges[i] = netipx.IPRangeFrom(numbered(i%2 == 0, first), numbered(i%2 == 0, last))
	}
	random.Shuffle(n, func(i, j int) { ranges[i], ranges[j] = ranges[j], ranges[i] })
	return ranges
}

// numbered returns the address n of 10.0.0.0/8 or of 2001:db8::/96.
func numbered(is4 bool, n int) netip.Addr {
	low := [4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	if is4 {
		low[0] += 10
		return netip.AddrFrom4(low)
	}
	b := netip.MustParseAddr("2001:db8::").As16()
	copy(b[12:], low[:])
	return netip.AddrFrom16(b)
}

// setOperations are what is done with n ranges in each set.
func setOperations(n int) []operation {
	ranges := manyRanges(n, 0)
	left, right := cidr.SetOf(ranges...), cidr.SetOf(manyRanges(n, 4)...)
	texts := cidr.FormatSet(left)
	return []operation{
		{"SetOf", func() { cidr.SetOf(ranges...) }},
		{"ParseRanges", func() { _, _ = cidr.ParseRanges(texts...) }},
		{"ParseSet", func() { _, _ = cidr.ParseSet(texts...) }},
		{"FormatSet", func() { cidr.FormatSet(left) }},
		{"Union", func() { cidr.Union(left, right) }},
		{"Difference", func() { cidr.Difference(left, right) }},
		{"Intersection", func() { cidr.Intersection(left, right) }},
		{"Overlaps", func() { cidr.Overlaps(left, cidr.Difference(right, left)) }},
		{"Size", func() { cidr.Size(left) }},
		{"Nth", func() { cidr.Nth(left, cidr.CountOf(uint64(n))) }},
		{"Index", func() { cidr.Index(left, numbered(false, 16)) }},
	}
}

type operation struct {
	name string
	run  func()
}

func BenchmarkSets(b *testing.B) {
	for _, operation := range setOperations(100_000) {
		b.Run(operation.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				operation.run()
			}
		})
	}
}

// The bytes that an operation allocates grow with the ranges, and not with their square.
func TestSetsAreNearLinear(t *testing.T) {
	const few, times = 200, 16
	many := setOperations(few * times)
	for i, operation := range setOperations(few) {
		t.Run(operation.name, func(t *testing.T) {
			want, got := bytesOf(operation.run), bytesOf(many[i].run)
			require.LessOrEqual(t, got, 2*times*want, "%d ranges; %d bytes for %d", few*times, want, few)
		})
	}
}

// bytesOf returns how many bytes run allocates.
func bytesOf(run func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
