package allocator

import (
	"fmt"
	"math/bits"
)

// Check verifies what the comment of tree promises, and returns what is wrong.
func (a *Allocator) Check() error {
	t := &a.tree
	top := t.top
	if t.findTop(); t.top != top {
		return fmt.Errorf("top is %d, want %d", top, t.top)
	}
	c := checker{t: t, nodes: make([]bool, len(t.nodes)), slab: make([]bool, len(t.slab))}
	if err := c.node(rootNode); err != nil {
		return err
	}
	if free := a.countFree(span{uint128{}, a.highest()}); free != a.free {
		return fmt.Errorf("the counter says %v free, a recount %v", a.free, free)
	}
	return c.unused()
}

type checker struct {
	t           *tree
	nodes, slab []bool
}

func (c *checker) node(n uint32) error {
	nd := &c.t.nodes[n]
	if c.nodes[n] {
		return fmt.Errorf("node %d is used twice", n)
	}
	c.nodes[n] = true
	if nd.full&nd.mixed != 0 {
		return fmt.Errorf("node %d: slots %x are full and mixed", n, nd.full&nd.mixed)
	}
	if err := c.run(nd.slots, nd.class, nd.mixed); err != nil {
		return err
	}
	for m := nd.mixed; m != 0; m &= m - 1 {
		if err := c.slot(nd, uint(bits.TrailingZeros64(m))); err != nil {
			return fmt.Errorf("node %d, order %d: %w", n, nd.order, err)
		}
	}
	want := *nd
	want.max = 1000
	if want.max = c.t.scanMax(&want); want.full != 0 {
		want.max = int16(nd.shift()) + largestFree(nd.full)
	}
	if nd.max != want.max {
		return fmt.Errorf("node %d, order %d: max is %d, want %d", n, nd.order, nd.max, want.max)
	}
	return nil
}

func (c *checker) slot(nd *node, s uint) error {
	value := *c.t.at(nd, s)
	if nd.order == wordOrder {
		if value == 0 || value == allOnes {
			return fmt.Errorf("slot %d is marked as mixed, but its word is %x", s, value)
		}
		return nil
	}
	e := edge(value)
	child := &c.t.nodes[e.node()]
	switch {
	case child.order >= nd.order || !child.base.sameBlock(nd.slotStart(s), nd.shift()):
		return fmt.Errorf("slot %d leads to node %d, which is not within it", s, e.node())
	case child.base != child.base.floor(child.spanOrder()):
		return fmt.Errorf("node %d starts at %v, which is no multiple of its size", e.node(), child.base)
	case c.t.isUniform(e.node(), e.background(), nd.shift()):
		return fmt.Errorf("slot %d leads to node %d, which is the same as the background", s, e.node())
	case e != c.t.shortcut(e.node(), e.background(), nd.shift()):
		return fmt.Errorf("slot %d has a stale edge %x, or one that could be shorter", s, value)
	}
	return c.node(e.node())
}

func (c *checker) run(at uint32, class uint8, mixed uint64) error {
	few := class == noRun
	if mixed != 0 {
		few = mixed&(mixed-1) == 0
	}
	if few != (class == noRun) {
		return fmt.Errorf("a run of class %d, with one mixed slot at most: %v", class, few)
	}
	if few {
		return nil
	}
	if count := bits.OnesCount64(mixed); mixed != 0 && (count > 1<<class || count*4 <= 1<<class) {
		return fmt.Errorf("a run of class %d holds %d values", class, count)
	}
	for i := at; i < at+1<<class; i++ {
		if c.slab[i] {
			return fmt.Errorf("word %d of the slab is used twice", i)
		}
		c.slab[i] = true
	}
	return nil
}

// unused verifies that what is not reachable is on a free list: nothing leaks.
func (c *checker) unused() error {
	for n := c.t.freeNode; n != 0; n = c.t.nodes[n].slots {
		if c.nodes[n] {
			return fmt.Errorf("node %d is in use and on the free list", n)
		}
		c.nodes[n] = true
	}
	unused := 0
	for class, at := range c.t.freeRun {
		for ; at != 0; at = uint32(c.t.slab[at]) {
			if err := c.run(at, uint8(class), 0); err != nil {
				return err
			}
			unused += 1 << class
		}
	}
	if unused != c.t.unused {
		return fmt.Errorf("%d words are unused, counted as %d", unused, c.t.unused)
	}
	c.slab[0] = true
	for n, used := range c.nodes {
		if !used {
			return fmt.Errorf("node %d has leaked", n)
		}
	}
	for i, used := range c.slab {
		if !used {
			return fmt.Errorf("word %d of the slab has leaked", i)
		}
	}
	return nil
}

// Bytes is the memory that the structure holds.
func (a *Allocator) Bytes() int {
	return cap(a.tree.nodes)*48 + cap(a.tree.slab)*8 + cap(a.universe)*32
}

// Nodes is how many nodes are in use.
func (a *Allocator) Nodes() int {
	n := len(a.tree.nodes)
	for free := a.tree.freeNode; free != 0; free = a.tree.nodes[free].slots {
		n--
	}
	return n
}

// Checksum is the checksum at the end of encodings.
func Checksum(b []byte) uint32 { return checksum(b) }
