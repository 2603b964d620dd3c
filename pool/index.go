package pool

import (
	"encoding/binary"
	"net/netip"
)

// index finds who holds an address: maps by prefix, and how many prefixes there are of each length.
type index struct {
	v4      map[uint64]*kept // by address and length
	v6      map[key6]*kept
	lengths [2][129]int // for IPv4 and IPv6
}

// key6 is an IPv6 prefix. It takes less room than a [netip.Prefix], and has no pointer.
type key6 struct {
	high, low uint64
	bits      uint8
}

func newIndex() index { return index{v4: map[uint64]*kept{}, v6: map[key6]*kept{}} }

func keyOf4(p netip.Prefix) uint64 {
	a := p.Addr().As4()
	return uint64(binary.BigEndian.Uint32(a[:]))<<8 | uint64(p.Bits())
}

func keyOf6(p netip.Prefix) key6 {
	a := p.Addr().As16()
	return key6{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]), uint8(p.Bits())}
}

// get returns who holds the prefix; nil if nobody does.
func (x *index) get(p netip.Prefix) *kept {
	if p.Addr().Is4() {
		return x.v4[keyOf4(p)]
	}
	return x.v6[keyOf6(p)]
}

// set notes who holds the prefix; nil for nobody.
func (x *index) set(p netip.Prefix, k *kept) {
	switch {
	case p.Addr().Is4() && k == nil:
		delete(x.v4, keyOf4(p))
	case p.Addr().Is4():
		x.v4[keyOf4(p)] = k
	case k == nil:
		delete(x.v6, keyOf6(p))
	default:
		x.v6[keyOf6(p)] = k
	}
}

func (x *index) count(p netip.Prefix) *int {
	if p.Addr().Is4() {
		return &x.lengths[0][p.Bits()]
	}
	return &x.lengths[1][p.Bits()]
}

func (x *index) add(k *kept) {
	if k.shares() {
		return // the share has them
	}
	k.each(func(p netip.Prefix) {
		x.set(p, k)
		*x.count(p)++
	})
}

func (x *index) remove(k *kept) {
	if k.shares() {
		return
	}
	k.each(func(p netip.Prefix) {
		if x.get(p) == k { // else a share has it, which its first owner has made of what it had
			x.set(p, nil)
		}
		*x.count(p)--
	})
}

func (x *index) find(addr netip.Addr) *kept {
	for bits := addr.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(addr, bits).Masked()
		if !p.IsValid() || *x.count(p) == 0 {
			continue
		}
		if k := x.get(p); k != nil {
			return k
		}
	}
	return nil
}
