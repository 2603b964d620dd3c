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
	if o.resource != resourcePools && o.value != nil && len(o.value.Data) > maxCachedData {
		delete(c.objects, o.ref)
		return
	}
	if _, ok := c.objects[o.ref]; !ok && len(c.objects) >= maxCached {
		for other := range c.objects {
			delete(c.objects, other)
			break
		}
	}
	c.objects[o.ref] = o
}

func (c *cache) drop(r ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.objects, r)
}

// ownCommits remembers commits of this handle, with their revisions, that nobody may have settled yet. To forget one
// costs a read.
type ownCommits struct {
	mu        sync.Mutex
	revisions map[string]int64
}

const maxOwnCommits = 1024

func newOwnCommits() *ownCommits { return &ownCommits{revisions: make(map[string]int64)} }

func (c *ownCommits) add(id string, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.revisions) >= maxOwnCommits {
		for other := range c.revisions {
			delete(c.revisions, other)
			break
		}
	}
	c.revisions[id] = revision
}

func (c *ownCommits) find(id string) (revision int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	revision, ok = c.revisions[id]
	return revision, ok
}

func (c *ownCommits) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.revisions, id)
}
