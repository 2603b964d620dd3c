package allocator

import "math/bits"

// A word is 64 bits, one for each slot of a node or for each address of the lowest level; a set bit is free.
// A block of order k is 2^k bits that start at a multiple of 2^k.

const (
	allOnes   = ^uint64(0)
	wordOrder = 6
)

// starts has a bit for each multiple of 1, 2, 4, … 64.
var starts = [8]uint64{
	allOnes,
	0x5555_5555_5555_5555,
	0x1111_1111_1111_1111,
	0x0101_0101_0101_0101,
	0x0001_0001_0001_0001,
	0x0000_0001_0000_0001,
	1,
}

// freeBlocks returns a bit for the start of each block of the order that is free in w.
func freeBlocks(w uint64, order uint) uint64 {
	for k := uint(0); k < order; k++ {
		w &= w >> (1 << (k & 7))
	}
	return w & starts[order&7]
}

// largestFree is the order of the largest free block in w, or -1 if there is none.
func largestFree(w uint64) int16 {
	switch {
	case hasFree(w, 3):
		switch {
		case w == allOnes:
			return 6
		case hasFree(w, 5):
			return 5
		case hasFree(w, 4):
			return 4
		}
		return 3
	case hasFree(w, 2):
		return 2
	case hasFree(w, 1):
		return 1
	case w != 0:
		return 0
	}
	return -1
}

// hasFree reports whether a block of the order (0 to 5) is free in w. Taking 1 from each block of the complement, at
// once, borrows from the blocks above only where a block is 0: the lowest of these becomes all ones.
func hasFree(w uint64, order uint) bool {
	return (^w-starts[order])&w&(starts[order]<<(1<<order-1)) != 0
}

// blockMask covers the block of the order (0 to 6) that starts at bit s.
func blockMask(s, order uint) uint64 {
	return allOnes >> (64 - 1<<(order&7)) << (s & 63)
}

// rank is the number of bits of w below bit s, which is below 64.
func rank(w uint64, s uint) uint32 {
	return uint32(bits.OnesCount64(w & (1<<(s&63) - 1)))
}
