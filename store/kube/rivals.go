package kube

import "sync"

// rivals tells at which heads this handle has lost to others lately.
type rivals struct {
	mu    sync.Mutex
	turns map[ref]int // how many more commits that nobody disturbs to wait for a turn before
}

// turnsAlone is after how many commits in turns that nobody disturbed a handle commits without one again.
const turnsAlone = 8

func newRivals() *rivals { return &rivals{turns: make(map[ref]int)} }

func (r *rivals) of(head ref) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.turns[head]
}

func (r *rivals) lost(head ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	dropOne(r.turns, maxCached)
	r.turns[head] = turnsAlone
}

func (r *rivals) won(head ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turns[head]--; r.turns[head] <= 0 {
		delete(r.turns, head)
	}
}
