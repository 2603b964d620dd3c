package allocator

import (
	"fmt"
	"math/bits"
	"net/netip"
)

// BestFree returns the free prefix of the length bits for which the smallest free block has to be divided, or none
// (best fit); of several, the lowest. It does not take it. A free block is a free prefix that is not part of a larger
// free one, and the result is its beginning. So large blocks stay whole for those who need them.
//
// Errors: [ErrExhausted]; [ErrInvalid] for a length that the family does not have.
//
// Cost: the first call looks at every node, and makes the allocator remember 24 bytes more for each. From then on a
// call looks at the nodes that have been changed since the last one, at 64 slots in each: about a microsecond after one
// change.
func (a *Allocator) BestFree(bits int) (netip.Prefix, error) {
	order, err := a.order(bits)
	if err != nil {
		return netip.Prefix{}, err
	}
	x, ok := uint128{}, false
	if !a.isZero() {
		x, ok = a.tree.best(order)
	}
	if !ok {
		return netip.Prefix{}, errNone
	}
	return netip.PrefixFrom(x.addr(a.is4), bits), nil
}

// errNone has no address in it, so that a search that finds nothing allocates nothing.
var errNone = fmt.Errorf("%w: no free prefix of the length is left", ErrExhausted)

// orders are the orders that free blocks have, as far as is known.
type orders struct {
	set   uint128 // a bit for each order; 2^127 for 128 too
	known bool
}

// best returns the start of the lowest one of the smallest free blocks that have room for a block of the order.
func (t *tree) best(order uint) (uint128, bool) {
	if t.nodes[rootNode].max < int16(order) {
		return uint128{}, false
	}
	if t.nodes[rootNode].max == 128 {
		return uint128{}, true
	}
	if t.orders == nil {
		t.orders = make([]orders, len(t.nodes), cap(t.nodes))
	}
	fits := t.ordersIn(rootNode).shr(order)
	return t.lowestOf(order + fits.trailingZeros()), true
}

// ordersIn returns which orders the free blocks in node n have.
func (t *tree) ordersIn(n uint32) uint128 {
	if o := t.orders[n]; o.known {
		return o.set
	}
	nd := &t.nodes[n]
	set := ordersOf(nd.full).shl(nd.shift())
	if nd.mixed != 0 {
		for _, value := range t.values(nd) {
			set = set.or(t.ordersOfSlot(nd, value))
		}
	}
	t.orders[n] = orders{set, true}
	return set
}

// ordersOfSlot returns which orders the free blocks in the mixed slot with this value have. What is free around a node
// is one block of each order between that of the node and that of the slot.
func (t *tree) ordersOfSlot(nd *node, value uint64) uint128 {
	if nd.order == wordOrder {
		return ordersOf(value)
	}
	e := edge(value)
	set := t.ordersIn(e.node())
	if childOrder := t.nodes[e.node()].spanOrder(); e.background() {
		set = set.or(uint128{lo: 1}.shl(nd.shift()).sub(uint128{lo: 1}.shl(childOrder)))
	}
	return set
}

// lowestOf returns the start of the lowest free block that has the order, which there is.
func (t *tree) lowestOf(order uint) uint128 {
	for n := uint32(rootNode); ; {
		nd := &t.nodes[n]
		shift := nd.shift()
		if order >= shift {
			return nd.slotStart(uint(bits.TrailingZeros64(maximal(nd.full, order-shift))))
		}
		s, value := t.slotOf(nd, order)
		if nd.order == wordOrder {
			x := nd.slotStart(s)
			x.lo |= uint64(bits.TrailingZeros64(maximal(value, order)))
			return x
		}
		e := edge(value)
		child := &t.nodes[e.node()]
		if e.background() && order >= child.spanOrder() { // the other half of the block around the node
			half := uint128{lo: 1}.shl(order)
			x := child.base.floor(order)
			return uint128{x.hi ^ half.hi, x.lo ^ half.lo}
		}
		n = e.node()
	}
}

// slotOf returns the lowest mixed slot of nd in which a free block has the order, which there is, and its value.
func (t *tree) slotOf(nd *node, order uint) (s uint, value uint64) {
	values := t.values(nd)
	for m := nd.mixed; m != 0; m &= m - 1 {
		s, value = uint(bits.TrailingZeros64(m)), values[0]
		values = values[1:]
		if t.ordersOfSlot(nd, value).shr(order).lo&1 != 0 {
			break
		}
	}
	return s, value
}

// ordersOf returns a bit for each order that a block of w has which is free and not part of a larger free one.
func ordersOf(w uint64) uint128 {
	var set uint64
	for order := uint(0); w != 0; order++ {
		larger := w & (w >> (1 << order)) & starts[(order+1)&7]
		if w&^(larger|larger<<(1<<order)) != 0 {
			set |= 1 << order
		}
		w = larger
	}
	return uint128{lo: set}
}

// maximal returns a bit for the start of each block of the order that is free in w and not part of a larger free one.
func maximal(w uint64, order uint) uint64 {
	blocks := freeBlocks(w, order)
	larger := blocks & (blocks >> (1 << order)) & starts[(order+1)&7]
	return blocks &^ (larger | larger<<(1<<order))
}

// forget makes the nodes that lead to a change be looked at again.
func (t *tree) forget(path []uint32) {
	for _, n := range path {
		t.orders[n].known = false
	}
}
