package allocator

import (
	"fmt"
	"math/bits"
	"net/netip"
)

// LastFree returns the highest free prefix of the length bits that starts at addr or below. It does not take it, and
// does not go round to the end of the set. It is the counterpart of [Allocator.FirstFree], at the same cost.
//
// Errors: [ErrExhausted]; [ErrInvalid] for a length that the family does not have or an address of the other family.
func (a *Allocator) LastFree(addr netip.Addr, bits int) (netip.Prefix, error) {
	order, err := a.order(bits)
	if err == nil {
		err = a.checkFamily(addr)
	}
	if err != nil {
		return netip.Prefix{}, err
	}
	if a.isZero() {
		return netip.Prefix{}, errNoneBelow
	}
	x, ok := a.tree.last(order, keyOf(addr).floor(order))
	if !ok {
		return netip.Prefix{}, errNoneBelow
	}
	return netip.PrefixFrom(x.addr(a.is4), bits), nil
}

// errNoneBelow has no address in it, for the same reason as errNoneAbove.
var errNoneBelow = fmt.Errorf("%w: no free prefix of the length is left at the address or below", ErrExhausted)

// last returns the start of the highest free block of the order that starts at x or below. x is a multiple of 2^order.
func (t *tree) last(order uint, x uint128) (uint128, bool) { return t.lastIn(rootNode, order, x) }

// lastIn is last within node n. x lies in its span.
func (t *tree) lastIn(n uint32, order uint, x uint128) (uint128, bool) {
	nd := &t.nodes[n]
	if nd.max < int16(order) {
		return uint128{}, false
	}
	shift := nd.shift()
	s := x.slot(shift)
	if order >= shift {
		if found := freeBlocks(nd.full, order-shift) & upTo(s); found != 0 {
			return nd.slotStart(highestBit(found)), true
		}
		return uint128{}, false
	}
	if found, ok := t.lastInSlot(nd, s, order, x); ok {
		return found, true
	}
	s, ok := t.slotBelow(nd, s, order)
	if !ok {
		return uint128{}, false
	}
	return t.lastInSlot(nd, s, order, nd.slotStart(s).last(shift).floor(order))
}

// lastInSlot is last within slot s of nd. x lies in the slot.
func (t *tree) lastInSlot(nd *node, s, order uint, x uint128) (uint128, bool) {
	bit := uint64(1) << (s & 63)
	if nd.full&bit != 0 {
		return x, true
	}
	if nd.mixed&bit == 0 {
		return uint128{}, false
	}
	value := *t.at(nd, s)
	if nd.order > wordOrder {
		return t.lastBefore(edge(value), nd.shift(), order, x)
	}
	if found := freeBlocks(value, order) & upTo(uint(x.lo&63)); found != 0 {
		return uint128{x.hi, x.lo&^63 | uint64(highestBit(found))}, true
	}
	return uint128{}, false
}

// lastBefore is last within a slot of 2^slotOrder addresses that has the edge e. x lies in the slot.
func (t *tree) lastBefore(e edge, slotOrder, order uint, x uint128) (uint128, bool) {
	if e.max() < int16(order) {
		return uint128{}, false
	}
	child := &t.nodes[e.node()]
	childOrder := child.spanOrder()
	inside := x.sameBlock(child.base, childOrder)
	switch {
	case !e.background():
		if !inside {
			if x.less(child.base) {
				return uint128{}, false
			}
			x = child.base.last(childOrder).floor(order)
		}
		return t.lastIn(e.node(), order, x)
	case order <= childOrder && inside:
		if found, ok := t.lastIn(e.node(), order, x); ok {
			return found, true
		}
		return before(child.base, x, order, slotOrder)
	case order > childOrder && x.sameBlock(child.base, order):
		return before(x, x, order, slotOrder)
	default:
		return x, true
	}
}

// before returns the block of the order that ends where start begins, if it is still in the aligned block of
// 2^slotOrder addresses that x lies in.
func before(start, x uint128, order, slotOrder uint) (uint128, bool) {
	return within(start.prev().floor(order), x, slotOrder)
}

// slotBelow is the last slot of nd below s in which there is a free block of the order, which is less than that of a
// slot.
func (t *tree) slotBelow(nd *node, s, order uint) (uint, bool) {
	below := uint64(1)<<(s&63) - 1
	for m := (nd.full | nd.mixed) & below; m != 0; {
		top := highestBit(m)
		if nd.full>>top&1 != 0 || t.hasBlock(nd, *t.at(nd, top), order) {
			return top, true
		}
		m &^= 1 << top
	}
	return 0, false
}

// upTo has the bits 0 to s.
func upTo(s uint) uint64 { return allOnes >> (63 - s&63) }

// highestBit is that of w, which is not 0.
func highestBit(w uint64) uint { return uint(bits.Len64(w)) - 1 }
