package kube

import (
	"slices"
	"sync"
)

// ledger is what a handle knows of the commits that the logs of heads list: which of them are its own, and which of
// their objects are settled. What it says stays true. To forget something costs a read.
type ledger struct {
	mu    sync.Mutex
	later int                   // how many of the latest commits in a log are settled later if they have a roll
	own   map[string]*ownCommit // by their identifiers
	rolls map[string][]debt     // what rolls of strangers name, by the commits' identifiers
	debts map[debtKey]bool      // false if somebody settles the object just now, true once it is settled
	seen  map[string]int        // in how many commits of this handle a stranger's commit was still listed
}

// ownCommit is a commit of this handle, of which nobody may have settled all objects yet.
type ownCommit struct {
	head     ref
	revision int64
	debts    []debt          // the objects that it wrote, without the roll
	roll     *object         // nil if it has none
	objects  map[ref]*object // that are not settled, as they were prepared; nil for a large one
}

// debtKey names an object that a commit may have left pending.
type debtKey struct {
	ref
	id string
}

func (d debt) key() debtKey { return debtKey{d.ref, d.id} }

// What a ledger holds at most.
const (
	maxOwnCommits = 4096
	maxDebts      = 1 << 16
	maxRolls      = 16
)

func newLedger() *ledger {
	return &ledger{
		later: maxLater, own: make(map[string]*ownCommit), rolls: make(map[string][]debt),
		debts: make(map[debtKey]bool), seen: make(map[string]int),
	}
}

// add notes a commit of this handle, and what it has left pending; the roll may be nil.
func (l *ledger) add(id string, head ref, revision int64, prepared []*object, roll *object) {
	c := &ownCommit{head: head, revision: revision, roll: roll, objects: make(map[ref]*object, len(prepared))}
	for _, o := range prepared {
		c.debts = append(c.debts, debt{o.ref, id, revision})
		if !o.large() {
			c.objects[o.ref] = o
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	dropOne(l.own, maxOwnCommits)
	l.own[id] = c
}

// learn notes what the roll of a commit names, and reports whether all of that is known to be settled.
func (l *ledger) learn(id string, named []debt) (settled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.allSettled(named) {
		return true
	}
	dropOne(l.rolls, maxRolls)
	l.rolls[id] = named
	return false
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
	c := l.own[d.id]
	switch {
	case c == nil:
		return nil
	case c.roll != nil && c.roll.ref == d.ref:
		return c.roll
	}
	return c.objects[d.ref]
}

// owed returns what the commits of this handle on a head have left that is not settled, the rolls apart from what they
// name.
func (l *ledger) owed(head ref) (records, rolls []debt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range l.commits(head) {
		c := l.own[id]
		for _, d := range c.debts {
			if !l.debts[d.key()] {
				records = append(records, d)
			}
		}
		if c.roll == nil {
			continue
		}
		if d := (debt{c.roll.ref, id, c.revision}); !l.debts[d.key()] {
			rolls = append(rolls, d)
		}
	}
	return records, rolls
}

// commitsOn returns the commits of this handle on a head.
func (l *ledger) commitsOn(head ref) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.commits(head)
}

// commits is commitsOn with mu held.
func (l *ledger) commits(head ref) (ids []string) {
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
	k := d.key()
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
	k := d.key()
	if !settled {
		delete(l.debts, k)
		return
	}
	l.debts[k] = true
	if c := l.own[d.id]; c != nil {
		delete(c.objects, d.ref) // which is not needed any more
	}
}

// settled notes that d is settled.
func (l *ledger) settled(d debt) { l.end(d, true) }

// isSettled reports whether d is known to be settled.
func (l *ledger) isSettled(d debt) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.debts[d.key()]
}

// allSettled reports whether all debts are known to be settled. Mu is held.
func (l *ledger) allSettled(debts []debt) bool {
	return !slices.ContainsFunc(debts, func(d debt) bool { return !l.debts[d.key()] })
}

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

// open returns what a log lists that is neither settled, nor being settled, nor in written, and is to be settled now:
// by commits of this handle, and by others. Of the latter it counts in how many calls they were listed.
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
	due := l.due(log)
	for i, e := range log {
		switch c := l.own[e.id]; {
		case c != nil && (i < due || c.roll == nil):
			own = append(own, l.openOf(e, written)...)
		case c == nil && (l.seen[e.id] > patience(e) || listed > maxStrange):
			strange = append(strange, l.openOf(e, written)...)
		}
	}
	return own, strange[:min(len(strange), handful)]
}

// due returns how many commits of a log, the oldest, are to be settled now even if they have a roll.
func (l *ledger) due(log []entry) int {
	latest, objects := max(0, len(log)-l.later), 0
	for i := len(log) - 1; i >= latest; i-- {
		if c := l.own[log[i].id]; c != nil {
			if objects += len(c.debts); objects > maxLaterOf {
				return i + 1
			}
		}
	}
	return latest
}

// patience returns in how many commits of this handle a stranger's is listed until this handle begins to settle it.
// Who made it is alive, as a rule, and settles it sooner.
func patience(e entry) int {
	if len(e.objects) == 1 && isRoll(e.objects[0]) {
		return patientWithRolls
	}
	return patientSightings
}

// openOf returns what a commit in a log has left that is neither settled, nor being settled, nor in written: of what
// its roll names, as far as that is known, and once all of that is settled the roll; or of what the log names.
func (l *ledger) openOf(e entry, written map[ref]bool) []debt {
	left := l.rolls[e.id]
	if c := l.own[e.id]; c != nil && c.roll != nil {
		left = c.debts
	}
	if l.allSettled(left) {
		left = debtsOf([]entry{e})
	}
	var open []debt
	for _, d := range left {
		if _, known := l.debts[d.key()]; !known && !written[d.ref] {
			open = append(open, d)
		}
	}
	return open
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
		for _, r := range e.objects {
			delete(l.debts, debtKey{r, e.id})
		}
		l.dropCommit(e.id)
	}
}

// drop forgets a commit of this handle.
func (l *ledger) drop(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropCommit(id)
}

// dropCommit forgets a commit and what is known of its objects. Mu is held.
func (l *ledger) dropCommit(id string) {
	left := l.rolls[id]
	if c := l.own[id]; c != nil {
		left = c.debts
		if c.roll != nil {
			delete(l.debts, debtKey{c.roll.ref, id})
		}
	}
	for _, d := range left {
		delete(l.debts, d.key())
	}
	delete(l.own, id)
	delete(l.rolls, id)
	delete(l.seen, id)
}
