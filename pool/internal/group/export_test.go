package group

// SetPlace puts q somewhere else in the order of all queues, which must never happen.
func SetPlace(q *Queue, place uint64) { q.place.Store(place) }

// Free makes a queue look as if nobody led it, which only its leader may do when nobody waits.
func Free(q *Queue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.led = false
}

// Idle reports whether nobody leads q and nobody waits.
func Idle(q *Queue) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.led && q.first == nil && q.last == nil && q.count.Load() == 0
}

// Wake returns the channel through which c is woken. It must be called before Do.
func Wake(c *Call) chan struct{} {
	if c.wake == nil {
		c.wake = make(chan struct{}, 1)
	}
	return c.wake
}

// Line returns the members that wait in q or are in a round of it, in order, without the one that leads.
func Line(q *Queue) []any {
	q.mu.Lock()
	defer q.mu.Unlock()
	var line []any
	for c := q.first; c != nil; c = c.next {
		line = append(line, c.member)
	}
	return line
}

// Scratch returns all of the memory that q keeps for batches.
func Scratch[M Member](q *Queue) []M {
	s, _ := q.scratch.(*[]M)
	return (*s)[:cap(*s)]
}
