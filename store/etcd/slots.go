package etcd

import (
	"math/rand/v2"
	"sync"
)

// slots are the names of tickets. There are few of them, and they are used again, since etcd looks at all keys that
// there have been in a line until the history is compacted, and not only at those that are there.
type slots struct {
	mu    sync.Mutex
	free  []uint32
	among uint32 // how many names there are to choose from
}

// fewSlots is how many names a handle chooses from at first.
const fewSlots = 256

// take returns a name that this handle does not use, and that probably no other handle uses.
func (l *slots) take() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.free); n > 0 {
		slot := l.free[n-1]
		l.free = l.free[:n-1]
		return slot
	}
	l.among = max(l.among, fewSlots)
	return rand.Uint32N(l.among)
}

// widen is called when another handle used a name: there are more to choose from then.
func (l *slots) widen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.among = min(2*max(l.among, fewSlots), 1<<16)
}

// give gives names back that are not used any more.
func (l *slots) give(free []uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = append(l.free, free...)
}
