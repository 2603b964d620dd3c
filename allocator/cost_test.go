package allocator_test

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/bench"
)

// No operation allocates on the heap, once the structure has been as fragmented as it gets.
func TestNoHeapAllocations(t *testing.T) {
	for _, c := range []struct {
		name, set string
		fill      func(*allocator.Allocator)
		length    int
	}{
		{"empty", "10.0.0.0/16", func(*allocator.Allocator) {}, 32},
		{"alternate", "10.0.0.0/16", bench.Alternate, 32},
		{"prefixes", "10.0.0.0/8", func(*allocator.Allocator) {}, 24},
		{"sparse", "2001:db8::/64", func(a *allocator.Allocator) {
			for _, p := range bench.RandomIn64(10_000) {
				_ = a.Take(p)
			}
		}, 128},
		{"delegation", "2001:db8::/32", func(*allocator.Allocator) {}, 56},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := bench.NewAllocator(c.set)
			c.fill(a)
			within := a.Set().Ranges()
			from := within[0].From()
			operations := func() {
				p, err := a.TakeFirst(c.length)
				require.NoError(t, err)
				q, err := a.TakeFirstFrom(from, c.length)
				require.NoError(t, err)
				r, err := a.TakeFirstIn(c.length, within...)
				require.NoError(t, err)
				for _, taken := range []netip.Prefix{p, q, r} {
					if !a.IsTaken(taken) || a.IsFree(taken) || !a.Covers(taken) {
						t.Fatal(taken)
					}
				}
				for _, taken := range []netip.Prefix{p, q, r} {
					if a.Release(taken) != nil || a.Take(taken) != nil || a.Release(taken) != nil {
						t.Fatal(taken)
					}
				}
				for _, taken := range []netip.Prefix{p, q, r} {
					occupied, err := a.Occupy(netipx.RangeOfPrefix(taken))
					require.NoError(t, err)
					vacated, err := a.Vacate(netipx.RangeOfPrefix(taken))
					require.NoError(t, err)
					if size := cidr.PrefixSize(taken); occupied != size || vacated != size {
						t.Fatal(taken, occupied, vacated)
					}
				}
				_, _, _, _ = a.Free(), a.Taken(), a.Total(), a.FreeIn(within[0])
				_, _ = a.LargestFree()
				if n, err := a.CountFree(c.length); err != nil || n.IsZero() {
					t.Fatal(n, err)
				}
			}
			operations()
			require.Zero(t, testing.AllocsPerRun(100, func() { operations() }))
		})
	}
}

// The memory that the structure takes stays within the project's targets.
func TestMemory(t *testing.T) {
	packed := bench.NewAllocator("10.0.0.0/16")
	for range 60_000 {
		_, err := packed.TakeFirst(32)
		require.NoError(t, err)
	}
	require.Less(t, packed.Bytes(), 1<<10, "a packed /16")

	holes := bench.NewAllocator("10.0.0.0/16")
	random := rand.New(rand.NewPCG(1, 2))
	for _, i := range random.Perm(1 << 16)[:1<<15] {
		require.NoError(t, holes.Take(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)))
	}
	require.Less(t, holes.Bytes(), 12<<10, "a /16, half of its addresses taken in random order")

	alternate := bench.NewAllocator("10.0.0.0/16")
	bench.Alternate(alternate)
	require.Less(t, alternate.Bytes(), 12<<10, "a /16, every other address taken one by one")
	b, err := alternate.MarshalBinary()
	require.NoError(t, err)
	require.LessOrEqual(t, len(b), 8704, "encoded /16, every other address taken")
	decoded, err := allocator.Decode(b)
	require.NoError(t, err)
	require.Less(t, decoded.Bytes(), 12<<10, "a /16, every other address taken")
}

// A million random addresses of a /64 take at most 96 bytes of heap each.
func TestSparseMemory(t *testing.T) {
	const n = 1_000_000
	prefixes := bench.RandomIn64(n)
	before := heap()
	a := bench.NewAllocator("2001:db8::/64")
	for _, p := range prefixes {
		require.NoError(t, a.Take(p))
	}
	each := float64(heap()-before) / n
	t.Logf("%.1f bytes an address", each)
	require.LessOrEqual(t, each, 96.0)
	require.NoError(t, a.Check())
	runtime.KeepAlive(a)
	runtime.KeepAlive(prefixes)
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// What is encoded in pieces and decoded again is the same, wherever the pieces end.
func TestPieces(t *testing.T) {
	a := bench.NewAllocator("10.0.0.0/15")
	random := rand.New(rand.NewPCG(3, 4))
	for range 40_000 {
		_ = a.Take(randomAddress(random, netip.MustParsePrefix("10.0.0.0/15")))
	}
	b := bench.NewAllocator("10.0.0.0/15")
	pieces := 0
	for rest := netipx.RangeOfPrefix(netip.MustParsePrefix("0.0.0.0/0")); rest.IsValid(); pieces++ {
		encoded, next, err := a.AppendFree(nil, rest, 1000)
		require.NoError(t, err)
		require.LessOrEqual(t, len(encoded), 1000+520+4)
		piece := rest
		if next.IsValid() {
			piece = netipx.IPRangeFrom(rest.From(), next.From().Prev())
			require.Zero(t, next.From().As4()[3], "a piece ends with a page")
		}
		require.NoError(t, b.SetFree(piece, encoded))
		rest = next
	}
	require.Greater(t, pieces, 10)
	require.Equal(t, a.Free(), b.Free())
	want, err := a.MarshalBinary()
	require.NoError(t, err)
	got, err := b.MarshalBinary()
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.NoError(t, b.Check())
}

// The zero Allocator hands out nothing, and nothing panics.
func TestZeroAllocator(t *testing.T) {
	for _, text := range []string{"10.0.0.0/24", "2001:db8::/64"} {
		var a allocator.Allocator
		p := netip.MustParsePrefix(text)
		for _, take := range []func() (netip.Prefix, error){
			func() (netip.Prefix, error) { return a.TakeFirst(p.Bits()) },
			func() (netip.Prefix, error) { return a.TakeFirstFrom(p.Addr(), p.Bits()) },
			func() (netip.Prefix, error) { return a.TakeFirstIn(p.Bits(), netipx.RangeOfPrefix(p)) },
		} {
			_, err := take()
			require.ErrorIs(t, err, allocator.ErrExhausted)
		}
		require.ErrorIs(t, a.Take(p), allocator.ErrOutside)
		require.ErrorIs(t, a.Release(p), allocator.ErrOutside)
		require.False(t, a.IsFree(p) || a.IsTaken(p) || a.Covers(p))
		require.True(t, a.Free().IsZero() && a.Total().IsZero() && a.Taken().IsZero() &&
			a.FreeIn(netipx.RangeOfPrefix(p)).IsZero())
		for r := range a.FreeRanges() {
			t.Error(r)
		}
		for r := range a.TakenRanges() {
			t.Error(r)
		}
		require.Empty(t, a.Set().Ranges())
		n, err := a.CountFree(p.Bits())
		require.NoError(t, err)
		require.True(t, n.IsZero())
		_, ok := a.LargestFree()
		require.False(t, ok)
		_, err = a.Occupy(netipx.RangeOfPrefix(p))
		require.ErrorContains(t, err, "use New")
		_, err = a.Vacate(netipx.RangeOfPrefix(p))
		require.ErrorIs(t, err, allocator.ErrInvalid)
		_, err = a.MarshalBinary()
		require.ErrorIs(t, err, allocator.ErrInvalid)
		_, _, err = a.AppendFree(nil, netipx.RangeOfPrefix(p), 0)
		require.ErrorIs(t, err, allocator.ErrInvalid)
		require.ErrorIs(t, a.SetFree(netipx.RangeOfPrefix(p), nil), allocator.ErrInvalid)
		require.True(t, a.Clone().Free().IsZero())
	}
}

// Input that cannot be meant is refused with the input and what would be right, and changes nothing.
func TestInvalidInput(t *testing.T) {
	a := bench.NewAllocator("10.0.0.0/24")
	foreign := netipx.RangeOfPrefix(netip.MustParsePrefix("2001:db8::/64"))
	reversed := netipx.IPRangeFrom(netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.1"))
	for want, err := range map[string]error{
		"prefix 10.0.0.9/24 has host bits: want 10.0.0.0/24": a.Take(netip.MustParsePrefix("10.0.0.9/24")),
		"prefix 2001:db8::/64: want an IPv4 prefix":          a.Release(netip.MustParsePrefix("2001:db8::/64")),
		"prefix invalid Prefix: want an IPv4 prefix":         a.Take(netip.Prefix{}),
		"10.0.1.0/24: outside of the set":                    a.Take(netip.MustParsePrefix("10.0.1.0/24")),
		"10.0.0.0/25: not taken":                             a.Release(netip.MustParsePrefix("10.0.0.0/25")),
		"prefix length 33: want 0 to 32":                     second(a.TakeFirst(33)),
		"prefix length -1: want 0 to 32":                     second(a.TakeFirst(-1)),
		"address 2001:db8::1: want an IPv4 address":          second(a.TakeFirstFrom(netip.MustParseAddr("2001:db8::1"), 32)),
		"no free /23 among 256 addresses, of which 256 are":  second(a.TakeFirst(23)),
		":ffff:ffff: want a valid IPv4 range":                second(a.Occupy(foreign)),
		"range invalid IP-invalid IP: want a valid IPv4":     second(a.Occupy(netipx.IPRange{})),
		"range 10.0.0.9-10.0.0.1: want a valid IPv4":         second(a.Vacate(reversed)),
		"prefix length 129: want 0 to 32":                    second(a.CountFree(129)),
	} {
		require.ErrorContains(t, err, want)
	}
	require.Equal(t, a.Total(), a.Free())
	_, err := allocator.New(nil)
	require.ErrorContains(t, err, "is empty")
	_, err = allocator.New(cidr.SetOf(
		netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.0.0/24")),
		netipx.RangeOfPrefix(netip.MustParsePrefix("2001:db8::/64")),
	))
	require.ErrorContains(t, err, "both families, 10.0.0.0 and 2001:db8:")
}

func second[T any](_ T, err error) error { return err }
