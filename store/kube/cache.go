package kube

import "sync"

// cache remembers objects as this handle last saw them. What it says may be out of date: it saves a read before a
// guarded update, and no error and no answer is ever founded on it.
type cache struct {
	mu      sync.Mutex
	objects map[ref]*object
}

// What a cache holds at most: so many objects, none with more data than that.
const (
	maxCached     = 2048
	maxCachedData = 16 << 10
)

func newCache() *cache { return &cache{objects: make(map[ref]*object)} }

func (c *cache) get(r ref) *object {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.objects[r]
}

// put remembers o, and forgets any other if there are too many.
func (c *cache) put(o *object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.resource != resourcePools && o.large() {
		delete(c.objects, o.ref)
		return
	}
	if _, ok := c.objects[o.ref]; !ok && len(c.objects) >= maxCached {
		c.evict()
	}
	c.objects[o.ref] = o
}

// evict forgets an object: one that is no pool, if there are few pools. Each commit to a pool needs its head.
func (c *cache) evict() {
	tries := 0
	for r := range c.objects {
		if tries++; r.resource != resourcePools || tries > 16 {
			delete(c.objects, r)
			return
		}
	}
}

func (c *cache) drop(r ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.objects, r)
}

// large reports whether an object has too much data to be remembered.
func (o *object) large() bool {
	before := o.pending != nil && o.pending.before != nil && len(o.pending.before.Data) > maxCachedData
	return before || o.value != nil && len(o.value.Data) > maxCachedData
}
