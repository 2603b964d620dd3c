package allocator

import "math/bits"

// visitor is told what a tree holds, in order, without gaps, from one address to another.
type visitor interface {
	// run is told of addresses that are all free or all taken. It returns false to end the walk.
	run(first, last uint128, free bool) bool
	// words is told of words in one page, from first on, of 64 addresses each: the bit of a free address is set.
	// Each word has both free and taken addresses.
	words(first uint128, free []uint64) bool
}

// walk visits what lies from first to last. It returns false if the visitor ended the walk.
// A word that reaches beyond first or last comes whole.
func (t *tree) walk(first, last uint128, v visitor) bool {
	return t.walkNode(rootNode, first, last, v)
}

// walkNode visits the part of node n that lies from first to last, both within its span.
func (t *tree) walkNode(n uint32, first, last uint128, v visitor) bool {
	nd := &t.nodes[n]
	shift := nd.shift()
	from, to := first.slot(shift), last.slot(shift)
	wanted := allOnes << from & (allOnes >> (63 - to))
	values := t.values(nd)[rank(nd.mixed, from):]
	for s := from; s <= to; {
		lo := nd.slotStart(s)
		count := uint(1)
		var more bool
		switch {
		case nd.mixed>>s&1 == 0:
			// As many slots as are alike, at once.
			free := nd.full>>s&1 != 0
			alike := nd.full
			if !free {
				alike = ^(nd.full | nd.mixed)
			}
			count = uint(bits.TrailingZeros64(^(alike & wanted >> s)))
			more = v.run(later(lo, first), earlier(nd.slotStart(s+count-1).last(shift), last), free)
		case shift == wordOrder:
			count = uint(bits.TrailingZeros64(^(nd.mixed & wanted >> s)))
			more = v.words(lo, values[:count])
			values = values[count:]
		default:
			more = t.walkEdge(edge(values[0]), later(lo, first), earlier(lo.last(shift), last), v)
			values = values[1:]
		}
		if !more {
			return false
		}
		s += count
	}
	return true
}

// walkEdge visits the part of a slot with an edge that lies from first to last, both within the slot.
func (t *tree) walkEdge(e edge, first, last uint128, v visitor) bool {
	child := &t.nodes[e.node()]
	lo, hi := child.base, child.base.last(child.spanOrder())
	if last.less(lo) || hi.less(first) {
		return v.run(first, last, e.background())
	}
	if first.less(lo) && !v.run(first, lo.prev(), e.background()) {
		return false
	}
	if !t.walkNode(e.node(), later(lo, first), earlier(hi, last), v) {
		return false
	}
	return !hi.less(last) || v.run(hi.next(), last, e.background())
}

func later(x, y uint128) uint128 {
	if x.less(y) {
		return y
	}
	return x
}

func earlier(x, y uint128) uint128 {
	if x.less(y) {
		return x
	}
	return y
}

// runs is a visitor that joins what it is told into the longest runs of one kind.
type runs struct {
	first, last uint128 // of the walk
	free        bool    // whether the free runs are wanted or the taken ones
	yield       func(first, last uint128) bool

	open       bool
	start, end uint128
}

func (r *runs) run(first, last uint128, free bool) bool {
	if free != r.free {
		return r.flush()
	}
	if !r.open {
		r.open, r.start = true, first
	}
	r.end = last
	return true
}

func (r *runs) words(base uint128, free []uint64) bool {
	for i, word := range free {
		if !r.word(base.add(uint128{lo: uint64(i) << wordOrder}), word) {
			return false
		}
	}
	return true
}

func (r *runs) word(base uint128, free uint64) bool {
	for s := uint(0); s < 64; {
		w := free >> s
		isFree := w&1 != 0
		if isFree {
			w = ^w
		}
		length := min(uint(bits.TrailingZeros64(w)), 64-s)
		first := base.add(uint128{lo: uint64(s)})
		last := base.add(uint128{lo: uint64(s + length - 1)})
		s += length
		if last.less(r.first) || r.last.less(first) {
			continue
		}
		if !r.run(later(first, r.first), earlier(last, r.last), isFree) {
			return false
		}
	}
	return true
}

func (r *runs) flush() bool {
	if !r.open {
		return true
	}
	r.open = false
	return r.yield(r.start, r.end)
}

// eachRun calls yield for each of the longest runs of free (or of taken) addresses from first to last, in order.
// It returns false if yield did.
func (t *tree) eachRun(first, last uint128, free bool, yield func(first, last uint128) bool) bool {
	r := &runs{first: first, last: last, free: free, yield: yield}
	return t.walk(first, last, r) && r.flush()
}
