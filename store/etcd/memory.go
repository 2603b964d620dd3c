package etcd

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// indexed is what the indexes have of a record at a revision. At revision 0 there is no record, and the indexes have
// nothing.
type indexed struct {
	revision int64
	prefixes []netip.Prefix    // of a record of KindAllocation
	labels   map[string]string // of a record of a kind that is found by label
	expires  time.Time
}

func indexedOf(r store.Record) indexed {
	known := indexed{revision: r.Revision, expires: r.Expires}
	if r.Kind == store.KindAllocation {
		known.prefixes = slices.Clone(r.Prefixes)
	}
	if r.Kind.IsLabelled() {
		known.labels = maps.Clone(r.Labels)
	}
	return known
}

// memory is what a handle remembers of records that it has seen: enough to know which entries of the indexes go when
// the record is replaced or deleted. It may be out of date, which a commit finds out.
//
// It has two halves. When the new one is full, the old one is forgotten, and the new one becomes the old one.
type memory struct {
	half     int // the largest size of a half
	mu       sync.Mutex
	new, old map[store.Key]indexed
}

func newMemory(size int) *memory {
	return &memory{half: max(1, size/2), new: make(map[store.Key]indexed)}
}

// note takes in a record as it was seen. What was seen at a later revision stays.
func (m *memory) note(r store.Record) {
	known := indexedOf(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.get(r.Key).revision <= known.revision {
		m.put(r.Key, known)
	}
}

// forget is called when there was no such record.
func (m *memory) forget(key store.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.new, key)
	delete(m.old, key)
}

// recall returns what is remembered, at revision 0 if it is nothing.
func (m *memory) recall(key store.Key) indexed {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.get(key)
	if known.revision != 0 {
		m.put(key, known)
	}
	return known
}

func (m *memory) get(key store.Key) indexed {
	if known, ok := m.new[key]; ok {
		return known
	}
	return m.old[key]
}

func (m *memory) put(key store.Key, known indexed) {
	if len(m.new) >= m.half {
		m.old, m.new = m.new, make(map[store.Key]indexed)
	}
	m.new[key] = known
}
