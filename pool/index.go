package pool

import "net/netip"

// index finds who holds an address: a map by prefix, and how many prefixes there are of each length.
type index struct {
	byPrefix map[netip.Prefix]*holding
	lengths  [2][129]int // for IPv4 and IPv6
}

func newIndex() index { return index{byPrefix: map[netip.Prefix]*holding{}} }

func (x *index) count(p netip.Prefix) *int {
	if p.Addr().Is4() {
		return &x.lengths[0][p.Bits()]
	}
	return &x.lengths[1][p.Bits()]
}

func (x *index) add(a *holding) {
	if a.shares() {
		return // the share has them
	}
	for _, p := range a.allPrefixes() {
		x.byPrefix[p] = a
		*x.count(p)++
	}
}

func (x *index) remove(a *holding) {
	if a.shares() {
		return
	}
	for _, p := range a.allPrefixes() {
		if x.byPrefix[p] == a { // else a share has it, which its first owner has made of what it had
			delete(x.byPrefix, p)
		}
		*x.count(p)--
	}
}

func (x *index) find(addr netip.Addr) *holding {
	for bits := addr.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(addr, bits).Masked()
		if !p.IsValid() || *x.count(p) == 0 {
			continue
		}
		if a := x.byPrefix[p]; a != nil {
			return a
		}
	}
	return nil
}
