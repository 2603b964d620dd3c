package allocator

import "math/bits"

// takeFirst takes the lowest free block of the order, and returns its start.
func (t *tree) takeFirst(order uint) (uint128, bool) {
	path := &t.path
	path[0], path[1] = rootNode, t.top
	depth := min(int(t.top), 1)
	if t.nodes[path[depth]].max < int16(order) {
		return uint128{}, false
	}
	for ; ; depth++ {
		n := path[depth]
		nd := &t.nodes[n]
		shift, largest := nd.shift(), nd.max
		if order >= shift { // a whole node at most, since its max is large enough
			s := uint(bits.TrailingZeros64(freeBlocks(nd.full, order-shift)))
			x := nd.slotStart(s)
			t.paintSlots(depth, x, blockMask(s, order-shift), false, maxLevels)
			return x, true
		}
		s := uint(bits.TrailingZeros64(nd.full | nd.mixed))
		if order > 0 {
			s, _ = t.nextSlot(nd, 0, order)
		}
		x := nd.slotStart(s)
		if nd.full>>(s&63)&1 != 0 {
			t.split(n, s, x, order, false)
			t.ascend(depth, x, largest, maxLevels)
			return x, true
		}
		value := t.at(nd, s)
		if shift == wordOrder {
			x.lo |= uint64(bits.TrailingZeros64(freeBlocks(*value, order)))
			after := painted(*value, x, order, false)
			if !nd.isUniformWith(after) || !t.leaveOut(depth, x, false) {
				t.paintWord(nd, depth, x, value, after, false)
			}
			return x, true
		}
		e := edge(*value)
		if e.background() {
			x, _ = t.firstBehind(e, shift, order, x)
			return x, t.flip(x, order, false)
		}
		path[depth+1] = e.node()
	}
}

// first returns the start of the lowest free block of the order that starts at x or above. x is a multiple of
// 2^order.
func (t *tree) first(order uint, x uint128) (uint128, bool) {
	return t.firstIn(rootNode, order, x)
}

// firstIn is first within node n. x lies in its span.
func (t *tree) firstIn(n uint32, order uint, x uint128) (uint128, bool) {
	nd := &t.nodes[n]
	if nd.max < int16(order) {
		return uint128{}, false
	}
	shift := nd.shift()
	s := x.slot(shift)
	if order >= shift {
		if found := freeBlocks(nd.full, order-shift) & (allOnes << s); found != 0 {
			return nd.slotStart(uint(bits.TrailingZeros64(found))), true
		}
		return uint128{}, false
	}
	if found, ok := t.firstInSlot(nd, s, order, x); ok {
		return found, true
	}
	s, ok := t.nextSlot(nd, s+1, order)
	if !ok {
		return uint128{}, false
	}
	return t.firstInSlot(nd, s, order, nd.slotStart(s))
}

// firstInSlot is first within slot s of nd. x lies in the slot.
func (t *tree) firstInSlot(nd *node, s, order uint, x uint128) (uint128, bool) {
	bit := uint64(1) << s
	if nd.full&bit != 0 {
		return x, true
	}
	if nd.mixed&bit == 0 {
		return uint128{}, false
	}
	value := *t.at(nd, s)
	if nd.order > wordOrder {
		return t.firstBehind(edge(value), nd.shift(), order, x)
	}
	if found := freeBlocks(value, order) & (allOnes << (x.lo & 63)); found != 0 {
		return uint128{x.hi, x.lo&^63 | uint64(bits.TrailingZeros64(found))}, true
	}
	return uint128{}, false
}

// firstBehind is first within a slot of 2^slotOrder addresses that has the edge e. x lies in the slot.
func (t *tree) firstBehind(e edge, slotOrder, order uint, x uint128) (uint128, bool) {
	if e.max() < int16(order) {
		return uint128{}, false
	}
	child := &t.nodes[e.node()]
	childOrder := child.spanOrder()
	inside := x.sameBlock(child.base, childOrder)
	switch {
	case !e.background():
		if x.less(child.base) {
			x = child.base
		} else if !inside {
			return uint128{}, false
		}
		return t.firstIn(e.node(), order, x)
	case order <= childOrder && inside:
		if found, ok := t.firstIn(e.node(), order, x); ok {
			return found, true
		}
		return within(child.base.last(childOrder).next(), x, slotOrder)
	case order > childOrder && x.sameBlock(child.base, order):
		return within(x.last(order).next(), x, slotOrder)
	default:
		return x, true
	}
}

// within returns next if it is still in the aligned block of 2^order addresses that x lies in.
func within(next, x uint128, order uint) (uint128, bool) {
	return next, next.sameBlock(x, order)
}

// nextSlot is the first slot of nd at from or above in which there is a free block of the order, which is less
// than that of a slot.
func (t *tree) nextSlot(nd *node, from, order uint) (uint, bool) {
	above := allOnes << from // none if from is 64
	full := uint(bits.TrailingZeros64(nd.full & above))
	if order == 0 {
		s := uint(bits.TrailingZeros64((nd.full | nd.mixed) & above))
		return s, s < 64
	}
	if from < 64 {
		values := t.values(nd)[rank(nd.mixed, from):]
		for m := nd.mixed & above; m != 0; m &= m - 1 {
			s := uint(bits.TrailingZeros64(m))
			if s > full {
				break
			}
			if t.hasBlock(nd, values[0], order) {
				return s, true
			}
			values = values[1:]
		}
	}
	return full, full < 64
}

// hasBlock reports whether the mixed slot with this value holds a free block of the order.
func (t *tree) hasBlock(nd *node, value uint64, order uint) bool {
	if nd.order == wordOrder {
		return freeBlocks(value, order) != 0
	}
	return edge(value).max() >= int16(order)
}

// fill is how much of a block is free.
type fill uint8

const (
	nothingFree fill = iota
	partlyFree
	allFree
)

// fillOf returns how much of the block of 2^order addresses at x is free.
func (t *tree) fillOf(x uint128, order uint) fill {
	n := uint32(rootNode)
	for {
		nd := &t.nodes[n]
		shift := nd.shift()
		s := x.slot(shift)
		if order >= shift {
			return fillOfMask(nd.full, nd.mixed, blockMask(s, order-shift))
		}
		bit := uint64(1) << s
		if nd.mixed&bit == 0 {
			return fillOfMask(nd.full, 0, bit)
		}
		value := *t.at(nd, s)
		if nd.order == wordOrder {
			return fillOfMask(value, 0, blockMask(uint(x.lo&63), order))
		}
		e := edge(value)
		child := &t.nodes[e.node()]
		childOrder := child.spanOrder()
		switch {
		case childOrder == shift || order <= childOrder && x.sameBlock(child.base, childOrder):
			n = e.node()
		case order > childOrder && x.sameBlock(child.base, order):
			return partlyFree
		case e.background():
			return allFree
		default:
			return nothingFree
		}
	}
}

func fillOfMask(full, mixed, mask uint64) fill {
	switch {
	case full&mask == mask:
		return allFree
	case (full|mixed)&mask == 0:
		return nothingFree
	default:
		return partlyFree
	}
}
