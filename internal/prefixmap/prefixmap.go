// Package prefixmap has a map whose keys are prefixes of either family, which finds the longest one that contains an
// address.
package prefixmap

import (
	"encoding/binary"
	"net/netip"
)

// Map has at most one value for each prefix, which must be masked. Its keys take less room than a [netip.Prefix] and
// have no pointer. It is not safe for concurrent changes. The zero Map is empty, and can be read but not changed.
type Map[V any] struct {
	v4      map[uint64]V // by address and length
	v6      map[key6]V
	lengths [2][129]int // how many prefixes of each length it has: IPv4, IPv6
}

// key6 is an IPv6 prefix.
type key6 struct {
	high, low uint64
	bits      uint8
}

// New returns an empty map.
func New[V any]() Map[V] { return Map[V]{v4: map[uint64]V{}, v6: map[key6]V{}} }

func key4Of(p netip.Prefix) uint64 {
	a := p.Addr().As4()
	return uint64(binary.BigEndian.Uint32(a[:]))<<8 | uint64(p.Bits())
}

func key6Of(p netip.Prefix) key6 {
	a := p.Addr().As16()
	return key6{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]), uint8(p.Bits())}
}

// Get returns the value of the prefix; the zero value if it has none.
func (m *Map[V]) Get(p netip.Prefix) V {
	if p.Addr().Is4() {
		return m.v4[key4Of(p)]
	}
	return m.v6[key6Of(p)]
}

// Set gives the prefix a value, in place of the one that it had.
func (m *Map[V]) Set(p netip.Prefix, v V) {
	if p.Addr().Is4() {
		before := len(m.v4)
		m.v4[key4Of(p)] = v
		m.lengths[0][p.Bits()] += len(m.v4) - before
	} else {
		before := len(m.v6)
		m.v6[key6Of(p)] = v
		m.lengths[1][p.Bits()] += len(m.v6) - before
	}
}

// Delete takes the prefix's value away, if it has one.
func (m *Map[V]) Delete(p netip.Prefix) {
	if p.Addr().Is4() {
		before := len(m.v4)
		delete(m.v4, key4Of(p))
		m.lengths[0][p.Bits()] += len(m.v4) - before
	} else {
		before := len(m.v6)
		delete(m.v6, key6Of(p))
		m.lengths[1][p.Bits()] += len(m.v6) - before
	}
}

// Len returns how many prefixes have a value.
func (m *Map[V]) Len() int { return len(m.v4) + len(m.v6) }

// Longest returns the value of the longest prefix that contains addr, and whether there is one. No prefix contains an
// IPv4-mapped IPv6 address. A zone is ignored. It costs a look-up for each length that the map has, at most.
func (m *Map[V]) Longest(addr netip.Addr) (v V, ok bool) {
	if addr.Is4In6() {
		return v, false
	}
	for bits := addr.BitLen(); addr.IsValid() && bits >= 0; bits-- {
		p := netip.PrefixFrom(addr, bits).Masked()
		switch {
		case addr.Is4() && m.lengths[0][bits] > 0:
			v, ok = m.v4[key4Of(p)]
		case addr.Is6() && m.lengths[1][bits] > 0:
			v, ok = m.v6[key6Of(p)]
		}
		if ok {
			break
		}
	}
	return v, ok
}
