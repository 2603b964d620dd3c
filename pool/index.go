package pool

import (
	"net/netip"

	"github.com/ipalloc/ipalloc/internal/prefixmap"
)

// index finds who holds an address.
type index struct{ prefixmap.Map[*kept] }

func newIndex() index { return index{prefixmap.New[*kept]()} }

func (x *index) add(k *kept) {
	if !k.shares() { // else the share has them
		k.each(func(p netip.Prefix) { x.Set(p, k) })
	}
}

func (x *index) remove(k *kept) {
	if k.shares() {
		return
	}
	k.each(func(p netip.Prefix) {
		if x.Get(p) == k { // else a share has it, which its first owner has made of what it had
			x.Delete(p)
		}
	})
}

func (x *index) find(addr netip.Addr) *kept {
	k, _ := x.Longest(addr)
	return k
}
