package allocator_test

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
)

// sparse is the naive reference for spaces of any size: the free addresses as a set.
type sparse struct{ set, free *netipx.IPSet }

func (m *sparse) take(p netip.Prefix)    { m.free = cidr.Difference(m.free, prefixSet(p)) }
func (m *sparse) release(p netip.Prefix) { m.free = cidr.Union(m.free, prefixSet(p)) }

func (m *sparse) first(bits int) (netip.Prefix, bool) {
	for _, p := range m.free.Prefixes() { // aligned blocks, in order
		if p.Bits() <= bits {
			return netip.PrefixFrom(p.Addr(), bits), true
		}
	}
	return netip.Prefix{}, false
}

// countFree counts the free prefixes of the length.
func (m *sparse) countFree(bits int) cidr.Count {
	var n cidr.Count
	for _, p := range m.free.Prefixes() {
		n = n.Add(cidr.Pow2(bits - p.Bits()))
	}
	return n
}

// largestFree is the length of the largest free prefix; 129 if there is none.
func (m *sparse) largestFree() int {
	least := 129
	for _, p := range m.free.Prefixes() {
		least = min(least, p.Bits())
	}
	return least
}

func prefixSet(p netip.Prefix) *netipx.IPSet { return cidr.SetOf(netipx.RangeOfPrefix(p)) }

// randomPrefix is one of any length, all of them equally likely, near the others of the same test now and then.
func randomPrefix(t *rapid.T, parent netip.Prefix, near []netip.Prefix) netip.Prefix {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], rapid.Uint64().Draw(t, "hi"))
	binary.BigEndian.PutUint64(b[8:], rapid.Uint64().Draw(t, "lo"))
	width := parent.Addr().BitLen()
	bits := rapid.IntRange(parent.Bits(), width).Draw(t, "bits")
	base := parent.Addr().As16()
	if len(near) > 0 && rapid.Bool().Draw(t, "near") {
		base = rapid.SampledFrom(near).Draw(t, "base").Addr().As16()
		shared := rapid.IntRange(parent.Bits(), width).Draw(t, "shared")
		parent = netip.PrefixFrom(parent.Addr(), shared)
	}
	for i := range 128 {
		if i < 128-width+parent.Bits() {
			mask := byte(0x80) >> (i % 8)
			b[i/8] = b[i/8]&^mask | base[i/8]&mask
		}
	}
	addr := netip.AddrFrom16(b)
	if width == 32 {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, bits).Masked()
}

// rangeBetween is from the start of one of the prefixes to the end of the other, or to the end of the same.
func rangeBetween(p, q netip.Prefix) netipx.IPRange {
	if netipx.PrefixLastIP(q).Less(p.Addr()) {
		p, q = q, p
	}
	return netipx.IPRangeFrom(p.Addr(), netipx.PrefixLastIP(q))
}

func TestSparseAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parent := netip.MustParsePrefix(rapid.SampledFrom([]string{
			"::/0", "2001:db8::/32", "2001:db8::/64", "8000::/1", "fe80::/10", "0.0.0.0/0",
			"10.0.0.0/8", "128.0.0.0/1", "100.64.0.0/10",
		}).Draw(t, "set"))
		set := prefixSet(parent)
		if holes := rapid.IntRange(0, 3).Draw(t, "holes"); holes > 0 && parent.Bits() > 0 {
			for range holes {
				set = cidr.Difference(set, prefixSet(randomPrefix(t, parent, nil)))
			}
			if len(set.Ranges()) == 0 {
				set = prefixSet(parent)
			}
		}
		a, err := allocator.New(set)
		require.NoError(t, err)
		m := &sparse{set: set, free: set}
		var seen []netip.Prefix
		draw := func(t *rapid.T) netip.Prefix {
			p := randomPrefix(t, parent, seen)
			seen = append(seen, p)
			return p
		}
		t.Repeat(map[string]func(*rapid.T){
			"Take": func(t *rapid.T) {
				p := draw(t)
				err := a.Take(p)
				require.Equal(t, m.free.ContainsPrefix(p), err == nil, "Take(%v): %v", p, err)
				if err == nil {
					m.take(p)
				}
			},
			"Release": func(t *rapid.T) {
				p := draw(t)
				if len(seen) > 1 && rapid.Bool().Draw(t, "seen") {
					p = rapid.SampledFrom(seen).Draw(t, "p")
				}
				ok := m.set.ContainsPrefix(p) && !m.free.OverlapsPrefix(p)
				err := a.Release(p)
				require.Equal(t, ok, err == nil, "Release(%v): %v", p, err)
				if err == nil {
					m.release(p)
				}
			},
			"TakeFirst": func(t *rapid.T) {
				bits := draw(t).Bits()
				want, ok := m.first(bits)
				got, err := a.TakeFirst(bits)
				require.Equal(t, ok, err == nil, "TakeFirst(%d): %v", bits, err)
				if ok {
					require.Equal(t, want, got)
					m.take(got)
				}
			},
			"Occupy": func(t *rapid.T) {
				r := rangeBetween(draw(t), draw(t))
				want := cidr.Size(cidr.Intersection(m.free, cidr.SetOf(r)))
				got, err := a.Occupy(r)
				require.NoError(t, err)
				require.Equal(t, want, got)
				m.free = cidr.Difference(m.free, cidr.SetOf(r))
			},
			"Vacate": func(t *rapid.T) {
				r := rangeBetween(draw(t), draw(t))
				vacated := cidr.Intersection(cidr.Difference(m.set, m.free), cidr.SetOf(r))
				got, err := a.Vacate(r)
				require.NoError(t, err)
				require.Equal(t, cidr.Size(vacated), got)
				m.free = cidr.Union(m.free, vacated)
			},
			"CountFree": func(t *rapid.T) {
				bits := draw(t).Bits()
				got, err := a.CountFree(bits)
				require.NoError(t, err)
				require.Equal(t, m.countFree(bits), got, "CountFree(%d)", bits)
			},
			"FreeIn": func(t *rapid.T) {
				r := rangeBetween(draw(t), draw(t))
				require.Equal(t, cidr.Size(cidr.Intersection(m.free, cidr.SetOf(r))), a.FreeIn(r))
			},
			"Encode": func(t *rapid.T) {
				b, err := a.MarshalBinary()
				require.NoError(t, err)
				a, err = allocator.Decode(b)
				require.NoError(t, err)
			},
			"SetFree": func(t *rapid.T) {
				b, _, err := a.AppendFree(nil, netipx.RangeOfPrefix(parent), 0)
				require.NoError(t, err)
				p := draw(t)
				if a.Take(p) != nil {
					_ = a.Release(p)
				}
				require.NoError(t, a.SetFree(netipx.RangeOfPrefix(parent), b))
			},
			"": func(t *rapid.T) {
				require.NoError(t, a.Check())
				requireSame(t, m.free, a.FreeRanges())
				require.Equal(t, cidr.Size(m.free), a.Free())
				largest, ok := a.LargestFree()
				require.Equal(t, !a.Free().IsZero(), ok)
				if ok {
					require.Equal(t, m.largestFree(), largest)
				}
				taken := cidr.Difference(m.set, m.free)
				requireSame(t, taken, a.TakenRanges())
			},
		})
	})
}

// Taking in any order and releasing in any other leaves what was there in the beginning, structure included.
func TestNothingAccumulates(t *testing.T) {
	for _, text := range []string{"10.0.0.0/14", "2001:db8::/64"} {
		parent := netip.MustParsePrefix(text)
		a, err := allocator.New(prefixSet(parent))
		require.NoError(t, err)
		random := rand.New(rand.NewPCG(1, 2))
		var bytes int
		for round := range 4 {
			var held []netip.Prefix
			for range 20_000 {
				p := randomAddress(random, parent)
				if a.Take(p) == nil {
					held = append(held, p)
				}
			}
			random.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
			for _, p := range held {
				require.NoError(t, a.Release(p))
			}
			require.NoError(t, a.Check())
			require.Equal(t, a.Total(), a.Free())
			require.Equal(t, prefixSet(parent).Ranges(), slices.Collect(a.FreeRanges()))
			if round == 1 {
				bytes = a.Bytes()
			}
		}
		require.LessOrEqual(t, a.Bytes(), bytes*3/2, "%s: memory grows with each round", text)
	}
}

func randomAddress(random *rand.Rand, parent netip.Prefix) netip.Prefix {
	b := parent.Addr().As16()
	for i := (128 - parent.Addr().BitLen() + parent.Bits() + 7) / 8; i < 16; i++ {
		b[i] = byte(random.Uint32())
	}
	if parent.Addr().Is4() {
		i := (96 + parent.Bits()) / 8
		if parent.Bits()%8 != 0 {
			b[i] |= byte(random.Uint32()) & (0xff >> (parent.Bits() % 8))
		}
		addr := netip.AddrFrom16(b).Unmap()
		return netip.PrefixFrom(addr, 32)
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), 128)
}

func requireSame(t require.TestingT, want *netipx.IPSet, got iter.Seq[netipx.IPRange]) {
	require.Equal(t, want.Ranges(), slices.AppendSeq([]netipx.IPRange{}, got))
}

// A node that was needed to tell two addresses apart goes when one of them does.
func TestNodesGoWithWhatNeededThem(t *testing.T) {
	parent := netip.MustParsePrefix("2001:db8::/64")
	a, err := allocator.New(prefixSet(parent))
	require.NoError(t, err)
	require.NoError(t, a.Take(netip.MustParsePrefix("2001:db8::1234:5678:9abc:def0/128")))
	nodes := a.Nodes()
	random := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		p := randomAddress(random, parent)
		bits := 64 + random.IntN(65)
		p = netip.PrefixFrom(p.Addr(), bits).Masked()
		if a.Take(p) == nil {
			require.NoError(t, a.Release(p))
			require.Equal(t, nodes, a.Nodes(), "after taking and releasing %v", p)
		}
	}
}

// At the start of each block that a node, or a slot of one, spans, a pair makes nodes and leaves them out again: when
// all below is taken and the pair takes first, and when it is free and the pair releases first. What is left is always
// what an allocator has that was given the same addresses at once, and nothing is allocated on the heap.
func TestBoundaries(t *testing.T) {
	for _, text := range []string{"0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/20", "::/0", "2001:db8::/64"} {
		parent := netip.MustParsePrefix(text)
		width := parent.Addr().BitLen()
		for bits := parent.Bits() + 1; bits <= width; bits++ {
			// middle begins in the middle of parent if bits is one more than its own, and above that ever nearer to its end.
			middle := netip.PrefixFrom(netipx.PrefixLastIP(parent), bits).Masked()
			below := netipx.IPRangeFrom(parent.Addr(), middle.Addr().Prev())
			above := netipx.IPRangeFrom(middle.Addr(), netipx.PrefixLastIP(parent))
			for _, length := range []int{bits, min(bits+3, width), min(bits+6, width), width} {
				first := netip.PrefixFrom(middle.Addr(), length)
				last := netip.PrefixFrom(below.To(), max(length, parent.Bits()+1)).Masked()

				a, err := allocator.New(prefixSet(parent))
				require.NoError(t, err)
				_, err = a.Occupy(below)
				require.NoError(t, err)
				requireStable(t, a, func() error {
					if p, err := a.TakeFirst(length); p != first || err != nil {
						return fmt.Errorf("took %v, want %v: %w", p, first, err)
					}
					return a.Release(first)
				})

				_, err = a.Occupy(above)
				require.NoError(t, err)
				requireStable(t, a, func() error { return cmp.Or(a.Release(first), a.Take(first)) })
				_, err = a.Vacate(below)
				require.NoError(t, err)
				requireStable(t, a, func() error { return cmp.Or(a.Take(last), a.Release(last)) })
			}
		}
	}
}

// requireStable runs pair, after which a must be as before, and as after it was decoded from its encoding.
func requireStable(t *testing.T, a *allocator.Allocator, pair func() error) {
	t.Helper()
	want, err := a.MarshalBinary()
	require.NoError(t, err)
	nodes := a.Nodes()
	largest, _ := a.LargestFree()
	require.Zero(t, testing.AllocsPerRun(3, func() { err = cmp.Or(err, pair()) }))
	require.NoError(t, err)
	require.NoError(t, a.Check())
	got, err := a.MarshalBinary()
	require.NoError(t, err)
	require.Equal(t, want, got)
	after, _ := a.LargestFree()
	require.Equal(t, largest, after)
	decoded, err := allocator.Decode(got)
	require.NoError(t, err)
	require.Equal(t, decoded.Nodes(), a.Nodes())
	require.Equal(t, nodes, a.Nodes())
}
