package allocator_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
)

// model is the naive reference: a map of the addresses that are taken.
type model struct {
	set   []netip.Addr // in order
	in    map[netip.Addr]bool
	taken map[netip.Addr]bool
}

func newModel(set *netipx.IPSet) *model {
	m := &model{in: map[netip.Addr]bool{}, taken: map[netip.Addr]bool{}}
	for _, r := range set.Ranges() {
		for addr := r.From(); ; addr = addr.Next() {
			m.set = append(m.set, addr)
			m.in[addr] = true
			if addr == r.To() {
				break
			}
		}
	}
	return m
}

// each calls f for each address of p, until it returns false. A prefix that is larger than the whole set
// is reported as having an address outside.
func (m *model) all(p netip.Prefix, f func(netip.Addr) bool) bool {
	if p.Addr().BitLen()-p.Bits() > 20 {
		return false
	}
	for addr := p.Masked().Addr(); p.Contains(addr); addr = addr.Next() {
		if !f(addr) {
			return false
		}
	}
	return true
}

func (m *model) covers(p netip.Prefix) bool {
	return m.all(p, func(a netip.Addr) bool { return m.in[a] })
}

func (m *model) isFree(p netip.Prefix) bool {
	return m.all(p, func(a netip.Addr) bool { return m.in[a] && !m.taken[a] })
}

func (m *model) isTaken(p netip.Prefix) bool {
	return m.all(p, func(a netip.Addr) bool { return m.in[a] && m.taken[a] })
}

func (m *model) mark(p netip.Prefix, taken bool) {
	m.all(p, func(a netip.Addr) bool {
		if taken {
			m.taken[a] = true
		} else {
			delete(m.taken, a)
		}
		return true
	})
}

// first is the lowest free prefix of the length in r.
func (m *model) first(bits int, r netipx.IPRange) (netip.Prefix, bool) {
	for _, addr := range m.set {
		p := netip.PrefixFrom(addr, bits)
		if p.Masked() == p && r.Contains(addr) && r.Contains(netipx.PrefixLastIP(p)) && m.isFree(p) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// markRange marks the addresses in r, and returns how many were not marked so.
func (m *model) markRange(r netipx.IPRange, taken bool) cidr.Count {
	changed := uint64(0)
	for _, addr := range m.set {
		if r.Contains(addr) && m.taken[addr] != taken {
			m.mark(netip.PrefixFrom(addr, addr.BitLen()), taken)
			changed++
		}
	}
	return cidr.CountOf(changed)
}

// countFree counts the free prefixes of the length.
func (m *model) countFree(bits int) cidr.Count {
	n := uint64(0)
	for _, addr := range m.set {
		if p := netip.PrefixFrom(addr, bits); p.Masked() == p && m.isFree(p) {
			n++
		}
	}
	return cidr.CountOf(n)
}

func (m *model) free() []netip.Addr {
	return slices.DeleteFunc(slices.Clone(m.set), func(a netip.Addr) bool { return m.taken[a] })
}

// places are where a small set is put: they meet words, pages and the ends of the address space.
var places = []string{
	"0.0.0.0", "10.0.0.0", "10.0.15.192", "10.63.255.128", "255.255.252.0",
	"::", "2001:db8::", "2001:db8::ffff:ff80", "2001:db8:0:0:ffff:ffff:ffff:ff80",
	"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fc00",
}

func drawSet(t *rapid.T) *netipx.IPSet {
	base := netip.MustParseAddr(rapid.SampledFrom(places).Draw(t, "base"))
	var ranges []netipx.IPRange
	for range rapid.IntRange(1, 4).Draw(t, "ranges") {
		from := rapid.IntRange(0, 700).Draw(t, "from")
		length := rapid.SampledFrom([]int{1, 2, 3, 15, 64, 200, 256, 1000}).Draw(t, "length")
		ranges = append(ranges, netipx.IPRangeFrom(plus(base, from), plus(base, min(from+length-1, 1023))))
	}
	return cidr.SetOf(ranges...)
}

func plus(addr netip.Addr, n int) netip.Addr {
	whole := netipx.IPRangeFrom(addr, netipx.PrefixLastIP(netip.PrefixFrom(addr, 0)))
	sum, ok := cidr.Nth(cidr.SetOf(whole), cidr.CountOf(uint64(n)))
	if !ok {
		return whole.To()
	}
	return sum
}

// drawPrefix draws one around the set, sometimes beside it.
func (m *model) drawPrefix(t *rapid.T) netip.Prefix {
	addr := rapid.SampledFrom(m.set).Draw(t, "addr")
	bits := addr.BitLen() - rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3, 5, 6, 7, 8, 11, addr.BitLen()}).Draw(t, "order")
	p := netip.PrefixFrom(addr, bits).Masked()
	if rapid.IntRange(0, 9).Draw(t, "beside") == 0 {
		if next := netipx.PrefixLastIP(p).Next(); next.IsValid() {
			p = netip.PrefixFrom(next, bits)
		}
	}
	return p
}

// drawRange draws a range around two places of the set.
func (m *model) drawRange(t *rapid.T) netipx.IPRange {
	from, to := m.drawPrefix(t).Addr(), netipx.PrefixLastIP(m.drawPrefix(t))
	if to.Less(from) {
		from, to = to, from
	}
	return netipx.IPRangeFrom(from, to)
}

func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := drawSet(t)
		m := newModel(set)
		a, err := allocator.New(set)
		require.NoError(t, err)
		width := m.set[0].BitLen()
		everything := netipx.RangeOfPrefix(netip.PrefixFrom(m.set[0], 0).Masked())
		drawBits := func() int {
			return width - rapid.SampledFrom([]int{0, 0, 0, 1, 2, 4, 6, 7, 9, 13}).Draw(t, "order")
		}
		expectFirst := func(got netip.Prefix, err error, want netip.Prefix, ok bool) {
			if !ok {
				require.ErrorIs(t, err, allocator.ErrExhausted)
				return
			}
			require.NoError(t, err)
			require.Equal(t, want, got)
			m.mark(want, true)
		}
		t.Repeat(map[string]func(*rapid.T){
			"TakeFirst": func(t *rapid.T) {
				bits := drawBits()
				want, ok := m.first(bits, everything)
				got, err := a.TakeFirst(bits)
				expectFirst(got, err, want, ok)
			},
			"TakeFirstFrom": func(t *rapid.T) {
				bits, addr := drawBits(), m.drawPrefix(t).Addr()
				want, ok := m.first(bits, netipx.IPRangeFrom(addr, everything.To()))
				got, err := a.TakeFirstFrom(addr, bits)
				expectFirst(got, err, want, ok)
			},
			"TakeFirstIn": func(t *rapid.T) {
				bits := drawBits()
				ranges := []netipx.IPRange{netipx.RangeOfPrefix(m.drawPrefix(t)), netipx.RangeOfPrefix(m.drawPrefix(t))}
				want, ok := m.first(bits, ranges[0])
				if !ok {
					want, ok = m.first(bits, ranges[1])
				}
				got, err := a.TakeFirstIn(bits, ranges...)
				expectFirst(got, err, want, ok)
			},
			"Take": func(t *rapid.T) {
				p := m.drawPrefix(t)
				free, covers := m.isFree(p), m.covers(p)
				switch err := a.Take(p); {
				case free:
					require.NoError(t, err)
					m.mark(p, true)
				case covers:
					require.ErrorIs(t, err, allocator.ErrTaken)
				default:
					require.ErrorIs(t, err, allocator.ErrOutside)
				}
			},
			"Release": func(t *rapid.T) {
				p := m.drawPrefix(t)
				taken, covers := m.isTaken(p), m.covers(p)
				switch err := a.Release(p); {
				case taken:
					require.NoError(t, err)
					m.mark(p, false)
				case covers:
					require.ErrorIs(t, err, allocator.ErrNotTaken)
				default:
					require.ErrorIs(t, err, allocator.ErrOutside)
				}
			},
			"Occupy": func(t *rapid.T) {
				r := m.drawRange(t)
				want := m.markRange(r, true)
				got, err := a.Occupy(r)
				require.NoError(t, err)
				require.Equal(t, want, got)
			},
			"Vacate": func(t *rapid.T) {
				r := m.drawRange(t)
				want := m.markRange(r, false)
				got, err := a.Vacate(r)
				require.NoError(t, err)
				require.Equal(t, want, got)
			},
			"CountFree": func(t *rapid.T) {
				bits := drawBits()
				got, err := a.CountFree(bits)
				require.NoError(t, err)
				require.Equal(t, m.countFree(bits), got)
			},
			"LargestFree": func(t *rapid.T) {
				bits, ok := a.LargestFree()
				if !ok {
					require.Empty(t, m.free())
					return
				}
				require.False(t, m.countFree(bits).IsZero())
				require.True(t, bits == 0 || m.countFree(bits-1).IsZero())
			},
			"FreeIn": func(t *rapid.T) {
				r, free := m.drawRange(t), uint64(0)
				for _, addr := range m.free() {
					if r.Contains(addr) {
						free++
					}
				}
				require.Equal(t, cidr.CountOf(free), a.FreeIn(r))
			},
			"Encode": func(t *rapid.T) {
				b, err := a.MarshalBinary()
				require.NoError(t, err)
				a, err = allocator.Decode(b)
				require.NoError(t, err)
			},
			"SetFree": func(t *rapid.T) {
				// What a range held when it was encoded comes back, and nothing else changes.
				r := netipx.RangeOfPrefix(m.drawPrefix(t))
				b, rest, err := a.AppendFree(nil, r, 0)
				require.NoError(t, err)
				require.False(t, rest.IsValid())
				before := maps.Clone(m.taken)
				if p := m.drawPrefix(t); m.isTaken(p) {
					require.NoError(t, a.Release(p))
					m.mark(p, false)
				} else if m.isFree(p) {
					require.NoError(t, a.Take(p))
					m.mark(p, true)
				}
				require.NoError(t, a.SetFree(r, b))
				for _, addr := range m.set {
					if r.Contains(addr) {
						delete(m.taken, addr)
						if before[addr] {
							m.taken[addr] = true
						}
					}
				}
			},
			"Clone": func(t *rapid.T) {
				old := a
				a = a.Clone()
				old.TakeFirst(width)
			},
			"": func(t *rapid.T) {
				require.NoError(t, a.Check())
				free := m.free()
				require.Equal(t, cidr.CountOf(uint64(len(free))), a.Free())
				require.Equal(t, cidr.CountOf(uint64(len(m.taken))), a.Taken())
				require.Equal(t, cidr.CountOf(uint64(len(m.set))), a.Total())
				require.Equal(t, ranges(free), slices.Collect(a.FreeRanges()))
				require.True(t, set.Equal(a.Set()))
				taken := slices.DeleteFunc(slices.Clone(m.set), func(addr netip.Addr) bool { return !m.taken[addr] })
				require.Equal(t, ranges(taken), slices.Collect(a.TakenRanges()))
				p := m.drawPrefix(t)
				require.Equal(t, m.isFree(p), a.IsFree(p), "IsFree(%v)", p)
				require.Equal(t, m.isTaken(p), a.IsTaken(p), "IsTaken(%v)", p)
				require.Equal(t, m.covers(p), a.Covers(p), "Covers(%v)", p)
			},
		})
	})
}

// ranges joins sorted addresses into ranges.
func ranges(addrs []netip.Addr) []netipx.IPRange {
	var out []netipx.IPRange
	for _, addr := range addrs {
		if n := len(out); n > 0 && out[n-1].To().Next() == addr {
			out[n-1] = netipx.IPRangeFrom(out[n-1].From(), addr)
		} else {
			out = append(out, netipx.IPRangeFrom(addr, addr))
		}
	}
	return out
}
