package pool

import (
	"slices"

	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// Strategy says which of the free prefixes that meet a request is granted. The text "lowest" means [LowestFree] too, so
// that configurations can name it.
type Strategy string

// The strategies.
const (
	// LowestFree grants the lowest one. It is the default: the pool stays packed, which keeps it small, and the next
	// address is predictable.
	LowestFree Strategy = ""
	// NextFree grants the lowest one above the last one granted, even if that was an exact request, and starts again at
	// the bottom when there is none (round robin). So a released address is not reused for as long as possible. The
	// store keeps the last position.
	NextFree Strategy = "next"
	// RandomFree grants a random one, so that the next address is not predictable. It tries up to 16 random addresses.
	// So all free ones are equally likely, unless the pool is nearly full: then it takes the next free one after the
	// last try.
	RandomFree Strategy = "random"
	// HighestFree grants the highest one, so that two kinds of owners can share a range from both ends.
	HighestFree Strategy = "highest"
	// SpreadFree grants the beginning of the largest free block: the lowest one of the largest blocks that start at a
	// multiple of their size. So there is as much room as possible behind each allocation, for it to grow (sparse
	// allocation). The first two prefixes in an empty pool begin its two halves, and the next two the other quarters.
	SpreadFree Strategy = "spread"
	// BestFit grants the beginning of the smallest free block that has room for the request, of several the lowest, so
	// that large blocks stay whole for large requests. It is for pools of prefixes of many lengths. In a set or a band,
	// and for a family that has bands, it grants the lowest one. A handle remembers up to half as much again of the
	// free space.
	BestFit Strategy = "best-fit"
)

// strategies are all of them, in the order of package space.
var strategies = []Strategy{
	space.Lowest: LowestFree, space.Next: NextFree, space.Random: RandomFree, space.Highest: HighestFree,
	space.Spread: SpreadFree, space.Best: BestFit,
}

// lowestText may stand for LowestFree.
const lowestText = "lowest"

// canonical is the strategy under its own name.
func (s Strategy) canonical() Strategy {
	if s == lowestText {
		return LowestFree
	}
	return s
}

// validate returns an error if there is no such strategy.
func (s Strategy) validate() error {
	if !slices.Contains(strategies, s.canonical()) {
		names := append([]Strategy{lowestText}, strategies[1:]...)
		return invalid("%q is not a strategy, want one of %q", string(s), names)
	}
	return nil
}

// inSpace is the strategy in the terms of package space.
func (s Strategy) inSpace() space.Strategy { return space.Strategy(slices.Index(strategies, s)) }
