package pool

import (
	"slices"
	"sync"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// setCache remembers the sets that claims were to be within lately, as parts that can be searched. A copy out of a
// [netipx.IPSet], which gives no other access, is so made once, and not for each claim. It is safe for concurrent use.
// The zero setCache is ready to use.
type setCache struct {
	mu     sync.Mutex
	latest []cachedSet // the latest first
}

type cachedSet struct {
	set  *netipx.IPSet
	part *space.Part
}

// cachedSets is how many sets are remembered.
const cachedSets = 8

// partOf returns the set as a part. Cost: O(1) if the set is remembered, else O(ranges).
func (c *setCache) partOf(s *netipx.IPSet) *space.Part {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.latest, func(known cachedSet) bool { return known.set == s }); i >= 0 {
		return c.latest[i].part
	}
	part := space.NewPart(s.Ranges())
	c.latest = slices.Insert(c.latest, 0, cachedSet{s, part})
	if len(c.latest) > cachedSets {
		c.latest = slices.Delete(c.latest, cachedSets, len(c.latest))
	}
	return part
}
