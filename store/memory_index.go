package store

import (
	"net/netip"
	"slices"

	"github.com/ipalloc/ipalloc/internal/prefixmap"
)

// prefixIndex tells which records of a table have a prefix: nearly always one. It is not safe for concurrent changes.
type prefixIndex struct {
	first prefixmap.Map[*Record]
	more  map[netip.Prefix][]*Record // the others, where there are several
}

func newPrefixIndex() *prefixIndex {
	return &prefixIndex{first: prefixmap.New[*Record](), more: map[netip.Prefix][]*Record{}}
}

func (x *prefixIndex) add(r *Record) {
	for i, p := range r.Prefixes {
		switch {
		case slices.Contains(r.Prefixes[:i], p):
		case x.first.Get(p) != nil:
			x.more[p] = append(x.more[p], r)
		default:
			x.first.Set(p, r)
		}
	}
}

func (x *prefixIndex) remove(r *Record) {
	for i, p := range r.Prefixes {
		if slices.Contains(r.Prefixes[:i], p) {
			continue
		}
		switch more := x.more[p]; {
		case x.first.Get(p) != r:
			x.setMore(p, slices.DeleteFunc(more, func(other *Record) bool { return other == r }))
		case len(more) == 0:
			x.first.Delete(p)
		default:
			x.first.Set(p, more[0])
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

// longest returns a record that has the longest prefix which contains addr; nil if there is none.
func (x *prefixIndex) longest(addr netip.Addr) *Record {
	r, _ := x.first.Longest(addr)
	return r
}
