package store

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// Memory is a [Store] that keeps its records in memory. It is for tests, for simulations and for pools that need not
// outlive their process.
//
// A *Memory is one handle on the records; [Memory.Open] makes another, as another process would have. The records exist
// as long as any handle is referenced, closed or not. Commits of all handles run one after the other; reads run in
// parallel.
//
// The zero Memory is not usable; see [NewMemory]. A Memory must not be copied. All methods may be called by any number
// of goroutines at once.
//
// Cost: Get and Commit take time in proportion to the bytes that they take and return, whatever else is stored; Commit
// also takes O(log n) for each record with Expires, for n such records of its kind and pool. List first notes which
// records there are, at about 10 ns and 8 bytes each, and holds up commits meanwhile; then it yields them without a
// lock, as they were at that moment. Find takes one look-up for each prefix length among the pool's allocations.
// ByExpiry takes O(records yielded). ByLabel first notes and sorts the records that have the label.
type Memory struct {
	shared *records
	closed atomic.Bool
	ended  chan struct{} // closed by Close
}

var (
	_ Store    = (*Memory)(nil)
	_ Grouper  = (*Memory)(nil)
	_ Reader   = (*Memory)(nil)
	_ Labeller = (*Memory)(nil)
)

// NewMemory returns a handle on a new, empty in-memory store.
func NewMemory() *Memory {
	return (&records{tables: make(map[tableKey]*table), waiters: make(map[Key]*waiters)}).open()
}

// Open returns another handle on the same records. Closing one handle does not close the others. A closed handle can
// still open others, so a test can reopen a store.
func (m *Memory) Open() *Memory { return m.shared.open() }

// Get implements [Store].
func (m *Memory) Get(ctx context.Context, key Key) (Record, error) {
	if err := m.usable(ctx); err != nil {
		return Record{}, err
	}
	if err := key.Validate(); err != nil {
		return Record{}, err
	}
	m.shared.mu.RLock()
	r := m.shared.get(key)
	m.shared.mu.RUnlock()
	if r == nil {
		return Record{}, missingError(key)
	}
	return r.Canonical(), nil
}

// GetAll implements [Reader].
func (m *Memory) GetAll(ctx context.Context, keys ...Key) ([]Record, error) {
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	if err := ValidateKeys(keys...); err != nil {
		return nil, err
	}
	found := make([]*Record, len(keys))
	m.shared.mu.RLock()
	for i, key := range keys {
		found[i] = m.shared.get(key)
	}
	m.shared.mu.RUnlock()
	records := make([]Record, len(keys))
	for i, r := range found {
		if records[i].Key = keys[i]; r != nil {
			records[i] = r.Canonical()
		}
	}
	return records, nil
}

// List implements [Store]. It yields the records as they were when the iteration began, in random order.
func (m *Memory) List(ctx context.Context, kind Kind, pool string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := ValidateList(kind, pool); err != nil {
			yield(Record{}, err)
			return
		}
		if err := m.usable(ctx); err != nil {
			yield(Record{}, err)
			return
		}
		var copies copier
		for _, r := range m.shared.list(kind, pool) {
			if err := m.usable(ctx); err != nil {
				yield(Record{}, err)
				return
			}
			if !yield(copies.of(r), nil) {
				return
			}
		}
	}
}

// copier copies records of the store. The prefixes of several copies share an array, which none of them can append to.
type copier struct{ room []netip.Prefix }

func (c *copier) of(r *Record) Record {
	const most = 64 // prefixes in an array, since one copy that is kept keeps all of it
	if n := len(r.Prefixes); cap(c.room)-len(c.room) < n {
		c.room = make([]netip.Prefix, 0, max(n, most))
	}
	start, cp := len(c.room), *r
	c.room = append(c.room, r.Prefixes...)
	cp.Prefixes, cp.Labels, cp.Data = nil, maps.Clone(r.Labels), bytes.Clone(r.Data)
	if end := len(c.room); end > start {
		cp.Prefixes = c.room[start:end:end]
	}
	return cp
}

// Find implements [Store].
func (m *Memory) Find(ctx context.Context, pool string, addr netip.Addr) (Record, error) {
	if err := m.usable(ctx); err != nil {
		return Record{}, err
	}
	if err := (Key{Kind: KindAllocation, Pool: pool}).Validate(); err != nil {
		return Record{}, err
	}
	m.shared.mu.RLock()
	r := m.shared.find(pool, searched(addr))
	m.shared.mu.RUnlock()
	if r == nil {
		return Record{}, notInPool(pool, addr)
	}
	return r.Canonical(), nil
}

// Commit implements [Store]. It takes any number of heads, records and bytes, and never fails with [ErrTooLarge]
// or [ErrUnknown].
func (m *Memory) Commit(ctx context.Context, changes ...Change) ([]Record, error) {
	defer EndTurns(changes)
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	if err := ValidateCommit(changes...); err != nil {
		return nil, err
	}
	done, err := m.shared.turns.Yield(ctx, changes)
	if err != nil {
		return nil, err
	}
	defer done()
	given, err := m.shared.turns.Answers(ctx, changes)
	if err != nil {
		return nil, err
	}
	heads, err := m.shared.commitAll(changes)
	given(heads, err)
	return heads, err
}

// commitAll makes a commit, and returns its heads.
func (s *records) commitAll(changes []Change) ([]Record, error) {
	copies := make([]memoryChange, len(changes))
	for i := range changes {
		copies[i] = newMemoryChange(&changes[i])
	}
	revision, err := s.commit(copies)
	if err != nil {
		return nil, err
	}
	heads := make([]Record, len(copies))
	for i := range copies {
		heads[i] = copies[i].head.Canonical()
		heads[i].Revision = revision
	}
	return heads, nil
}

// Turn implements [Store]. All handles on the records wait in one order.
func (m *Memory) Turn(ctx context.Context, keys ...Key) (Turn, error) {
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	return m.shared.turns.Turn(ctx, m.Get, keys...)
}

// Join implements [Grouper], in the same order.
func (m *Memory) Join(ctx context.Context, key Key, ask []byte) (GroupTurn, error) {
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	return m.shared.turns.Join(ctx, m.Get, key, ask)
}

// Close implements [Store]. It closes this handle only.
func (m *Memory) Close() error {
	if m.closed.CompareAndSwap(false, true) {
		close(m.ended)
	}
	return nil
}

func (m *Memory) usable(ctx context.Context) error {
	if m.closed.Load() {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("in-memory store: %w", err)
	}
	return nil
}

// missingError says that there is no record under the key. It makes its text only when asked, because looking for
// what is not there is a common question.
type missingError Key

func (e missingError) Error() string { return fmt.Sprintf("%v: %v", ErrNotFound, Key(e)) }

func (e missingError) Unwrap() error { return ErrNotFound }

// records is what the handles of one in-memory store share. A *Record in it never changes: it is replaced.
type records struct {
	mu       sync.RWMutex
	revision int64 // of the latest commit; never falls, so that no key sees a revision twice
	tables   map[tableKey]*table
	waiters  map[Key]*waiters
	turns    Turns
}

func (s *records) open() *Memory { return &Memory{shared: s, ended: make(chan struct{})} }

type tableKey struct {
	kind Kind
	pool string
}

// table holds the records of one kind and pool, of which there is at least one.
type table struct {
	all    []*Record      // in no order, but most of those that were written together stand together
	byName map[string]int // where they stand
	index  *prefixIndex   // of the prefixes, in tables of allocations; else nil
	labels labelIndex     // of the labels, in tables of kinds that have them; else nil
	expiry *expiryTree    // of the records that have Expires, from the first such record on; else nil
}

func (s *records) get(key Key) *Record {
	t := s.tables[tableKey{key.Kind, key.Pool}]
	if t == nil {
		return nil
	}
	return t.get(key.Name)
}

// get returns the record of that name; nil if there is none.
func (t *table) get(name string) *Record {
	if i, ok := t.byName[name]; ok {
		return t.all[i]
	}
	return nil
}

// put puts the record in the place of the one that has its name, and returns that; nil if there is none.
func (t *table) put(r *Record) (old *Record) {
	if i, ok := t.byName[r.Name]; ok {
		old, t.all[i] = t.all[i], r
		return old
	}
	t.byName[r.Name] = len(t.all)
	t.all = append(t.all, r)
	return nil
}

// remove removes a record that is there. The last one takes its place.
func (t *table) remove(name string) {
	i, end := t.byName[name], len(t.all)-1
	last := t.all[end]
	t.all[i], t.byName[last.Name] = last, i
	t.all[end] = nil
	t.all = t.all[:end]
	delete(t.byName, name)
	if end < cap(t.all)/4 {
		t.all = slices.Clone(t.all)
	}
}

func (s *records) list(kind Kind, pool string) []*Record {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if pool != "" {
		if t := s.tables[tableKey{kind, pool}]; t != nil {
			return slices.Clone(t.all)
		}
		return nil
	}
	var found []*Record
	for key, t := range s.tables {
		if key.kind == kind {
			found = append(found, t.all...)
		}
	}
	return found
}

func (s *records) find(pool string, addr netip.Addr) *Record {
	t := s.tables[tableKey{KindAllocation, pool}]
	if t == nil {
		return nil
	}
	return t.index.longest(addr)
}

// memoryChange is a change whose records are copied: they become the store's, each as an object of its own.
type memoryChange struct {
	given   *Change // of its records, only the keys are used
	head    *Record
	records []*Record // of the writes; nil for a Delete
}

func newMemoryChange(given *Change) memoryChange {
	c := memoryChange{given: given, head: given.Head.object(), records: make([]*Record, len(given.Writes))}
	for i := range given.Writes {
		if w := &given.Writes[i]; w.Op != Delete {
			c.records[i] = w.Record.object()
		}
	}
	return c
}

// object returns what Canonical does. It has its prefix in it if it has one.
func (r *Record) object() *Record {
	if len(r.Prefixes) != 1 {
		c := r.Canonical()
		return &c
	}
	o := &struct {
		record Record
		prefix [1]netip.Prefix
	}{prefix: [1]netip.Prefix(r.Prefixes)}
	o.record = *r
	o.record.Prefixes = nil
	o.record = o.record.Canonical()
	o.record.Prefixes = o.prefix[:]
	return &o.record
}

func (s *records) commit(changes []memoryChange) (revision int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range changes {
		if err := s.admitHead(&changes[i].given.Head); err != nil {
			return 0, err
		}
	}
	var standing []Record
	for i := range changes {
		standing = s.standing(standing, changes[i].given.Writes)
	}
	if standing != nil {
		return 0, &ExistsError{Records: standing}
	}
	s.revision++
	for i := range changes {
		s.apply(&changes[i])
	}
	return s.revision, nil
}

// admitHead returns the conflict of a commit of head, if there is one.
func (s *records) admitHead(head *Record) error {
	current := s.get(head.Key)
	switch {
	case current == nil && head.Revision != 0:
		return &ConflictError{Expected: head.Revision, Current: Record{Key: head.Key}}
	case current != nil && head.Revision != current.Revision:
		return &ConflictError{Expected: head.Revision, Current: current.Canonical()}
	}
	return nil
}

// standing appends the records that are in the way of the creates among writes.
func (s *records) standing(found []Record, writes []Write) []Record {
	for i := range writes {
		if writes[i].Op != Create {
			continue
		}
		if r := s.get(writes[i].Record.Key); r != nil {
			found = append(found, r.Canonical())
		}
	}
	return found
}

// apply makes a change that was admitted, at the present revision.
func (s *records) apply(c *memoryChange) {
	for i, r := range c.records {
		if r == nil {
			s.remove(c.given.Writes[i].Record.Key)
		} else {
			s.put(r, s.revision)
		}
	}
	if !c.given.DeletesHead() {
		s.put(c.head, s.revision)
	}
}

func (s *records) put(r *Record, revision int64) {
	r.Revision = revision
	key := tableKey{r.Kind, r.Pool}
	t := s.tables[key]
	if t == nil {
		t = &table{byName: make(map[string]int)}
		if r.Kind == KindAllocation {
			t.index = newPrefixIndex()
		}
		if r.Kind.IsLabelled() {
			t.labels = labelIndex{}
		}
		s.tables[key] = t
	}
	old := t.put(r)
	t.reindex(old, r)
	t.reorder(old, r)
	s.wake(r.Key)
}

func (s *records) remove(k Key) {
	key := tableKey{k.Kind, k.Pool}
	t := s.tables[key]
	if t == nil {
		return
	}
	old := t.get(k.Name)
	if old == nil {
		return
	}
	t.reindex(old, nil)
	t.reorder(old, nil)
	t.remove(k.Name)
	s.wake(k)
	if len(t.all) == 0 {
		delete(s.tables, key)
	}
}

// reindex notes in the indexes of prefixes and labels, if there are any, that after takes the place of before. Either
// may be nil.
func (t *table) reindex(before, after *Record) {
	if t.labels == nil {
		return
	}
	if before != nil {
		t.labels.remove(before)
	}
	if after != nil {
		t.labels.add(after)
	}
	if t.index == nil {
		return
	}
	if before != nil {
		t.index.remove(before)
	}
	if after != nil {
		t.index.add(after)
	}
}
