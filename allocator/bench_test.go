package allocator_test

import (
	"testing"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/bench"
)

func BenchmarkAllocator(b *testing.B) {
	for _, c := range bench.AllocatorCases() {
		b.Run(c.Name, c.Run)
	}
}

// BenchmarkOccupy occupies a range of an empty space, occupies it again, and vacates it.
func BenchmarkOccupy(b *testing.B) {
	for _, c := range []struct{ name, set, text string }{
		{"v4-8/address", "10.0.0.0/8", "10.1.2.3"},
		{"v4-8/prefix=24", "10.0.0.0/8", "10.1.2.0/24"},
		{"v4-8/range=64K", "10.0.0.0/8", "10.1.2.3-10.2.2.2"},
		{"v4-8/range=most", "10.0.0.0/8", "10.0.0.1-10.255.255.254"},
		{"v6-64/address", "2001:db8::/64", "2001:db8::1:2:3:4"},
		{"v6-64/range=most", "2001:db8::/64", "2001:db8::1-2001:db8::ffff:ffff:ffff:fffe"},
	} {
		a := bench.NewAllocator(c.set)
		r, err := cidr.ParseRange(c.text)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, first := a.Occupy(r)
				again, second := a.Occupy(r)
				_, third := a.Vacate(r)
				if first != nil || second != nil || third != nil || !again.IsZero() {
					b.Fatal(first, second, third, again)
				}
			}
		})
	}
}

// BenchmarkCount counts what is free in a /16 of which every other address is taken, and its free prefixes.
func BenchmarkCount(b *testing.B) {
	a := bench.NewAllocator("10.0.0.0/16")
	bench.Alternate(a)
	b.Run("FreeIn/alternate", func(b *testing.B) {
		r := a.Set().Ranges()[0]
		for b.Loop() {
			a.FreeIn(r)
		}
	})
	for name, bits := range map[string]int{"CountFree/alternate/bits=32": 32, "CountFree/alternate/bits=31": 31} {
		b.Run(name, func(b *testing.B) { benchmarkCountFree(b, a, bits) })
	}
	sparse := bench.NewAllocator("2001:db8::/64")
	for _, p := range bench.RandomIn64(10_000) {
		_ = sparse.Take(p)
	}
	b.Run("CountFree/v6-64/held=10000/bits=80", func(b *testing.B) { benchmarkCountFree(b, sparse, 80) })
}

func benchmarkCountFree(b *testing.B, a *allocator.Allocator, bits int) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.CountFree(bits); err != nil {
			b.Fatal(err)
		}
	}
}
