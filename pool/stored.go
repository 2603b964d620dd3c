package pool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ipalloc/ipalloc/pool/internal/group"
	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

const (
	// maxBatch is how many tasks are committed together at most. A store that cannot take as many makes it less.
	maxBatch = 4096
	// maxHeld is how many records a handle remembers, to change them without reading.
	maxHeld = 1 << 16
)

// stored is a pool's home in a store. What it knows belongs to whoever leads its queue.
type stored struct {
	name    string
	store   store.Store
	options *Options
	queues  [1]*group.Queue
	runner  runner

	head   store.Record // as this handle knows it; of revision 0 if there is none
	known  *state       // of the head; nil if it must be read
	held   map[string]*holding
	looked map[string]bool // of which owners held is what the store has, or had a moment after the head
	learnt map[string]bool // the same for the next attempt, by the error of a commit
	// unsettled is the revision of the head on which a commit of unknown outcome was made; 0 if there is none. As long as
	// the head has that revision, the commit may yet take effect.
	unsettled int64
	// astray says that other handles may yet do what this one has asked for, on whichever head, until a commit of its own
	// has made a fence.
	astray bool
	// heard is the revision of the latest commit that has answered this handle; 0 if none has.
	heard int64
	// seen is the head that a watch has seen last, if it may be newer than head. Anybody may put one there.
	seen atomic.Pointer[store.Record]
	// described is what info has last read from a head.
	described atomic.Pointer[description]
	// met is set when another handle has changed the pool.
	met atomic.Bool

	rivalry int // see turn.go

	// repeats says that claims which came together were of owners that nearly all held something already.
	repeats bool

	most int // how many tasks a commit may have
	full int // how many commits had that many since it was made less
}

func newStored(s store.Store, name string, options *Options) *stored {
	return &stored{
		name: name, store: s, options: options, most: maxBatch, head: store.Record{Key: headKey(name), State: stateActive},
		queues: [1]*group.Queue{new(group.Queue)}, held: map[string]*holding{}, looked: map[string]bool{},
		learnt: map[string]bool{},
	}
}

func (s *stored) state() *state      { return s.known }
func (s *stored) revision() int64    { return s.head.Revision }
func (s *stored) created() time.Time { return s.head.Created }
func (s *stored) batch() int         { return s.most }

// limit implements [home].
func (s *stored) limit(tasks int) { s.most, s.full = max(1, min(s.most, tasks)), 0 }

// fewTasks is how many tasks a commit may have however long it takes: what holds up a small commit is not its size.
const fewTasks = 64

// adapt makes commits as large as can be done in a turn, after one of so many tasks that took so long.
func (s *stored) adapt(tasks int, took time.Duration) {
	if took <= store.MaxTurn || tasks <= fewTasks {
		s.grow(tasks)
		return
	}
	s.limit(max(fewTasks, int(int64(tasks)*int64(store.MaxTurn)/int64(took))))
}

// grow lets commits have more tasks again, some time after one had too many: perhaps it had larger records than most.
func (s *stored) grow(tasks int) {
	const patience = 32 // full commits
	if s.most == maxBatch || tasks < s.most {
		return
	}
	if s.full++; s.full >= patience {
		s.most, s.full = min(2*s.most, maxBatch), 0
	}
}

// ready implements [home].
func (s *stored) ready(ctx context.Context, again bool) (proof, fence bool, err error) {
	if !again {
		clear(s.learnt) // a new op may want an answer, and what was learnt before it began is none
	}
	s.looked, s.learnt = s.learnt, s.looked
	clear(s.learnt)
	if s.known == nil {
		if err := s.refresh(ctx); err != nil {
			return false, false, err
		}
	} else if seen := s.seen.Swap(nil); seen != nil && seen.Revision > s.head.Revision {
		if err := s.adopt(ctx, *seen); err != nil {
			return false, false, err
		}
	}
	if s.unsettled != s.head.Revision {
		s.unsettled = 0
	}
	return s.unsettled != 0, s.astray, nil
}

// refresh implements [home].
func (s *stored) refresh(ctx context.Context) error {
	head, err := getHead(ctx, s.store, s.name)
	if err != nil {
		s.forget()
		return err
	}
	if s.known != nil && head.Revision == s.head.Revision {
		return nil
	}
	return s.adopt(ctx, head)
}

// unchanged implements [home].
func (s *stored) unchanged(ctx context.Context) (bool, error) {
	before := s.head.Revision
	err := s.refresh(ctx)
	if errors.Is(err, ErrNoPool) && before == 0 { // it is only being made
		return true, nil
	}
	return s.head.Revision == before, err
}

// reread implements [home].
func (s *stored) reread(ctx context.Context) error {
	s.forget()
	return s.refresh(ctx)
}

// isAt implements [home].
func (s *stored) isAt(ctx context.Context, revision int64) (bool, error) {
	head, err := getHead(ctx, s.store, s.name)
	return head.Revision == revision, err
}

// spaceRecords implements [home].
func (s *stored) spaceRecords(ctx context.Context) iter.Seq2[store.Key, error] {
	return s.keys(ctx, store.KindSpace)
}

// keys iterates over the keys of the pool's records of some kinds.
func (s *stored) keys(ctx context.Context, kinds ...store.Kind) iter.Seq2[store.Key, error] {
	return func(yield func(store.Key, error) bool) {
		for _, kind := range kinds {
			for r, err := range s.store.List(ctx, kind, s.name) {
				if !yield(r.Key, err) || err != nil {
					return
				}
			}
		}
	}
}

// blank implements [home]. If the state is unknown because it cannot be read, the next commit
// replaces the head that blank has read.
func (s *stored) blank(ctx context.Context) (*state, error) {
	head, err := getHead(ctx, s.store, s.name)
	if err != nil {
		return nil, err
	}
	h, err := decodeHead(head)
	if err != nil {
		return nil, err
	}
	e, err := h.readRules(ctx, s.store, s.name)
	if errors.Is(err, store.ErrNotFound) {
		err = errGone
	}
	if err != nil {
		return nil, err
	}
	r, err := e.decode()
	if err != nil {
		return nil, badSpec(err)
	}
	if s.known == nil {
		s.head = head
	}
	return newState(r, h.parentOf(), s.options.Random)
}

// forget drops all that is known.
func (s *stored) forget() {
	s.known = nil
	s.forgetHeld()
}

// forgetHeld drops what is known of what owners hold.
func (s *stored) forgetHeld() {
	clear(s.held)
	clear(s.looked)
	clear(s.learnt)
}

// adopt makes the state that of a head that the store has now, or had a moment ago.
func (s *stored) adopt(ctx context.Context, head store.Record) error {
	if s.known != nil {
		s.met.Store(true)
	}
	s.forgetHeld()
	for {
		again, err := s.load(ctx, head)
		if err != nil {
			s.forget()
			return err
		}
		if !again {
			return nil
		}
		// A record has gone: the head that named it has been replaced.
		newer, err := getHead(ctx, s.store, s.name)
		if err == nil && newer.Revision == head.Revision {
			err = errGone
		}
		if err != nil {
			s.forget()
			return err
		}
		head = newer
	}
}

// load makes the state that of a head. It reports whether a record that the head names was not there.
func (s *stored) load(ctx context.Context, head store.Record) (gone bool, err error) {
	h, err := decodeHead(head)
	if err != nil {
		return false, err
	}
	r, err := s.rulesOf(ctx, h)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	if err == nil {
		err = h.check(r.families)
	}
	if err != nil {
		return false, err
	}
	if s.known == nil || s.known.rules != r {
		if s.known, err = newState(r, parentage{}, s.options.Random); err != nil {
			return false, badSpec(err)
		}
	}
	s.known.parent, s.known.record, s.known.past, s.known.fence = h.parentOf(), h.Rules, h.History, h.Fence
	pieces, err := s.pieces(ctx, s.known.space.Missing(&h.Head))
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if err := s.known.space.Load(&h.Head, pieces); err != nil {
		return false, corrupt(err)
	}
	s.head = head
	return false, nil
}

// rulesOf returns the rules of a head: those that are known, if they are the same. The error wraps [store.ErrNotFound]
// if the record that has them is gone.
func (s *stored) rulesOf(ctx context.Context, h *headData) (*rules, error) {
	if known := s.known; known != nil && known.record == h.Rules {
		if h.Rules != "" || known.rules.isIn(h.encodedRules) {
			return known.rules, nil
		}
	}
	e, err := h.readRules(ctx, s.store, s.name)
	if err != nil {
		return nil, err
	}
	r, err := e.decode()
	if err != nil {
		return nil, badSpec(err)
	}
	return r, nil
}

// pieces reads records of free space, at once if the store can.
func (s *stored) pieces(ctx context.Context, ids []string) (map[string][]byte, error) {
	keys := make([]store.Key, len(ids))
	for i, id := range ids {
		keys[i] = s.key(store.KindSpace, id)
	}
	records, err := store.GetAll(ctx, s.store, keys...)
	if err != nil {
		return nil, err
	}
	pieces := make(map[string][]byte, len(ids))
	for i, record := range records {
		if record.Revision == 0 {
			return nil, fmt.Errorf("%w: %v", store.ErrNotFound, keys[i])
		}
		pieces[ids[i]] = record.Data
	}
	return pieces, nil
}

func (s *stored) key(kind store.Kind, name string) store.Key {
	return store.Key{Kind: kind, Pool: s.name, Name: name}
}

// fresh implements [home].
func (s *stored) fresh() (*holding, []netip.Prefix) { return newHolding(Allocation{}) }

// holding implements [home].
func (s *stored) holding(ctx context.Context, owner string, certain bool) (*holding, bool, error) {
	if owner == "" { // nobody asks
		return nil, true, nil
	}
	if h := s.held[owner]; s.looked[owner] || !certain {
		return h, s.looked[owner], nil
	}
	record, err := s.store.Get(ctx, s.key(store.KindAllocation, owner))
	if errors.Is(err, store.ErrNotFound) {
		record, err = store.Record{}, nil
	}
	if err == nil {
		err = s.look(owner, record)
	}
	return s.held[owner], err == nil, err
}

// look takes note of what the store has as the owner's record, of revision 0 if there is none.
func (s *stored) look(owner string, record store.Record) error {
	if record.Revision == 0 {
		delete(s.held, owner)
	} else {
		h, err := holdingOf(record)
		if err != nil {
			return err
		}
		s.remember(h)
	}
	s.looked[owner] = true
	return nil
}

// mustLook implements [home].
func (s *stored) mustLook(owner string, claims bool) bool {
	return !s.looked[owner] && (s.held[owner] != nil) == claims
}

// mayLook implements [home].
func (s *stored) mayLook(owner string) bool { return s.repeats && !s.looked[owner] }

// lookUp implements [home].
func (s *stored) lookUp(ctx context.Context, owners []string) {
	if len(owners) < 2 {
		return
	}
	keys := make([]store.Key, len(owners))
	for i, owner := range owners {
		keys[i] = s.key(store.KindAllocation, owner)
	}
	records, err := store.GetAll(ctx, s.store, keys...)
	if err != nil {
		return
	}
	found := 0
	for i := range records {
		if s.look(owners[i], records[i]) != nil {
			return
		}
		if records[i].Revision != 0 {
			found++
		}
	}
	s.repeats = s.repeats && 2*found >= len(records)
}

func (s *stored) remember(h *holding) {
	if len(s.held) >= maxHeld {
		s.forgetSome()
	}
	s.held[h.Owner] = h
}

// forgetSome forgets what some owners hold, but nothing that was looked up for a plan: that would seem to be held no
// longer. It forgets none if that is most of what the handle remembers, and makes up for it later. It is several owners
// at once, since finding the first one takes longer than the next.
func (s *stored) forgetSome() {
	tries, left := 128, 64
	for owner := range s.held {
		if !s.looked[owner] && !s.learnt[owner] {
			delete(s.held, owner)
			left--
		}
		if tries--; tries == 0 || left == 0 {
			return
		}
	}
}

// ending implements [home].
func (s *stored) ending(ctx context.Context) iter.Seq2[*holding, error] {
	allocations := holdings(s.store.ByExpiry(ctx, store.KindAllocation, s.name))
	if s.known.space.Tally(space.Aside) == 0 {
		return allocations
	}
	return byExpiry(allocations, holdings(s.store.ByExpiry(ctx, store.KindCooling, s.name)))
}

// aside implements [home].
func (s *stored) aside(ctx context.Context) iter.Seq2[*holding, error] {
	return holdings(s.store.List(ctx, store.KindCooling, s.name))
}

// at implements [home].
func (s *stored) at(ctx context.Context, addr netip.Addr) (*holding, error) {
	switch h, err := s.find(ctx, addr); {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	default:
		return h, err
	}
}

// all implements [home].
func (s *stored) all(ctx context.Context) iter.Seq2[*holding, error] {
	return func(yield func(*holding, error) bool) {
		for _, kind := range []store.Kind{store.KindAllocation, store.KindCooling} {
			for h, err := range holdings(s.store.List(ctx, kind, s.name)) {
				if !yield(h, err) || err != nil {
					return
				}
			}
		}
	}
}

// each implements [home].
func (s *stored) each(ctx context.Context, do func(*holding) error) error {
	var h holding
	for _, kind := range []store.Kind{store.KindAllocation, store.KindCooling} {
		for r, err := range s.store.List(ctx, kind, s.name) {
			if err == nil {
				h, err = readHolding(r)
			}
			if err == nil {
				err = do(&h)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func holdings(records iter.Seq2[store.Record, error]) iter.Seq2[*holding, error] {
	return func(yield func(*holding, error) bool) {
		for r, err := range records {
			var h *holding
			if err == nil {
				h, err = holdingOf(r)
			}
			if !yield(h, err) || err != nil {
				return
			}
		}
	}
}

// byExpiry merges two iterations in which the earliest comes first.
func byExpiry(a, b iter.Seq2[*holding, error]) iter.Seq2[*holding, error] {
	return func(yield func(*holding, error) bool) {
		next, stop := iter.Pull2(b)
		defer stop()
		waiting, err, more := next()
		for h, failed := range a {
			for more && (err != nil || failed == nil && waiting.Expires.Before(h.Expires)) {
				if !yield(waiting, err) || err != nil {
					return
				}
				waiting, err, more = next()
			}
			if !yield(h, failed) || failed != nil {
				return
			}
		}
		for ; more && yield(waiting, err) && err == nil; waiting, err, more = next() {
		}
	}
}

// beside implements [home]. Stores of a type whose values cannot be compared count as different ones.
func (s *stored) beside(other home) bool {
	o, ok := other.(*stored)
	return ok && (o == s || reflect.ValueOf(s.store).Comparable() && o.store == s.store)
}

// neighbour implements [home].
func (s *stored) neighbour(name string) (*Pool, error) { return newHandle(s.store, name, s.options) }

// commit implements [home]: it commits the heads of all pools and networks that the attempt
// changes, in one commit of the store.
func (s *stored) commit(a *attempt) error {
	var changed []*draft
	some := a.hasChanges()
	var changes []store.Change
	var states []encoded
	for _, d := range a.drafts {
		if !d.changes(some) {
			continue
		}
		change, state, err := d.pool.home.(*stored).change(a, d)
		if err != nil {
			return err
		}
		changed, changes, states = append(changed, d), append(changes, change), append(states, state)
	}
	for _, n := range a.nets {
		change, err := n.change()
		if err != nil {
			return err
		}
		changes = append(changes, change)
	}
	if len(changes) == 0 {
		return nil
	}
	records, err := s.send(a, changed, changes)
	if err != nil {
		return err
	}
	for i, d := range changed {
		d.pool.home.(*stored).committed(d, records[i], states[i])
	}
	s.adapt(a.tasks(), a.took)
	return nil
}

// send commits the changes, of which the first are those of the drafts. The callers cannot cut it short once it has
// begun. It ends after CommitTimeout or, if the leading op is uncertain, at the deadline of that op at the latest.
func (s *stored) send(
	a *attempt, changed []*draft, changes []store.Change,
) (records []store.Record, err error) {
	within := context.WithoutCancel(a.ctx)
	if first := a.batch[0]; first.uncertain {
		within = first.deadline
	}
	ctx, cancel := context.WithTimeout(within, s.options.CommitTimeout)
	defer cancel()
	if a.turn != nil {
		for i := range changes {
			changes[i].Turn = a.turn
		}
	}
	err = errPanicked
	defer func() { a.endCommit(a.took, err) }()
	for i, d := range changed {
		ctx = a.beginCommit(ctx, d, &changes[i])
	}
	begin := s.options.Clock()
	records, err = s.store.Commit(ctx, changes...)
	a.took = s.options.Clock().Sub(begin)
	if err == nil {
		for i, d := range changed {
			d.sent.revision = records[i].Revision
		}
	}
	if errors.Is(err, store.ErrUnknown) {
		s.options.Logger.Warn("outcome of a commit is unknown, reading again",
			slog.String("pool", s.name), slog.Any("error", err))
	}
	return records, err
}

// change is what makes the stored pool what the draft plans, and the state that it then has.
func (s *stored) change(a *attempt, d *draft) (store.Change, encoded, error) {
	change := store.Change{Head: s.head}
	if !d.created.IsZero() {
		change.Head = store.Record{Key: s.head.Key, State: stateActive, Created: d.created, Revision: s.head.Revision}
	}
	past, history, err := s.past(a, d)
	if err != nil {
		return change, encoded{}, err
	}
	var state encoded
	if !d.gone {
		if state, err = d.state().encode(s.head.Revision, past, s.fence(d)); err != nil {
			return change, encoded{}, err
		}
	}
	writes := d.merged()
	change.Writes = make([]store.Write, 0, len(writes)+len(history)+len(d.others)+len(state.records))
	for _, w := range writes {
		record := store.Record{Key: w.holding.key(s.name)}
		if w.op != store.Delete {
			if record, err = w.holding.record(s.name); err != nil {
				return change, encoded{}, err
			}
		}
		change.Writes = append(change.Writes, store.Write{Op: w.op, Record: record})
	}
	change.Writes = append(append(change.Writes, history...), d.others...)
	if d.next != nil || d.gone {
		change.Writes = append(change.Writes, s.dropRecords(d)...)
	}
	if d.gone {
		change.Writes = append(change.Writes, store.Write{Op: store.Delete, Record: store.Record{Key: s.head.Key}})
		return change, encoded{}, nil
	}
	change.Head.Data = state.data
	if d.head != "" {
		change.Head.State = d.head
	}
	for _, piece := range state.records {
		w := store.Write{
			Op: store.Create, Record: store.Record{Key: s.key(store.KindSpace, piece.ID), State: stateSpace, Data: piece.Data},
		}
		switch {
		case piece.Data == nil:
			w.Op = store.Delete
		case piece.ID == state.rules:
			w.Record.State = stateRules
		}
		change.Writes = append(change.Writes, w)
	}
	change.Writes = replacing(change.Writes)
	return change, state, nil
}

// fence is the revision that the head is to name which the draft writes: that of the last fence. If that is not known,
// this is one.
func (s *stored) fence(d *draft) int64 {
	if d.fence || s.known == nil {
		return s.head.Revision
	}
	return s.known.fence
}

// replacing returns the writes, but records of what the head names that are both deleted and created are put in place
// of the old ones. There are such where a pool is made anew whose head is gone: names are made of its revision, which
// begins again.
func replacing(writes []store.Write) []store.Write {
	const both = 1<<store.Create | 1<<store.Delete
	ops, some := map[store.Key]store.Op{}, false
	for i := range writes {
		if w := &writes[i]; w.Record.Kind == store.KindSpace {
			ops[w.Record.Key] |= 1 << w.Op
			some = some || ops[w.Record.Key] == both
		}
	}
	if !some {
		return writes
	}
	var merged []store.Write
	for _, w := range writes {
		if ops[w.Record.Key] == both && w.Op == store.Delete {
			continue
		}
		if ops[w.Record.Key] == both {
			w.Op = store.Put
		}
		merged = append(merged, w)
	}
	return merged
}

// The states of the records that a head names.
const (
	stateSpace = "free space"
	stateRules = "rules"
)

// dropRecords deletes the records that the present head names and the draft does not delete already.
func (s *stored) dropRecords(d *draft) []store.Write {
	h, err := decodeHead(s.head)
	if err == nil {
		err = h.checkPieces()
	}
	if err != nil {
		return nil // there is none, or what it has cannot be read, which Repair deals with
	}
	var writes []store.Write
	for _, id := range h.records() {
		key := s.key(store.KindSpace, id)
		if !slices.ContainsFunc(d.others, func(w store.Write) bool { return w.Record.Key == key }) {
			writes = append(writes, store.Write{Op: store.Delete, Record: store.Record{Key: key}})
		}
	}
	return writes
}

// committed takes note that a draft has been committed.
func (s *stored) committed(d *draft, head store.Record, state encoded) {
	s.win()
	s.unsettled = 0
	if d.fence {
		s.astray = false
	}
	if d.gone {
		s.head = store.Record{Key: s.head.Key}
		s.forget()
		return
	}
	if d.next != nil {
		s.known = d.next
		s.forgetHeld()
	}
	s.known.space.Committed(state.free)
	s.known.record, s.known.past, s.known.fence = state.rules, state.past, state.fence
	s.head = head
	for _, w := range d.writes {
		h := w.holding
		if h.written = head.Revision; h.Generation == 0 {
			h.Generation = head.Revision
		}
		switch {
		case h.stray:
		case w.op == store.Delete:
			delete(s.held, h.Owner)
		default:
			s.remember(h)
		}
	}
}

// learn implements [home].
func (s *stored) learn(ctx context.Context, err error) bool {
	var conflict *store.ConflictError
	var exists *store.ExistsError
	switch {
	case errors.Is(err, store.ErrUnknown):
		s.unsettled = s.head.Revision
		s.forget()
	case errors.As(err, &conflict):
		if conflict.Current.Key == s.head.Key {
			s.lose()
		}
		if conflict.Current.Key == s.head.Key && (conflict.Current.Revision == 0 || s.adopt(ctx, conflict.Current) != nil) {
			s.forget()
		}
		return true
	case errors.As(err, &exists):
		if s.known != nil && slices.ContainsFunc(exists.Records, isPast) {
			s.known.past = ledger{} // the head was restored from an earlier copy than the history
			return true
		}
		return s.note(exists.Records)
	}
	return false
}

// note remembers, for the next attempt, the records that stood in the way because owners of this pool have them
// already. It reports whether there are any.
func (s *stored) note(records []store.Record) bool {
	found := false
	s.repeats = s.repeats || len(records) >= fewTasks
	for _, record := range records {
		if record.Kind != store.KindAllocation || record.Pool != s.name {
			continue
		}
		if h, err := holdingOf(record); err == nil {
			s.remember(h)
			s.learnt[h.Owner], found = true, true
		}
	}
	return found
}

// get implements [home].
func (s *stored) get(ctx context.Context, owner string) (*holding, error) {
	record, err := s.store.Get(ctx, s.key(store.KindAllocation, owner))
	if err != nil {
		return nil, err
	}
	return holdingOf(record)
}

// find implements [home].
func (s *stored) find(ctx context.Context, addr netip.Addr) (*holding, error) {
	record, err := s.store.Find(ctx, s.name, addr)
	if err != nil {
		return nil, err
	}
	return holdingOf(record)
}

// info implements [home].
func (s *stored) info(ctx context.Context) (Info, error) {
	head, err := getHead(ctx, s.store, s.name)
	if err != nil {
		return Info{}, err
	}
	if known := s.described.Load(); known != nil && known.is(head) {
		return known.info.clone(), nil
	}
	info, err := describe(ctx, s.store, head)
	if err == nil && info.Revision == head.Revision {
		s.described.Store(&description{info.clone(), head.Data})
	}
	return info, err
}

// description is what a head says, which need not be read again.
type description struct {
	info Info
	data []byte // of the head
}

// is reports whether the head is the one that was described, also if a store was restored from an earlier copy.
func (d *description) is(head store.Record) bool {
	return d.info.Revision == head.Revision && d.info.Created.Equal(head.Created) && bytes.Equal(d.data, head.Data)
}

// records implements [home].
func (s *stored) records(ctx context.Context, aside bool) iter.Seq2[*holding, error] {
	if aside {
		return s.all(ctx)
	}
	return holdings(s.store.List(ctx, store.KindAllocation, s.name))
}

// current implements [home].
func (s *stored) current(ctx context.Context) (int64, error) {
	head, err := getHead(ctx, s.store, s.name)
	return head.Revision, err
}

// wait implements [home].
func (s *stored) wait(ctx context.Context, revision int64, until time.Time) error {
	within, cancel := s.options.withDeadline(ctx, until)
	defer cancel()
	head, err := s.store.Watch(within, headKey(s.name), revision)
	switch {
	case err == nil:
		s.seen.Store(&head)
		return nil
	case within.Err() != nil && ctx.Err() == nil:
		return nil
	case errors.Is(err, store.ErrNotFound):
		return ErrNoPool
	}
	return err
}
