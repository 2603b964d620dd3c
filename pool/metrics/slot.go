package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// slot is what a pool that has metrics of its own has. Its fields but used are guarded by Metrics.mu.
type slot struct {
	listed bool         // a scrape has found the pool
	used   atomic.Int64 // the number of scrapes before the latest event
}

// enter returns the label of the pool of an event. Until leave is called, no pool is forgotten. The pool of an event
// that says that there is no such pool gets no slot.
func (m *Metrics) enter(name string, gone bool) (label string) {
	m.mu.RLock()
	if m.slots[name] == nil && !gone && len(m.slots) < m.options.MaxPools {
		m.mu.RUnlock()
		m.mu.Lock()
		m.take(name)
		m.mu.Unlock()
		m.mu.RLock()
	}
	s := m.slots[name]
	if s == nil {
		return otherPools
	}
	s.used.Store(m.scrapes)
	return name
}

func (m *Metrics) leave() { m.mu.RUnlock() }

// take returns the slot of a pool, or nil if there is no room. The caller holds mu.
func (m *Metrics) take(name string) *slot {
	s := m.slots[name]
	if s == nil && len(m.slots) < m.options.MaxPools {
		s = &slot{}
		s.used.Store(m.scrapes)
		m.slots[name] = s
	}
	return s
}

// scraped drops the slots of pools that are gone: of those that an earlier scrape has found and this one has not. If
// there is no room, it also drops those that no scrape has found and that had no event since the second scrape before.
func (m *Metrics) scraped(found map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scrapes++
	full := len(m.slots) >= m.options.MaxPools
	for name, s := range m.slots {
		switch {
		case found[name] || m.pools[name] != nil:
			s.listed = true
		case s.listed, full && m.scrapes-s.used.Load() > idleScrapes:
			m.drop(name)
		}
	}
}

// idleScrapes is how many scrapes a pool that no scrape finds keeps its slot after its latest event: Prometheus has
// read its counters by then.
const idleScrapes = 2

// drop drops a slot and its metrics. The caller holds mu.
func (m *Metrics) drop(name string) {
	delete(m.slots, name)
	of := prometheus.Labels{"pool": name}
	m.calls.DeletePartialMatch(of)
	m.callDurations.DeletePartialMatch(of)
	m.commits.DeletePartialMatch(of)
	m.commitDurations.DeletePartialMatch(of)
}
