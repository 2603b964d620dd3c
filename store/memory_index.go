package store

import (
	"net/netip"
	"slices"
)

// prefixIndex tells which records of a table have a prefix: nearly always one. It is not safe for concurrent changes.
type prefixIndex struct {
	first   map[netip.Prefix]string   // the names of the records
	more    map[netip.Prefix][]string // the others, where there are several
	lengths [2][129]int               // how many prefixes of each length there are: IPv4, IPv6
}

func newPrefixIndex() *prefixIndex {
	return &prefixIndex{first: map[netip.Prefix]string{}, more: map[netip.Prefix][]string{}}
}

func (x *prefixIndex) add(r *Record) {
	for i, p := range r.Prefixes {
		if slices.Contains(r.Prefixes[:i], p) {
			continue
		}
		if _, ok := x.first[p]; ok {
			x.setMore(p, append(slices.Clone(x.more[p]), r.Name))
			continue
		}
		x.first[p] = r.Name
		*x.length(p)++
	}
}

func (x *prefixIndex) remove(r *Record) {
	for i, p := range r.Prefixes {
		if slices.Contains(r.Prefixes[:i], p) {
			continue
		}
		switch more := x.more[p]; {
		case x.first[p] != r.Name:
			x.setMore(p, slices.DeleteFunc(more, func(name string) bool { return name == r.Name }))
		case len(more) == 0:
			delete(x.first, p)
			*x.length(p)--
		default:
			x.first[p] = more[0]
			x.setMore(p, more[1:])
		}
	}
}

func (x *prefixIndex) setMore(p netip.Prefix, names []string) {
	if len(names) == 0 {
		delete(x.more, p)
	} else {
		x.more[p] = names
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
		if name, ok := x.first[p]; ok {
			return name, true
		}
	}
	return "", false
}
