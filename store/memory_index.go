package store

import (
	"net/netip"
	"slices"
)

// prefixIndex tells which records of a table have a prefix. It is not safe
// for concurrent changes.
type prefixIndex struct {
	holders map[netip.Prefix]holders
	lengths [2][129]int // how many prefixes of each length there are: IPv4, IPv6
}

// holders are the names of the records that have a prefix: nearly always one.
type holders struct {
	first string
	more  []string
}

func (x *prefixIndex) add(r *Record) {
	for i, p := range r.Prefixes {
		if slices.Contains(r.Prefixes[:i], p) {
			continue
		}
		h, ok := x.holders[p]
		if !ok {
			h.first = r.Name
			*x.length(p)++
		} else {
			h.more = append(slices.Clone(h.more), r.Name)
		}
		x.holders[p] = h
	}
}

func (x *prefixIndex) remove(r *Record) {
	for i, p := range r.Prefixes {
		if slices.Contains(r.Prefixes[:i], p) {
			continue
		}
		h := x.holders[p]
		switch {
		case h.first != r.Name:
			h.more = slices.DeleteFunc(h.more, func(name string) bool { return name == r.Name })
		case len(h.more) == 0:
			delete(x.holders, p)
			*x.length(p)--
			continue
		default:
			h = holders{first: h.more[0], more: h.more[1:]}
		}
		x.holders[p] = h
	}
}

func (x *prefixIndex) length(p netip.Prefix) *int {
	if p.Addr().Is4() {
		return &x.lengths[0][p.Bits()]
	}
	return &x.lengths[1][p.Bits()]
}

// longest returns the name of a record that has the longest prefix which contains addr.
func (x *prefixIndex) longest(addr netip.Addr) (name string, ok bool) {
	if !addr.IsValid() || addr.Is4In6() {
		return "", false
	}
	for bits := addr.BitLen(); bits >= 0; bits-- {
		p, err := addr.Prefix(bits)
		if err != nil {
			return "", false
		}
		if *x.length(p) == 0 {
			continue
		}
		if h, ok := x.holders[p]; ok {
			return h.first, true
		}
	}
	return "", false
}
