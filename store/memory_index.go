package store

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// prefixIndex tells which records of a table have a prefix: nearly always one. It is not safe for concurrent changes.
type prefixIndex struct {
	first4  map[uint64]*Record // by key4
	first6  map[key6]*Record
	more    map[netip.Prefix][]*Record // the others, where there are several
	lengths [2][129]int                // how many prefixes of each length there are: IPv4, IPv6
}

// key6 is an IPv6 prefix. Like key4, it takes less room than a [netip.Prefix], and has no pointer.
type key6 struct {
	high, low uint64
	bits      uint8
}

func key4Of(p netip.Prefix) uint64 {
	a := p.Addr().As4()
	return uint64(binary.BigEndian.Uint32(a[:]))<<8 | uint64(p.Bits())
}

func key6Of(p netip.Prefix) key6 {
	a := p.Addr().As16()
	return key6{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]), uint8(p.Bits())}
}

func newPrefixIndex() *prefixIndex {
	return &prefixIndex{first4: map[uint64]*Record{}, first6: map[key6]*Record{}, more: map[netip.Prefix][]*Record{}}
}

// get returns the first record of the prefix; nil if there is none.
func (x *prefixIndex) get(p netip.Prefix) *Record {
	if p.Addr().Is4() {
		return x.first4[key4Of(p)]
	}
	return x.first6[key6Of(p)]
}

// set makes r the first record of the prefix; nil for none.
func (x *prefixIndex) set(p netip.Prefix, r *Record) {
	switch {
	case p.Addr().Is4() && r == nil:
		delete(x.first4, key4Of(p))
	case p.Addr().Is4():
		x.first4[key4Of(p)] = r
	case r == nil:
		delete(x.first6, key6Of(p))
	default:
		x.first6[key6Of(p)] = r
	}
}

func (x *prefixIndex) add(r *Record) {
	for i, p := range r.Prefixes {
		if slices.Contains(r.Prefixes[:i], p) {
			continue
		}
		if x.get(p) != nil {
			x.setMore(p, append(x.more[p], r))
			continue
		}
		x.set(p, r)
		*x.length(p)++
	}
}

func (x *prefixIndex) remove(r *Record) {
	for i, p := range r.Prefixes {
		if slices.Contains(r.Prefixes[:i], p) {
			continue
		}
		switch more := x.more[p]; {
		case x.get(p) != r:
			x.setMore(p, slices.DeleteFunc(more, func(other *Record) bool { return other == r }))
		case len(more) == 0:
			x.set(p, nil)
			*x.length(p)--
		default:
			x.set(p, more[0])
			x.setMore(p, slices.Delete(more, 0, 1))
		}
	}
}

func (x *prefixIndex) setMore(p netip.Prefix, records []*Record) {
	if len(records) == 0 {
		delete(x.more, p)
	} else {
		x.more[p] = records
	}
}

func (x *prefixIndex) length(p netip.Prefix) *int {
	if p.Addr().Is4() {
		return &x.lengths[0][p.Bits()]
	}
	return &x.lengths[1][p.Bits()]
}

// longest returns a record that has the longest prefix which contains addr; nil if there is none.
func (x *prefixIndex) longest(addr netip.Addr) *Record {
	if !addr.IsValid() || addr.Is4In6() {
		return nil
	}
	for bits := addr.BitLen(); bits >= 0; bits-- {
		p, err := addr.Prefix(bits)
		if err != nil {
			return nil
		}
		if *x.length(p) == 0 {
			continue
		}
		if r := x.get(p); r != nil {
			return r
		}
	}
	return nil
}
