package allocator

import "math/bits"

// tree is a set of free addresses: a radix tree with 64 slots in a node. A slot that is free or taken throughout is one
// bit, and nodes without any other slots are left out.
//
// A node at level l (1, 2, …) spans 64 slots of 2^(6l) addresses. At level 1 (a page of 4,096 addresses) a
// slot with both free and taken addresses is a word, one bit an address; above, it is an edge to a node
// of some lower level that lies within the slot, with all of the slot outside of that node being free or
// taken throughout: the edge's background. What the edge leads to is never the same as its background, so
// that a slot which is marked as mixed has both free and taken addresses.
//
// Every node knows the order of the largest free aligned block within its span, and every edge that within
// its slot. That makes finding the lowest free block one walk down, and all operations O(levels), with no more
// than 64 slots looked at on each.
//
// The words and edges of a node stand in slab, sorted and packed, in runs of 2, 4, … 64 that are reused through
// free lists, as the nodes are; a single one stands in the node itself. When slab is full it is copied to a larger
// one, without its unused runs if they are many. One slice saves the pointer and the header that a bitset for each node
// would need, and lets a search follow the masks of the node above to the first free bit.
type tree struct {
	nodes    []node
	slab     []uint64
	freeNode uint32    // head of the list of unused nodes, linked through node.slots; 0 ends it
	freeRun  [7]uint32 // heads of the lists of unused runs of 1<<i in slab, linked through their first word
	unused   int       // words of slab in these lists

	orders []orders // of the free blocks in each node; nil unless they are asked for

	path [maxLevels]uint32 // from the root to the node that is being changed
	top  uint32            // the node that all that is free lies beneath, if the root has no more to tell; else 0
}

// node is 48 bytes.
type node struct {
	base  uint128   // the first address of the span
	full  uint64    // slots that are free throughout
	mixed uint64    // slots that are neither free nor taken throughout
	one   [1]uint64 // the value of the mixed slot, if there is only one
	slots uint32    // where in slab the values of the mixed slots start, if there are more
	class uint8     // there is room for 1<<class of them; noRun if there is not more than one
	order uint8     // a slot spans 1<<order addresses: 6 × level
	max   int16     // order of the largest free aligned block; -1 if nothing is free
}

const (
	rootNode = 0
	noRun    = 255
	// fewWords is the least room that a larger slab has.
	fewWords = 4
	// maxLevels is the number of levels of an IPv6 tree, whose root at level 21 has four slots of 2^126.
	maxLevels = 22
)

// rootOrder is the order of a root's slots.
func rootOrder(is4 bool) uint8 {
	if is4 {
		return 30
	}
	return 126
}

func newTree(is4 bool) tree {
	return tree{
		nodes: []node{{order: rootOrder(is4), max: -1, class: noRun}},
		slab:  make([]uint64, 1), // 0 ends a free list, so nothing may stand there
	}
}

func (nd *node) shift() uint     { return uint(nd.order) }
func (nd *node) spanOrder() uint { return uint(nd.order) + 6 }

// slotStart is the first address of a slot.
func (nd *node) slotStart(s uint) uint128 {
	return nd.base.or(uint128{lo: uint64(s)}.shl(nd.shift()))
}

// edge is the value of a mixed slot above level 1: a node, the order of the largest free block in the slot, and
// whether the slot is free outside of the node.
type edge uint64

// edgeTo makes the edge of a slot of 2^slotOrder addresses to node n. If the node fills the slot, the background
// does not matter, and the edge has it as taken.
func (t *tree) edgeTo(n uint32, background bool, slotOrder uint) edge {
	nd := &t.nodes[n]
	if background && nd.spanOrder() < slotOrder {
		// The node lies within one half of the slot, so that the other half is free.
		return edge(n) | edge(slotOrder-1)<<32 | 1<<48
	}
	return edge(n) | edge(uint16(nd.max))<<32
}

func (e edge) node() uint32     { return uint32(e) }
func (e edge) max() int16       { return int16(uint16(e >> 32)) }
func (e edge) background() bool { return e>>48 != 0 }

// paint makes the block of 2^order addresses at x free or taken, whatever it was.
func (t *tree) paint(x uint128, order uint, free bool) { t.set(x, order, free, false) }

// flip makes the block of 2^order addresses at x free or taken if all of it was the opposite.
// Otherwise it returns false and changes nothing.
func (t *tree) flip(x uint128, order uint, free bool) bool { return t.set(x, order, free, true) }

// set is paint, or flip if strict.
func (t *tree) set(x uint128, order uint, free, strict bool) bool {
	path := &t.path
	path[0], path[1] = rootNode, t.top
	jointAt, depth := maxLevels, 0
	if top := &t.nodes[t.top]; t.top != 0 && order <= top.spanOrder() && x.sameBlock(top.base, top.spanOrder()) {
		depth = 1
	}
	for ; ; depth++ {
		n := path[depth]
		nd := &t.nodes[n]
		shift, largest := nd.shift(), nd.max
		s := x.slot(shift)
		if order >= shift {
			mask := blockMask(s, order-shift)
			if strict && fillOfMask(nd.full, nd.mixed, mask) != opposite(free) {
				return false
			}
			t.paintSlots(depth, x, mask, free, jointAt)
			return true
		}
		if nd.mixed>>(s&63)&1 == 0 {
			if (nd.full>>(s&63)&1 != 0) == free {
				return false
			}
			t.split(n, s, x, order, free)
			if shift != wordOrder || t.concernsOthers(&t.nodes[n], largest) || jointAt != maxLevels {
				t.ascend(depth, x, largest, jointAt)
			}
			return true
		}
		value := t.at(nd, s)
		if shift == wordOrder {
			if strict && fillOfMask(*value, 0, blockMask(uint(x.lo&63), order)) != opposite(free) {
				return false
			}
			after := painted(*value, x, order, free)
			if !nd.isUniformWith(after) || !t.leaveOut(depth, x, free) {
				t.paintWord(nd, depth, x, value, after, free)
			}
			return true
		}
		e := edge(*value)
		child := &t.nodes[e.node()]
		childOrder := child.spanOrder()
		switch {
		case childOrder == shift || order <= childOrder && x.sameBlock(child.base, childOrder):
			path[depth+1] = e.node()
		case order > childOrder && x.sameBlock(child.base, order):
			if !strict {
				t.replaceEdge(n, s, x, order, free)
				t.ascend(depth, x, largest, jointAt)
			}
			return !strict
		case e.background() == free:
			return false
		default:
			path[depth+1] = t.joint(n, s, x)
			jointAt = depth
		}
	}
}

// opposite is what a block must be wholly before it becomes free, or taken.
func opposite(free bool) fill {
	if free {
		return nothingFree
	}
	return allFree
}

// replaceEdge drops what is beneath slot s of node n, which is all in the block at x, and paints the block.
func (t *tree) replaceEdge(n uint32, s uint, x uint128, order uint, free bool) {
	nd := &t.nodes[n]
	e := edge(*t.at(nd, s))
	t.drop(e.node())
	t.unmix(nd, s, e.background(), e.max())
	if e.background() != free {
		t.split(n, s, x, order, free)
	}
}

// paintSlots makes slots of the node at path[depth], which is around x, free or taken throughout.
func (t *tree) paintSlots(depth int, x uint128, mask uint64, free bool, jointAt int) {
	nd := &t.nodes[t.path[depth]]
	for m := nd.mixed & mask; m != 0; m &= m - 1 {
		s := uint(bits.TrailingZeros64(m))
		if nd.order > wordOrder {
			t.drop(edge(*t.at(nd, s)).node())
		}
		t.removeValue(nd, s)
	}
	if free {
		nd.full |= mask
	} else {
		nd.full &^= mask
	}
	if nd.mixed == 0 && nd.full == uniform(free) && t.leaveOut(depth, x, free) {
		return
	}
	largest := nd.max
	t.settle(nd, nd.max, -1)
	t.ascend(depth, x, largest, jointAt)
}

// paintWord gives a mixed slot of nd, which is the page of x at path[depth], another word, which has more free
// addresses than before or fewer.
func (t *tree) paintWord(nd *node, depth int, x uint128, value *uint64, after uint64, free bool) {
	before, largest := *value, nd.max
	*value = after
	switch {
	case after == 0 || after == allOnes:
		t.unmix(nd, x.slot(wordOrder), free, largestFree(before))
	case nd.full != 0:
	case free:
		nd.max = max(nd.max, largestFree(after))
	default:
		t.settle(nd, largestFree(before), largestFree(after))
	}
	if t.concernsOthers(nd, largest) {
		t.ascend(depth, x, largest, maxLevels)
	}
}

// leaveOut drops the node at path[depth], which is around x and is to become free or taken throughout, and reports
// whether it may: nothing in the slot that leads to it must be left of the other kind.
func (t *tree) leaveOut(depth int, x uint128, free bool) bool {
	if depth == 0 {
		return false
	}
	n, parent := t.path[depth], &t.nodes[t.path[depth-1]]
	shift, largest := parent.shift(), parent.max
	s := x.slot(shift)
	e := edge(*t.at(parent, s))
	if t.nodes[n].spanOrder() != shift && e.background() != free {
		return false
	}
	t.recycle(n)
	t.unmix(parent, s, free, e.max())
	t.ascend(depth-1, x, largest, maxLevels)
	return true
}

func painted(word uint64, x uint128, order uint, free bool) uint64 {
	mask := blockMask(uint(x.lo&63), order)
	if free {
		return word | mask
	}
	return word &^ mask
}

// uniform has all bits set, or none.
func uniform(free bool) uint64 {
	if free {
		return allOnes
	}
	return 0
}

// split turns slot s of node n, which is taken or free throughout, into a mixed one in which the block at x is
// the opposite. The block is smaller than the slot.
func (t *tree) split(n uint32, s uint, x uint128, order uint, free bool) {
	shift := t.nodes[n].shift()
	value := uint64(0)
	if shift == wordOrder {
		value = delegated(x, order, free)
	} else {
		child := t.newDelegated(x, order, free)
		value = uint64(t.edgeTo(child, !free, shift))
	}
	nd := &t.nodes[n]
	t.insertValue(nd, s, value)
	if free {
		t.settle(nd, -1, int16(order))
		return
	}
	nd.full &^= 1 << (s & 63)
	t.settle(nd, int16(shift), int16(shift)-1) // half of the slot is left
}

// delegated is the word of 64 addresses in which the block at x is free and the rest is taken, or the other way round.
func delegated(x uint128, order uint, free bool) uint64 {
	mask := blockMask(uint(x.lo&63), order)
	if free {
		return mask
	}
	return ^mask
}

// newDelegated makes the smallest node that spans more than the block at x. In it the block is free and
// the rest is taken, or the other way round.
func (t *tree) newDelegated(x uint128, order uint, free bool) uint32 {
	level := uint(1)
	if order >= pageOrder {
		level = order / 6
	}
	shift := 6 * level
	s := x.slot(shift)
	var full, mixed, word uint64
	if order >= shift {
		full = blockMask(s, order-shift)
	} else {
		mixed, word = 1<<(s&63), delegated(x, order, free)
	}
	largest := int16(order)
	if !free {
		full = ^(full | mixed)
		largest = int16(shift) + 5 // half of the node is left
	}
	n := t.newNode()
	nd := &t.nodes[n]
	nd.clear(x, level, full, largest)
	nd.mixed, nd.one[0] = mixed, word
	return n
}

// joint puts a node between node n and what its slot s leads to: the lowest one that spans both that and x.
// It returns the new node.
func (t *tree) joint(n uint32, s uint, x uint128) uint32 {
	e := edge(*t.at(&t.nodes[n], s))
	target := t.nodes[e.node()].base
	difference := uint128{x.hi ^ target.hi, x.lo ^ target.lo}
	level := (difference.bitLen() - 1) / 6
	full, largest := uint64(0), int16(-1)
	if e.background() {
		full, largest = allOnes, int16(6*level+6)
	}
	joint := t.newNode()
	nd := &t.nodes[joint]
	nd.clear(x, level, full, largest)
	t.hang(nd, target.slot(nd.shift()), e)
	upper := t.nodes[n].shift()
	*t.at(&t.nodes[n], s) = uint64(t.edgeTo(joint, e.background(), upper))
	return joint
}

// hang puts the node that e leads to into slot s of nd, which is not mixed. That node may fill this
// slot even if it did not fill its former one.
func (t *tree) hang(nd *node, s uint, e edge) {
	n, shift := e.node(), nd.shift()
	nd.full &^= 1 << s
	if !t.isUniform(n, e.background(), shift) {
		e = t.shortcut(n, e.background(), shift)
		t.insertValue(nd, s, uint64(e))
		t.settle(nd, nd.max, e.max())
		return
	}
	if t.nodes[n].full != 0 {
		nd.full |= 1 << s
	}
	t.recycle(n)
	t.settle(nd, nd.max, -1)
}

// ascend updates all nodes above the node at path[depth], which was changed around x and had largest
// as its max. It stops at the first node that does not change, but not below the node at
// path[jointAt], which may have become superfluous.
func (t *tree) ascend(depth int, x uint128, largest int16, jointAt int) {
	path := &t.path
	if t.orders != nil {
		t.forget(path[:depth+1])
	}
	for i := depth; i > 0; i-- {
		nd := &t.nodes[path[i]]
		varied := nd.isVaried()
		if nd.max == largest && varied && i <= jointAt {
			return
		}
		parent := &t.nodes[path[i-1]]
		if i == 1 && varied && t.top == path[1] { // all that the root has is this node
			parent.one[0] = uint64(t.edgeTo(t.top, false, parent.shift()))
			parent.max = nd.max
			return
		}
		largest = parent.max
		s := x.slot(parent.shift())
		value := t.at(parent, s)
		before := edge(*value)
		after := before
		switch {
		case varied:
			after = t.edgeTo(path[i], before.background(), parent.shift())
		case t.isUniform(path[i], before.background(), parent.shift()):
			free := nd.full != 0
			t.recycle(path[i])
			t.unmix(parent, s, free, before.max())
			continue
		default:
			after = t.shortcut(path[i], before.background(), parent.shift())
		}
		*value = uint64(after)
		t.settle(parent, before.max(), after.max())
	}
	t.findTop()
}

// findTop brings t.top up to date after a change of the root.
func (t *tree) findTop() {
	t.top = 0
	root := &t.nodes[rootNode]
	if root.full != 0 || root.mixed == 0 || root.mixed&(root.mixed-1) != 0 {
		return
	}
	if e := edge(root.one[0]); !e.background() {
		t.top = e.node()
	}
}

// concernsOthers reports whether nodes above a page, which had largest as its max before a change, may have to change
// too. A page that has become free or taken throughout has another max.
func (t *tree) concernsOthers(page *node, largest int16) bool {
	return page.max != largest || t.orders != nil
}

// isVaried reports whether nd surely is neither free or taken throughout nor to be left out for its only child.
func (nd *node) isVaried() bool {
	if nd.mixed&(nd.mixed-1) == 0 { // one mixed slot at most
		return nd.full != 0 && nd.full|nd.mixed != allOnes || nd.order == wordOrder && nd.mixed != 0
	}
	return true
}

// isUniformWith reports whether a page becomes free or taken throughout with a word in place of one of its mixed slots.
func (nd *node) isUniformWith(word uint64) bool {
	return word+1 <= 1 && nd.class == noRun && nd.full == word&^nd.mixed
}

// isUniform reports whether all of a slot that leads to node n has become free or taken.
func (t *tree) isUniform(n uint32, background bool, slotOrder uint) bool {
	nd := &t.nodes[n]
	fills := nd.spanOrder() == slotOrder
	return nd.full == allOnes && (fills || background) || nd.full|nd.mixed == 0 && (fills || !background)
}

// shortcut returns the edge of a slot that leads to node n. If n has only one child, and everything outside of that
// child, in n and in the slot, is free or everything is taken, the edge leads to the child and n is recycled.
func (t *tree) shortcut(n uint32, background bool, slotOrder uint) edge {
	nd := &t.nodes[n]
	if nd.order == wordOrder || nd.mixed == 0 || nd.mixed&(nd.mixed-1) != 0 || nd.full != 0 && nd.full != ^nd.mixed {
		return t.edgeTo(n, background, slotOrder)
	}
	e := edge(nd.one[0])
	free := nd.full != 0
	alikeAbove := nd.spanOrder() == slotOrder || background == free
	alikeBelow := t.nodes[e.node()].spanOrder() == nd.shift() || e.background() == free
	if !alikeAbove || !alikeBelow {
		return t.edgeTo(n, background, slotOrder)
	}
	t.recycle(n)
	return t.edgeTo(e.node(), free, slotOrder)
}

// settle updates nd.max after a change of full, or after the largest free block in one of its slots changed from
// order before to order after.
func (t *tree) settle(nd *node, before, after int16) {
	switch {
	case nd.full != 0:
		nd.max = int16(nd.shift()) + largestFree(nd.full)
	case after >= nd.max:
		nd.max = after
	case before >= nd.max:
		nd.max = t.scanMax(nd)
	}
}

// scanMax is the order of the largest free block in the mixed slots of nd. It is at most nd.max, and the scan
// stops where it finds that.
func (t *tree) scanMax(nd *node) int16 {
	most := int16(-1)
	if nd.mixed == 0 {
		return most
	}
	for _, value := range t.values(nd) {
		order := edge(value).max()
		if nd.order == wordOrder {
			order = largestFree(value)
		}
		if order > most {
			most = order
			if most >= nd.max {
				break
			}
		}
	}
	return most
}

// unmix makes a mixed slot of nd free or taken throughout. The largest free block in it had the order before, or less.
// What the slot led to has been dropped by the caller.
func (t *tree) unmix(nd *node, s uint, free bool, before int16) {
	t.removeValue(nd, s)
	if free {
		nd.full |= 1 << (s & 63)
	}
	t.settle(nd, before, -1)
}

// at is where the value of the mixed slot s stands.
func (t *tree) at(nd *node, s uint) *uint64 {
	if nd.class == noRun {
		return &nd.one[0]
	}
	return &t.slab[nd.slots+rank(nd.mixed, s)]
}

// values are those of the mixed slots, in order.
func (t *tree) values(nd *node) []uint64 {
	if nd.class == noRun {
		return nd.one[:min(nd.mixed, 1)]
	}
	return t.slab[nd.slots:][:bits.OnesCount64(nd.mixed)]
}

// insertValue marks slot s as mixed and gives it a value.
func (t *tree) insertValue(nd *node, s uint, value uint64) {
	if nd.mixed == 0 {
		nd.mixed = 1 << s
		nd.one[0] = value
		return
	}
	t.insertIntoRun(nd, s, value)
}

// insertIntoRun is insertValue for a node that has a mixed slot already.
func (t *tree) insertIntoRun(nd *node, s uint, value uint64) {
	i := rank(nd.mixed, s)
	count := uint32(bits.OnesCount64(nd.mixed))
	nd.mixed |= 1 << (s & 63)
	if nd.class == noRun {
		nd.class, nd.slots = 1, t.newRun(1)
		t.slab[nd.slots] = nd.one[0]
	} else if count == 1<<nd.class {
		t.resize(nd, nd.class+1, count)
	}
	values := t.slab[nd.slots : nd.slots+count+1]
	copy(values[i+1:], values[i:])
	values[i] = value
}

// removeValue unmarks slot s, which was mixed, and leaves it taken.
func (t *tree) removeValue(nd *node, s uint) {
	if nd.class == noRun {
		nd.mixed = 0
		return
	}
	t.removeFromRun(nd, s)
}

// removeFromRun is removeValue for a node with several mixed slots. A run is halved when it is a quarter full, so that
// going back and forth over one number does not copy each time.
func (t *tree) removeFromRun(nd *node, s uint) {
	i := rank(nd.mixed, s)
	count := uint32(bits.OnesCount64(nd.mixed))
	nd.mixed &^= 1 << (s & 63)
	values := t.slab[nd.slots : nd.slots+count]
	copy(values[i:], values[i+1:])
	count--
	switch {
	case count == 1:
		nd.one[0] = values[0]
		t.freeSlots(nd)
	case count*4 <= 1<<nd.class:
		t.resize(nd, nd.class-1, count)
	}
}

func (t *tree) resize(nd *node, class uint8, count uint32) {
	to := t.newRun(class)
	copy(t.slab[to:to+count], t.slab[nd.slots:nd.slots+count])
	t.freeSlots(nd)
	nd.class, nd.slots = class, to
}

func (t *tree) newRun(class uint8) uint32 {
	size := 1 << class
	if run := t.freeRun[class]; run != 0 {
		t.freeRun[class] = uint32(t.slab[run])
		t.unused -= size
		return run
	}
	if len(t.slab)+size > cap(t.slab) {
		t.makeRoom(size)
	}
	run := len(t.slab)
	t.slab = t.slab[:run+size]
	return uint32(run)
}

// makeRoom copies slab to where there is room for size more words and an eighth of those in use.
func (t *tree) makeRoom(size int) {
	used := len(t.slab) - t.unused
	old, room := t.slab, size+max(used/8, fewWords)
	if t.unused < len(old)/8 {
		t.slab = append(make([]uint64, 0, len(old)+room), old...)
		return
	}
	t.slab = make([]uint64, 1, used+room)
	t.freeRun, t.unused = [7]uint32{}, 0
	for n := range t.nodes {
		if nd := &t.nodes[n]; nd.class != noRun {
			run := old[nd.slots:][:1<<nd.class]
			nd.slots = uint32(len(t.slab))
			t.slab = append(t.slab, run...)
		}
	}
}

func (t *tree) freeSlots(nd *node) {
	if nd.class == noRun {
		return
	}
	t.slab[nd.slots] = uint64(t.freeRun[nd.class])
	t.freeRun[nd.class] = nd.slots
	t.unused += 1 << nd.class
	nd.class, nd.slots = noRun, 0
}

// newNode returns a node that nothing leads to, whatever is in it.
func (t *tree) newNode() uint32 {
	if t.freeNode == 0 {
		t.addNode()
	}
	n := t.freeNode
	t.freeNode = t.nodes[n].slots
	return n
}

// addNode makes an unused node, where there is none.
func (t *tree) addNode() {
	t.freeNode = uint32(len(t.nodes))
	t.nodes = append(t.nodes, node{})
	if t.orders != nil {
		t.orders = append(t.orders, orders{})
	}
}

// clear makes nd a node at the level around x without mixed slots.
func (nd *node) clear(x uint128, level uint, full uint64, largest int16) {
	nd.base = x.floor(6*level + 6)
	nd.full, nd.mixed, nd.slots = full, 0, 0
	nd.class, nd.order, nd.max = noRun, uint8(6*level), largest
}

// recycle gives node n back, without what its slots lead to.
func (t *tree) recycle(n uint32) {
	nd := &t.nodes[n]
	t.freeSlots(nd)
	nd.slots = t.freeNode
	t.freeNode = n
	if t.orders != nil {
		t.orders[n].known = false
	}
}

// drop gives node n and all that is beneath it back.
func (t *tree) drop(n uint32) {
	nd := &t.nodes[n]
	if nd.order > wordOrder && nd.mixed != 0 {
		for _, value := range t.values(nd) {
			t.drop(edge(value).node())
		}
	}
	t.recycle(n)
}
