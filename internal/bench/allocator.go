package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
)

// Case is one benchmark. Its name says size, fill and shape.
type Case struct {
	Name string
	// Targets are what it may cost in relation to other cases.
	Targets []Target
	// Allocs is the exact number of heap allocations of one operation; -1 if that is not fixed.
	Allocs int64
	Run    func(b *testing.B)
}

// Target is the most that a case may cost, in multiples of another one.
type Target struct {
	Of    string
	Ratio float64
}

// same says that a case is to cost what another one does.
func same(of string) Target { return Target{of, 1} }

// The names of the cases that others are compared with.
const (
	FloorName     = "floor/16/packed/fill=50%"
	EncodeName    = "encode-decode/v4-16/alternate"
	PackedName    = "pair/v4-16/packed/fill=50%"
	PackedEmpty   = "pair/v4-16/packed/fill=1%"
	holesHalf     = "pair/v4-16/holes/fill=50%"
	prefixesEmpty = "pair/v4-8-into-24/packed/fill=0%"
	PoolEmpty     = "pool/pair/held=0"
	poolFloor     = "pool/floor/held=0"
	mixedHeld     = 100_000
	sparseHeld    = 1_000_000
	randomSeed    = 20
)

// AllocatorCases are the rows of the allocator's table of targets.
func AllocatorCases() []Case {
	cases := []Case{{Name: FloorName, Run: floor(50)}}
	for _, fill := range []float64{1, 50, 99, 99.9} {
		cases = append(cases, Case{
			Name: fmt.Sprintf("pair/v4-16/packed/fill=%v%%", fill), Targets: packedTargets(fill),
			Run: pair("10.0.0.0/16", 32, func(a *allocator.Allocator) { packed(a, 32, fill/100) }),
		})
	}
	for _, fill := range []float64{1, 50, 99, 99.9} {
		cases = append(cases, Case{
			Name: fmt.Sprintf("pair/v4-16/holes/fill=%v%%", fill), Targets: holesTargets(fill),
			Run: pair("10.0.0.0/16", 32, func(a *allocator.Allocator) { holes(a, 32, fill/100) }),
		})
	}
	cases = append(cases,
		Case{Name: "pair/v4-16/packed/taken=60000", Targets: []Target{same(PackedEmpty)},
			Run: pair("10.0.0.0/16", 32, func(a *allocator.Allocator) { packed(a, 32, 60_000.0/65_536) })},
		Case{Name: "pair/v4-16/holes/taken=60000", Targets: []Target{same(PackedEmpty)},
			Run: pair("10.0.0.0/16", 32, func(a *allocator.Allocator) { holes(a, 32, 60_000.0/65_536) })},
		Case{Name: "pair/v4-8/holes/taken=16M", Targets: []Target{{holesHalf, 2}},
			Run: pair("10.0.0.0/8", 32, func(a *allocator.Allocator) { holes(a, 32, 16_000_000.0/16_777_216) })},
	)
	for _, fill := range []float64{0, 99, 100} {
		name, share := fmt.Sprintf("pair/v4-8-into-24/packed/fill=%v%%", fill), fill/100
		if fill == 100 {
			name, share = "pair/v4-8-into-24/packed/free=1", 65_535.0/65_536
		}
		cases = append(cases, Case{Name: name, Targets: []Target{{PackedName, 2}, same(prefixesEmpty)},
			Run: pair("10.0.0.0/8", 24, func(a *allocator.Allocator) { packed(a, 24, share) })})
	}
	return append(cases,
		Case{Name: "mixed/v4-8/lengths=20-32/held=100000", Run: mixed()},
		Case{Name: "pair/v6-64/random/held=1000000", Run: pair("2001:db8::/64", 128, fillSparse)},
		Case{Name: "release-take-at-random/v6-64/random/held=1000000", Run: sparse()},
		Case{Allocs: -1, Name: EncodeName, Run: encode("10.0.0.0/16")},
		Case{Allocs: -1, Name: "encode-decode/v4-16-usable/alternate", Run: encode("10.0.0.1-10.0.255.254"),
			Targets: []Target{same(EncodeName)}},
	)
}

func packedTargets(fill float64) []Target {
	targets := []Target{{FloorName, 4}}
	if fill >= 99 {
		targets = append(targets, same(PackedEmpty))
	}
	return targets
}

func holesTargets(fill float64) []Target {
	if fill == 50 {
		return []Target{{PackedName, 1.5}}
	}
	if fill >= 99 {
		return []Target{same("pair/v4-16/holes/fill=1%")}
	}
	return nil
}

func floor(fill float64) func(*testing.B) {
	return func(b *testing.B) {
		f := NewFloor()
		for range int(65_536 * fill / 100) {
			f.TakeFirst()
		}
		b.ReportAllocs()
		for b.Loop() {
			f.Release(f.TakeFirst())
		}
	}
}

// pair takes the lowest free prefix and releases it. Filling may take long, and is done once.
func pair(set string, length int, fill func(*allocator.Allocator)) func(*testing.B) {
	filled := sync.OnceValue(func() *allocator.Allocator {
		a := NewAllocator(set)
		fill(a)
		return a
	})
	return func(b *testing.B) {
		a := filled()
		b.ReportAllocs()
		for b.Loop() {
			p, err := a.TakeFirst(length)
			if err != nil {
				b.Fatal(err)
			}
			if err := a.Release(p); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// NewAllocator returns an allocator for a prefix. It is for constants: it panics where the text is wrong.
func NewAllocator(set string) *allocator.Allocator {
	ranges, err := cidr.ParseRanges(set)
	if err != nil {
		panic(err)
	}
	a, err := allocator.New(cidr.SetOf(ranges...))
	if err != nil {
		panic(err)
	}
	return a
}

// packed takes a share of the space from its start.
func packed(a *allocator.Allocator, length int, share float64) {
	first := firstOf(a)
	for n := range int(float64(count(a, length)) * share) {
		take(a, nth(first, n, length))
	}
}

// holes takes a share of the space at random, but always leaves something free.
func holes(a *allocator.Allocator, length int, share float64) {
	first, n := firstOf(a), count(a, length)
	random := rand.New(rand.NewPCG(randomSeed, 1))
	order := random.Perm(n)
	for _, i := range order[:int(float64(n)*share)] {
		take(a, nth(first, i, length))
	}
}

// Alternate takes every other address of the space.
func Alternate(a *allocator.Allocator) {
	first := firstOf(a)
	for n := 0; n < count(a, 32); n += 2 {
		take(a, nth(first, n, 32))
	}
}

func take(a *allocator.Allocator, p netip.Prefix) {
	if err := a.Take(p); err != nil {
		panic(err)
	}
}

func firstOf(a *allocator.Allocator) netip.Addr { return a.Set().Ranges()[0].From() }

func count(a *allocator.Allocator, length int) int {
	return int(a.Total().Uint64() >> (32 - length))
}

func nth(first netip.Addr, n, length int) netip.Prefix {
	b := first.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n)<<(32-length))
	return netip.PrefixFrom(netip.AddrFrom4(b), length)
}

// mixed holds 100,000 prefixes of random lengths and replaces one at random by a new one of a random length.
func mixed() func(*testing.B) {
	random := rand.New(rand.NewPCG(randomSeed, 2))
	var held []netip.Prefix
	filled := sync.OnceValue(func() *allocator.Allocator {
		a := NewAllocator("10.0.0.0/8")
		for range mixedHeld {
			p, err := a.TakeFirst(mixedLength(random))
			if err != nil {
				panic(err)
			}
			held = append(held, p)
		}
		return a
	})
	return func(b *testing.B) {
		a := filled()
		b.ReportAllocs()
		for b.Loop() {
			i := random.IntN(len(held))
			if err := a.Release(held[i]); err != nil {
				b.Fatal(err)
			}
			p, err := a.TakeFirst(mixedLength(random))
			if err != nil {
				b.Fatal(err)
			}
			held[i] = p
		}
	}
}

// mixedLength is 32 half of the time, 31 a quarter, and so on to 20.
func mixedLength(random *rand.Rand) int {
	length := 32
	for length > 20 && random.Uint32()&1 == 0 {
		length--
	}
	return length
}

// RandomIn64 returns n different addresses of 2001:db8::/64.
func RandomIn64(n int) []netip.Prefix {
	random := rand.New(rand.NewPCG(randomSeed, 3))
	seen := make(map[uint64]bool, n)
	prefixes := make([]netip.Prefix, 0, n)
	for len(prefixes) < n {
		x := random.Uint64()
		if seen[x] {
			continue
		}
		seen[x] = true
		b := netip.MustParseAddr("2001:db8::").As16()
		for i := range 8 {
			b[8+i] = byte(x >> (56 - 8*i))
		}
		prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom16(b), 128))
	}
	return prefixes
}

func fillSparse(a *allocator.Allocator) {
	for _, p := range RandomIn64(sparseHeld) {
		take(a, p)
	}
}

// sparse holds a million random addresses of a /64, and releases and takes again one of them.
func sparse() func(*testing.B) {
	var held []netip.Prefix
	filled := sync.OnceValue(func() *allocator.Allocator {
		a := NewAllocator("2001:db8::/64")
		held = RandomIn64(sparseHeld)
		for _, p := range held {
			take(a, p)
		}
		return a
	})
	next := 0
	return func(b *testing.B) {
		a := filled()
		b.ReportAllocs()
		for b.Loop() {
			p := held[next%len(held)]
			next += 7919
			if err := a.Release(p); err != nil {
				b.Fatal(err)
			}
			if err := a.Take(p); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// encode encodes and decodes a /16 of which every other address is taken.
func encode(set string) func(*testing.B) {
	return func(b *testing.B) {
		a := NewAllocator(set)
		Alternate(a)
		var buffer []byte
		b.ReportAllocs()
		for b.Loop() {
			var err error
			if buffer, err = a.AppendBinary(buffer[:0]); err != nil {
				b.Fatal(err)
			}
			if _, err := allocator.Decode(buffer); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(buffer)), "encoded-bytes")
	}
}
