package kube

import (
	"cmp"
	"slices"
	"sync"
)

// ledger is what a handle knows of the commits that the logs of heads list: which of them are its own, and which of
// their objects are settled. What it says stays true. To forget something costs a read.
type ledger struct {
	mu    sync.Mutex
	own   map[string]*ownCommit // by their identifiers
	debts map[debtKey]bool      // false if somebody settles the object just now, true once it is settled
	seen  map[string]int        // in how many commits of this handle a stranger's commit was still listed
}

// ownCommit is a commit of this handle, of which nobody may have settled all objects yet.
type ownCommit struct {
	head     ref
	revision int64
	objects  map[ref]*object // that are not settled, as they were prepared; nil for a large one
}

// debtKey names an object that a commit may have left pending.
type debtKey struct {
	ref
	id string
}

// What a ledger holds at most.
const (
	maxOwnCommits = 4096
	maxDebts      = 1 << 16
)

func newLedger() *ledger {
	return &ledger{own: make(map[string]*ownCommit), debts: make(map[debtKey]bool), seen: make(map[string]int)}
}

// add notes a commit of this handle, and what it has left pending.
func (l *ledger) add(id string, head ref, revision int64, prepared []*object) {
	c := &ownCommit{head: head, revision: revision, objects: make(map[ref]*object, len(prepared))}
	for _, o := range prepared {
		c.objects[o.ref] = nil
		if !o.large() {
			c.objects[o.ref] = o
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	dropOne(l.own, maxOwnCommits)
	l.own[id] = c
}

// dropOne makes room in a map that may have no more than most entries.
func dropOne[K comparable, V any](from map[K]V, most int) {
	if len(from) < most {
		return
	}
	for k := range from {
		delete(from, k)
		return
	}
}

// find returns the revision of a commit of this handle.
func (l *ledger) find(id string) (revision int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.own[id]
	if c == nil {
		return 0, false
	}
	return c.revision, true
}

// prepared returns an object as a commit of this handle prepared it; nil if that is not known.
func (l *ledger) prepared(d debt) *object {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.own[d.id]; c != nil {
		return c.objects[d.ref]
	}
	return nil
}

// owed returns what the commits of this handle on a head have left that is not settled, in an order of
// their names.
func (l *ledger) owed(head ref) (debts []debt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, c := range l.own {
		if c.head != head {
			continue
		}
		for r := range c.objects {
			if !l.debts[debtKey{r, id}] {
				debts = append(debts, debt{r, id, c.revision})
			}
		}
	}
	slices.SortFunc(debts, func(a, b debt) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.resource, b.resource), cmp.Compare(a.name, b.name))
	})
	return debts
}

// commitsOn returns the commits of this handle on a head.
func (l *ledger) commitsOn(head ref) (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, c := range l.own {
		if c.head == head {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// begin notes that the caller is about to settle d. It reports false if that is done, or somebody does it just now.
func (l *ledger) begin(d debt) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := debtKey{d.ref, d.id}
	if _, known := l.debts[k]; known {
		return false
	}
	dropOne(l.debts, maxDebts)
	l.debts[k] = false
	return true
}

// end notes what came of that.
func (l *ledger) end(d debt, settled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := debtKey{d.ref, d.id}
	if !settled {
		delete(l.debts, k)
		return
	}
	l.debts[k] = true
	if c := l.own[d.id]; c != nil {
		c.objects[d.ref] = nil // which is not needed any more
	}
}

// settled notes that d is settled.
func (l *ledger) settled(d debt) { l.end(d, true) }

// rest returns what a log must still list: what is neither settled nor in written.
func (l *ledger) rest(log []entry, written map[ref]bool) (kept []entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range log {
		rest := entry{id: e.id, revision: e.revision}
		for _, r := range e.objects {
			if !written[r] && !l.debts[debtKey{r, e.id}] {
				rest.objects = append(rest.objects, r)
			}
		}
		if len(rest.objects) > 0 {
			kept = append(kept, rest)
		}
	}
	return kept
}

// open returns what a log lists that is neither settled, nor being settled, nor in written: by commits of this handle,
// and by others. Of the latter it counts in how many calls they were listed.
func (l *ledger) open(log []entry, written map[ref]bool) (own, strange []debt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	listed := 0
	for _, e := range log {
		if l.own[e.id] == nil {
			listed += len(e.objects)
			dropOne(l.seen, maxOwnCommits)
			l.seen[e.id]++
		}
	}
	for _, e := range log {
		mine := l.own[e.id] != nil
		if !mine && l.seen[e.id] <= patientSightings && listed <= maxStrange {
			continue // whoever made it will settle it
		}
		for _, r := range e.objects {
			if _, known := l.debts[debtKey{r, e.id}]; known || written[r] {
				continue
			}
			if mine {
				own = append(own, debt{r, e.id, e.revision})
			} else if len(strange) < handful {
				strange = append(strange, debt{r, e.id, e.revision})
			}
		}
	}
	return own, strange
}

// forget forgets the commits that a log listed before and does not list now.
func (l *ledger) forget(before, now []entry) {
	listed := make(map[string]bool, len(now))
	for i := range now {
		listed[now[i].id] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range before {
		if listed[e.id] {
			continue
		}
		delete(l.own, e.id)
		delete(l.seen, e.id)
		for _, r := range e.objects {
			delete(l.debts, debtKey{r, e.id})
		}
	}
}

// drop forgets a commit of this handle.
func (l *ledger) drop(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.own[id]; c != nil {
		for r := range c.objects {
			delete(l.debts, debtKey{r, id})
		}
		delete(l.own, id)
	}
}
