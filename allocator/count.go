package allocator

import (
	"math/bits"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// CountFree returns the number of free prefixes of the length bits, which is how many more of them
// [Allocator.TakeFirst] can take.
//
// Errors: [ErrInvalid] for a length that the family does not have.
//
// Cost: O(nodes). Nodes without a free prefix of the length are skipped.
func (a *Allocator) CountFree(bits int) (cidr.Count, error) {
	if a.isZero() {
		return cidr.Count{}, nil
	}
	order, err := a.order(bits)
	if err != nil {
		return cidr.Count{}, err
	}
	return a.tree.countBlocks(rootNode, order), nil
}

// LargestFree returns the length, in bits, of the largest free prefix, which is the smallest length for which
// [Allocator.TakeFirst] succeeds. The result is false if no address is free. Cost: O(1).
func (a *Allocator) LargestFree() (bits int, ok bool) {
	if a.free.IsZero() {
		return 0, false
	}
	return a.width() - int(a.tree.nodes[rootNode].max), true
}

// FreeIn returns the number of free addresses in r, which is 0 for a range that is invalid or of the other family.
// Cost: O(levels + nodes in r).
func (a *Allocator) FreeIn(r netipx.IPRange) cidr.Count {
	if a.isZero() || !r.IsValid() || r.From().Is4() != a.is4 {
		return cidr.Count{}
	}
	return a.countFree(a.spanOf(r))
}

// countBlocks returns the number of free blocks of the order in node n.
func (t *tree) countBlocks(n uint32, order uint) cidr.Count {
	nd := &t.nodes[n]
	shift := nd.shift()
	switch {
	case nd.max < int16(order):
		return cidr.Count{}
	case order >= shift:
		return countOf(bits.OnesCount64(freeBlocks(nd.full, order-shift)))
	}
	count := countOf(bits.OnesCount64(nd.full)).Lsh(int(shift - order))
	inWords := 0
	for _, value := range t.values(nd) {
		if shift == wordOrder {
			inWords += bits.OnesCount64(freeBlocks(value, order))
		} else {
			count = count.Add(t.countBehind(edge(value), shift, order))
		}
	}
	return count.Add(countOf(inWords))
}

// countBehind returns the number of free blocks of the order in a slot of 2^slotOrder addresses that has the edge e.
func (t *tree) countBehind(e edge, slotOrder, order uint) cidr.Count {
	if e.max() < int16(order) {
		return cidr.Count{}
	}
	count := t.countBlocks(e.node(), order)
	if e.background() {
		around := max(t.nodes[e.node()].spanOrder(), order) // order of the smallest block that has the node and is not free
		count = count.Add(sizeOf(slotOrder - order)).Sub(sizeOf(around - order))
	}
	return count
}

func countOf(n int) cidr.Count { return cidr.CountOf(uint64(n)) }

// countFree returns the number of free addresses in s.
func (a *Allocator) countFree(s span) cidr.Count { return a.tree.countIn(rootNode, s) }

// countIn returns the number of free addresses in s, which lies in the span of node n.
func (t *tree) countIn(n uint32, s span) cidr.Count {
	nd := &t.nodes[n]
	shift := nd.shift()
	from, to := s.first.slot(shift), s.last.slot(shift)
	wanted := allOnes << from & (allOnes >> (63 - to))
	count := countOf(bits.OnesCount64(nd.full & wanted)).Lsh(int(shift))
	if nd.full>>from&1 != 0 {
		count = count.Sub(distance(nd.slotStart(from), s.first))
	}
	if nd.full>>to&1 != 0 {
		count = count.Sub(distance(s.last, nd.slotStart(to).last(shift)))
	}
	inWords := 0
	values := t.values(nd)[rank(nd.mixed, from):]
	for m := nd.mixed & wanted; m != 0; m &= m - 1 {
		start := nd.slotStart(uint(bits.TrailingZeros64(m)))
		if shift == wordOrder {
			inWords += bits.OnesCount64(values[0] & maskWithin(start, s))
		} else {
			part := span{later(s.first, start), earlier(s.last, start.last(shift))}
			count = count.Add(t.countBehindIn(edge(values[0]), part))
		}
		values = values[1:]
	}
	return count.Add(countOf(inWords))
}

// countBehindIn returns the number of free addresses in s, which lies in a slot that has the edge e.
func (t *tree) countBehindIn(e edge, s span) cidr.Count {
	var count cidr.Count
	if e.background() {
		count = s.size()
	}
	child := &t.nodes[e.node()]
	inside := span{later(s.first, child.base), earlier(s.last, child.base.last(child.spanOrder()))}
	if inside.last.less(inside.first) {
		return count
	}
	if e.background() {
		count = count.Sub(inside.size())
	}
	return count.Add(t.countIn(e.node(), inside))
}

// maskWithin returns the bits of the 64 addresses from base on that lie in s. At least one of them does.
func maskWithin(base uint128, s span) uint64 {
	mask := allOnes
	if base.less(s.first) {
		mask <<= s.first.lo & 63
	}
	if s.last.less(base.last(wordOrder)) {
		mask &= allOnes >> (63 - s.last.lo&63)
	}
	return mask
}

// size returns the number of addresses in s.
func (s span) size() cidr.Count { return distance(s.first, s.last).Add(cidr.CountOf(1)) }

// distance returns y-x.
func distance(x, y uint128) cidr.Count {
	d := y.sub(x)
	return cidr.Count128(d.hi, d.lo)
}
