package pool

import (
	"context"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// memory is a pool's home without a store. Whoever holds mu leads.
type memory struct {
	options *Options
	order   uint64 // in which calls over several pools lock them

	mu     sync.Mutex
	runner runner
	one    [1]*op // the batch of a call
	known  *state
	clock  int64 // the revision: how many changes there were
	held   map[string]*kept
	strays map[netip.Prefix]*kept
	index  index
	labels labelIndex
	scopes map[string]*rest // of what has no more than a scope
	expiry expiry
	arena  arena // of what whoever leads looks at and plans
	shown  int64 // the revision at which others were given what is kept, and may read it any time; 0 if they never were

	direct

	waiting chan struct{} // closed with the next change; nil if nobody waits
}

// direct is room for a call that does without an op.
type direct struct {
	claim    Claim
	task     task
	outcome  outcome
	draft    draft
	planning bool
}

// memories counts the pools in memory.
var memories atomic.Uint64

func newMemory(s *state, options *Options) *memory {
	return &memory{
		options: options, order: memories.Add(1), known: s,
		held: map[string]*kept{}, strays: map[netip.Prefix]*kept{}, index: newIndex(),
		labels: labelIndex{}, scopes: map[string]*rest{},
	}
}

// lead implements [home].
func (m *memory) lead(o *op) error {
	if len(o.pools) > 1 {
		defer lockAll(o.pools)()
	} else {
		m.mu.Lock()
		defer m.unlock()
	}
	m.one[0] = o
	for !o.over {
		m.runner.Round(m.one[:])
	}
	m.one[0] = nil
	return o.err
}

// unlock ends the lead.
func (m *memory) unlock() {
	m.arena.reset()
	m.mu.Unlock()
}

// reading implements [home].
func (m *memory) reading(o *op) (context.Context, context.CancelFunc) { return o.ctx, func() {} }

// lockAll locks pools in memory, in their order, until the function that it returns is called.
func lockAll(pools []*Pool) (unlock func()) {
	all := make([]*memory, len(pools))
	for i, p := range pools {
		all[i] = p.home.(*memory)
	}
	slices.SortFunc(all, func(a, b *memory) int { return int(int64(a.order) - int64(b.order)) })
	for _, m := range all {
		m.mu.Lock()
	}
	return func() {
		for _, m := range all {
			m.unlock()
		}
	}
}

func (m *memory) state() *state      { return m.known }
func (m *memory) revision() int64    { return m.clock }
func (m *memory) created() time.Time { return time.Time{} }
func (m *memory) batch() int         { return maxBatch }
func (m *memory) limit(int)          {}
func (m *memory) ready(context.Context, bool) (proof, fence bool, err error) {
	return false, false, nil
}
func (m *memory) refresh(context.Context) error           { return nil }
func (m *memory) reread(context.Context) error            { return nil }
func (m *memory) unchanged(context.Context) (bool, error) { return true, nil }
func (m *memory) learn(context.Context, error) bool       { return false }

func (m *memory) isAt(context.Context, int64) (bool, error) { return true, nil }

// spaceRecords implements [home]. There are none.
func (m *memory) spaceRecords(context.Context) iter.Seq2[store.Key, error] {
	return func(func(store.Key, error) bool) {}
}

// blank implements [home].
func (m *memory) blank(context.Context) (*state, error) {
	return newState(m.known.rules, parentage{}, m.options.Random)
}

// aside implements [home].
func (m *memory) aside(context.Context) iter.Seq2[*holding, error] {
	return opened(maps.Values(m.strays))
}

// at implements [home].
func (m *memory) at(_ context.Context, addr netip.Addr) (*holding, error) {
	if k := m.index.find(addr); k != nil {
		return k.holding(), nil
	}
	return nil, nil
}

func (m *memory) mustLook(string, bool) bool { return false }

func (m *memory) mayLook(string) bool { return false }

func (m *memory) lookUp(context.Context, []string) {}

// holding implements [home]. What it returns lasts as long as the lead, but its prefixes and labels do not end: a call
// that releases it may give them to its caller.
func (m *memory) holding(_ context.Context, owner string, _ bool) (*holding, bool, error) {
	k := m.held[owner]
	if k == nil {
		return nil, true, nil
	}
	h, _ := m.arena.next()
	k.into(h)
	if k.generation <= m.shown {
		h.unshare()
	}
	return h, true, nil
}

// fresh implements [home]. What it returns lasts as long as the lead.
func (m *memory) fresh() (*holding, []netip.Prefix) {
	h, room := m.arena.next()
	h.planned = true
	return h, room
}

// ending implements [home].
func (m *memory) ending(context.Context) iter.Seq2[*holding, error] {
	return opened(m.expiry.inOrder())
}

// all implements [home].
func (m *memory) all(context.Context) iter.Seq2[*holding, error] {
	return func(yield func(*holding, error) bool) {
		for k := range m.both() {
			if !yield(k.holding(), nil) {
				return
			}
		}
	}
}

// both iterates over all that is kept.
func (m *memory) both() iter.Seq[*kept] {
	return func(yield func(*kept) bool) {
		for _, k := range m.held {
			if !yield(k) {
				return
			}
		}
		for _, k := range m.strays {
			if !yield(k) {
				return
			}
		}
	}
}

// each implements [home].
func (m *memory) each(_ context.Context, do func(*holding) error) error {
	var own holding
	for k := range m.both() {
		own = holding{}
		k.into(&own)
		own.unshare()
		if err := do(&own); err != nil {
			return err
		}
	}
	return nil
}

// audited implements [home].
func (m *memory) audited(ctx context.Context) iter.Seq2[*holding, error] { return m.all(ctx) }

// withOrphans implements [home].
func (m *memory) withOrphans(_ context.Context, err error) error { return err }

// opened iterates over what is kept.
func opened(all iter.Seq[*kept]) iter.Seq2[*holding, error] {
	return func(yield func(*holding, error) bool) {
		for k := range all {
			if !yield(k.holding(), nil) {
				return
			}
		}
	}
}

// errNeedsStore says that something is for pools in a store.
func errNeedsStore(what string) error {
	return invalid("%s needs a store, such as store.NewMemory; the pool is in memory", what)
}

// takesHistory implements [home].
func (m *memory) takesHistory(spec Spec) error {
	if spec.History != 0 {
		return errNeedsStore("a history")
	}
	return nil
}

// beside implements [home].
func (m *memory) beside(other home) bool {
	_, ok := other.(*memory)
	return ok
}

// neighbour implements [home].
func (m *memory) neighbour(string) (*Pool, error) {
	return nil, errNeedsStore("a pool within another one")
}

// network implements [home].
func (m *memory) network(_ context.Context, name string) (*network, error) {
	return nil, errNeedsStore("the network " + name)
}

// commit implements [home].
func (m *memory) commit(a *attempt) error {
	if slices.ContainsFunc(a.drafts, (*draft).isObserved) {
		m.commitObserved(a)
	} else {
		applyAll(a)
	}
	return nil
}

// commitObserved is commit, of which observers are told.
func (m *memory) commitObserved(a *attempt) {
	ctx, err := a.ctx, errPanicked
	defer func() { a.endCommit(0, err) }()
	for _, d := range a.drafts {
		if d.changesMemory() {
			ctx = a.beginCommit(ctx, d, nil)
		}
	}
	applyAll(a)
	for _, d := range a.drafts {
		d.sent.revision = d.pool.home.revision()
	}
	err = nil
}

// applyAll makes true what an attempt plans.
func applyAll(a *attempt) {
	for _, d := range a.drafts {
		d.pool.home.(*memory).apply(d)
	}
}

// changesMemory reports whether anything changes in the draft's pool, which is in memory.
func (d *draft) changesMemory() bool { return d.next != nil || len(d.writes) > 0 }

// apply makes true what is planned.
func (m *memory) apply(d *draft) {
	if d.next != nil {
		m.known = d.next
	}
	m.known.space.Keep()
	if !d.changesMemory() {
		return
	}
	m.clock++
	for _, w := range d.writes {
		if w.holding.Generation == 0 {
			w.holding.Generation = m.clock
		}
		m.replace(w)
	}
	if m.waiting != nil {
		close(m.waiting)
		m.waiting = nil
	}
}

// replace does one write.
func (m *memory) replace(w write) {
	h := w.holding
	if h.stray {
		m.replaceStray(w)
		return
	}
	var old *kept
	if w.op != store.Create {
		old = m.held[h.Owner]
	}
	if old != nil {
		m.index.remove(old)
	}
	if w.op == store.Delete {
		m.expiry.replace(old, nil)
		m.labels.replace(old, nil)
		delete(m.held, h.Owner)
		return
	}
	k := m.keep(h)
	m.expiry.replace(old, k)
	m.labels.replace(old, k)
	m.held[h.Owner] = k
	m.index.add(k)
}

// replaceStray does one write of what cools down beside what its owner holds.
func (m *memory) replaceStray(w write) {
	name := w.holding.named()
	if w.op == store.Delete {
		m.expiry.replace(m.strays[name], nil)
		delete(m.strays, name)
		return
	}
	k := m.keep(w.holding)
	m.expiry.replace(m.strays[name], k)
	m.strays[name] = k
}

// get implements [home].
func (m *memory) get(_ context.Context, owner string) (*holding, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.held[owner]; k != nil {
		return m.copyOf(k), nil
	}
	return nil, ErrNotFound
}

// copyOf returns what is kept, for somebody who does not lead.
func (m *memory) copyOf(k *kept) *holding {
	if k.rest != nil {
		m.shown = m.clock // its maps and slices
	}
	return k.holding()
}

// find implements [home].
func (m *memory) find(_ context.Context, addr netip.Addr) (*holding, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.index.find(addr.WithZone("")); k != nil {
		return m.copyOf(k), nil
	}
	return nil, ErrNotFound
}

// info implements [home].
func (m *memory) info(context.Context) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, stats := m.known.space, statsOf(m.known.space.Counts())
	return Info{
		Spec: m.known.rules.Spec.clone(), Revision: m.clock, Stats: stats, Holders: s.Tally(space.Holding),
		Reservations: s.Tally(space.Reserved), Quotas: quotaUses(m.known.rules.Quotas, stats, s.Owned()),
		Renumbering: m.known.rules.moving,
	}, nil
}

// records implements [home].
func (m *memory) records(_ context.Context, aside bool) iter.Seq2[*holding, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shown = m.clock
	all := slices.AppendSeq(make([]*kept, 0, len(m.held)), maps.Values(m.held))
	if aside {
		all = slices.AppendSeq(all, maps.Values(m.strays))
	}
	return opened(slices.Values(all))
}

// current implements [home].
func (m *memory) current(context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clock, nil
}

// wait implements [home].
func (m *memory) wait(ctx context.Context, revision int64, until time.Time) error {
	changed := m.nextChange(revision)
	if changed == nil {
		return nil
	}
	within, cancel := m.options.withDeadline(ctx, until)
	defer cancel()
	select {
	case <-changed:
		return nil
	case <-within.Done():
		return ctx.Err()
	}
}

// nextChange returns a channel that is closed with the next change; nil if the pool has another revision already.
func (m *memory) nextChange(revision int64) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.clock != revision {
		return nil
	}
	if m.waiting == nil {
		m.waiting = make(chan struct{})
	}
	return m.waiting
}
