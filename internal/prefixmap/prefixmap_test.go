package prefixmap_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/prefixmap"
)

// drawPrefix draws from few prefixes of either family, many of which contain one another.
func drawPrefix(t *rapid.T) netip.Prefix {
	var p netip.Prefix
	if rapid.Bool().Draw(t, "IPv4") {
		a := netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, "addr")})
		p = netip.PrefixFrom(a, rapid.SampledFrom([]int{0, 8, 25, 28, 31, 32}).Draw(t, "bits"))
	} else {
		a := netip.AddrFrom16([16]byte{0: 0x20, 7: rapid.Byte().Draw(t, "high"), 15: rapid.Byte().Draw(t, "low")})
		p = netip.PrefixFrom(a, rapid.SampledFrom([]int{0, 3, 56, 62, 64, 120, 127, 128}).Draw(t, "bits"))
	}
	return p.Masked()
}

// longest is what Longest must return, by looking at all.
func longest(of map[netip.Prefix]int, addr netip.Addr) (v int, ok bool) {
	bits := -1
	for p, other := range of {
		if p.Contains(addr.WithZone("")) && p.Bits() > bits {
			v, ok, bits = other, true, p.Bits()
		}
	}
	return v, ok
}

func TestMapAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, model := prefixmap.New[int](), map[netip.Prefix]int{}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				p, v := drawPrefix(t), rapid.Int().Draw(t, "value")
				m.Set(p, v)
				model[p] = v
			},
			"delete": func(t *rapid.T) {
				p := drawPrefix(t)
				m.Delete(p)
				delete(model, p)
			},
			"": func(t *rapid.T) {
				p := drawPrefix(t)
				assert.Equal(t, model[p], m.Get(p), p)
				assert.Equal(t, len(model), m.Len())
				addr := p.Addr()
				if addr.Is6() {
					addr = addr.WithZone("eth0")
				}
				want, wantOK := longest(model, addr)
				got, ok := m.Longest(addr)
				assert.Equal(t, wantOK, ok, addr)
				assert.Equal(t, want, got, addr)
			},
		})
	})
}

// TestNoPrefixContains has addresses that even ::/0 and 0.0.0.0/0 do not contain.
func TestNoPrefixContains(t *testing.T) {
	m := prefixmap.New[int]()
	m.Set(netip.MustParsePrefix("::/0"), 6)
	m.Set(netip.MustParsePrefix("0.0.0.0/0"), 4)
	for _, addr := range []netip.Addr{{}, netip.MustParseAddr("::ffff:10.0.0.1")} {
		_, ok := m.Longest(addr)
		assert.False(t, ok, addr)
	}
	var empty prefixmap.Map[int]
	assert.Zero(t, empty.Get(netip.MustParsePrefix("::/0")))
	_, ok := empty.Longest(netip.MustParseAddr("::1"))
	assert.False(t, ok)
}
