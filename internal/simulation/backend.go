package simulation

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// ErrRefused is why a step failed that was refused.
var ErrRefused = errors.New("simulated refusal")

// Faults are faults of a backend that are to be found.
type Faults struct {
	// Unguarded commits do not look at the heads' revisions.
	Unguarded bool
	// UnguardedBeside is the same for all heads of a commit but the first.
	UnguardedBeside bool
	// Torn means that when a process dies after a commit only half of its writes are there.
	Torn bool
	// Parted means that when a process dies after a commit of several heads only the first is there.
	Parted bool
	// Stale means that a record is now and then read as it was before it was written last.
	Stale bool
	// Unfenced commits that change nothing are not made, though they are answered.
	Unfenced bool
	// Turnless means that there is no order: each turn is had at once.
	Turnless bool
	// Overtaking means that commits without a turn do not wait for those that have one.
	Overtaking bool
	// AnswersUncommitted are given also if the commit that has them fails.
	AnswersUncommitted bool
	// AnswersTwice means that an ask stays there for others when it has been answered.
	AnswersTwice bool
	// AnswersLate means that an ask stays there when its caller has withdrawn it.
	AnswersLate bool
	// AnswersAstray means that the answers of a commit to several asks are given to the wrong ones, under their names.
	AnswersAstray bool
	// AnswersTorn means that when a process dies after a commit its answers are not there.
	AnswersTorn bool
	// Spoil changes what is committed. May be nil.
	Spoil func(*store.Change)
}

// Backend is a simulated backend: records in memory, and a handle for each process. It is not safe for concurrent use,
// which a world does not need.
type Backend struct {
	Faults
	// Observe is told of each record that a commit writes or, if now.Revision is 0, deletes.
	Observe func(before, now store.Record)
	// Commits, Conflicts and Answers are counted.
	Commits, Conflicts, Answers int

	turns    turns
	kept     turns // asks that should be there no more, of a backend that is broken
	records  map[store.Key]store.Record
	earlier  map[store.Key]store.Record // what was there before, if Stale
	keys     []store.Key                // sorted, so that lists have an order
	revision int64
	ledger   *ledger // what the records say
	broken   error   // the first rule that a commit has broken
}

// NewBackend returns an empty backend.
func NewBackend() *Backend {
	return &Backend{
		records: map[store.Key]store.Record{}, earlier: map[store.Key]store.Record{}, ledger: newLedger(),
	}
}

// Handle returns the store as a process sees it. A nil process sees it without steps.
func (b *Backend) Handle(p *Process) store.Store { return &handle{b, p} }

// Check returns the first rule that a commit has broken, or nil.
func (b *Backend) Check() error { return b.broken }

type handle struct {
	backend *Backend
	process *Process
}

func (h *handle) step(changes bool) Fate {
	if h.process == nil {
		return Pass
	}
	return h.process.Step(changes)
}

// read makes a step that reads.
func (h *handle) read(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if h.step(false) == Refuse {
		if h.process.World.Random.IntN(2) == 0 {
			return fmt.Errorf("%w: %w", ErrRefused, context.DeadlineExceeded)
		}
		return ErrRefused
	}
	return ctx.Err()
}

func (h *handle) Get(ctx context.Context, key store.Key) (store.Record, error) {
	if err := h.read(ctx); err != nil {
		return store.Record{}, err
	}
	r, ok := h.backend.read(h.process, key)
	if !ok {
		return store.Record{}, fmt.Errorf("%w: %v", store.ErrNotFound, key)
	}
	return r.Canonical(), nil
}

func (b *Backend) read(p *Process, key store.Key) (store.Record, bool) {
	if b.Stale && p != nil && key.Name != "" && p.World.chance(0.1) {
		r, ok := b.earlier[key]
		return r, ok && r.Revision > 0
	}
	r, ok := b.records[key]
	return r, ok
}

// listed is how many records a List reads in one step.
const listed = 4

// List reads a few records a step, each as it is then.
func (h *handle) List(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := h.read(ctx); err != nil {
			yield(store.Record{}, err)
			return
		}
		for i, key := range h.backend.keysOf(kind, pool) {
			if i%listed == listed-1 {
				if err := h.read(ctx); err != nil {
					yield(store.Record{}, err)
					return
				}
			}
			if r, ok := h.backend.records[key]; ok && !yield(r.Canonical(), nil) {
				return
			}
		}
	}
}

// keysOf returns the keys of one kind: those of one pool, or of all if pool is empty.
func (b *Backend) keysOf(kind store.Kind, pool string) []store.Key {
	first, _ := slices.BinarySearchFunc(b.keys, store.Key{Kind: kind, Pool: pool}, store.Key.Compare)
	last := first
	for last < len(b.keys) && b.keys[last].Kind == kind && (pool == "" || b.keys[last].Pool == pool) {
		last++
	}
	return slices.Clone(b.keys[first:last])
}

func (h *handle) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return store.ByExpiryFromList(ctx, h.List, kind, pool)
}

func (h *handle) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
	return store.FindByList(ctx, h.List, pool, addr)
}

func (h *handle) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	return store.WatchByPolling(ctx, h.Get, key, revision, time.Millisecond)
}

func (h *handle) Close() error { return nil }

func (h *handle) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	defer store.EndTurns(changes)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := store.ValidateCommit(changes...); err != nil {
		return nil, err
	}
	if err := h.yield(ctx, changes); err != nil {
		return nil, err
	}
	sent := commit{changes: copyOf(changes), answers: answersOf(changes)}
	for i := range sent.changes {
		if h.backend.Spoil != nil {
			h.backend.Spoil(&sent.changes[i])
		}
	}
	if h.process == nil {
		return h.backend.commit(sent)
	}
	sent.call = h.process.call
	heads, err := h.send(ctx, sent)
	if err != nil && h.backend.AnswersUncommitted {
		h.backend.give(sent, []store.Record{{Revision: h.backend.revision}})
	}
	return heads, err
}

// send makes the step of a commit.
func (h *handle) send(ctx context.Context, sent commit) ([]store.Record, error) {
	w := h.process.World
	land := func() { _, _ = h.backend.commit(sent) }
	fate := h.step(true)
	if fate == Pass && ctx.Err() != nil {
		fate = TimeOut // it was under way when its context ended
	}
	switch fate {
	case Refuse:
		return nil, ErrRefused
	case LoseRequest:
		return nil, fmt.Errorf("%w: the request was lost", store.ErrUnknown)
	case LoseReply:
		land()
		return nil, fmt.Errorf("%w: the reply was lost", store.ErrUnknown)
	case Late:
		w.Postpone(land)
		return nil, fmt.Errorf("%w: it takes long", store.ErrUnknown)
	case TimeOut:
		[]func(){land, func() { w.Postpone(land) }, func() {}}[w.Random.IntN(3)]()
		return nil, fmt.Errorf("%w: %w", store.ErrUnknown, context.DeadlineExceeded)
	case CrashAfter:
		_, _ = h.backend.commit(h.backend.damaged(sent))
		h.process.Die()
	}
	return h.backend.commit(sent)
}

// damaged is what a commit leaves when its process dies after it: all of it, in a sound backend.
func (b *Backend) damaged(c commit) commit {
	if b.Parted {
		c.changes = c.changes[:1]
	}
	if b.Torn && len(c.changes[0].Writes) > 0 {
		c.changes[0].Writes = c.changes[0].Writes[:len(c.changes[0].Writes)/2]
	}
	c.torn = b.AnswersTorn
	return c
}

// commit is what is committed at once.
type commit struct {
	call    *Call // who does it; nil for nobody
	changes []store.Change
	answers      // to others, for whom it does something too
	torn    bool // they are lost
}

func copyOf(changes []store.Change) []store.Change {
	copied := make([]store.Change, len(changes))
	for i, c := range changes {
		copied[i].Head = c.Head.Canonical()
		for _, w := range c.Writes {
			copied[i].Writes = append(copied[i].Writes, store.Write{Op: w.Op, Record: w.Record.Canonical()})
		}
	}
	return copied
}

// commit makes a commit.
func (b *Backend) commit(sent commit) ([]store.Record, error) {
	changes := sent.changes
	if err := b.admit(changes); err != nil {
		return nil, err
	}
	if err := b.admitAnswers(sent); err != nil {
		return nil, err
	}
	if b.Unfenced && len(changes) == 1 && len(changes[0].Writes) == 0 && b.ledger.isAs(changes[0].Head) {
		heads := []store.Record{b.records[changes[0].Head.Key].Canonical()}
		b.give(sent, heads)
		return heads, nil
	}
	b.Commits++
	b.revision++
	heads := make([]store.Record, len(changes))
	for i, c := range changes {
		heads[i] = c.Head
		heads[i].Revision = b.revision
		for _, w := range c.Writes {
			if w.Op == store.Delete {
				b.remove(sent, w.Record.Key)
			} else {
				b.put(sent, w.Record)
			}
		}
		if !c.DeletesHead() {
			b.put(sent, heads[i])
		}
		heads[i] = heads[i].Canonical()
	}
	if err := b.ledger.check(); err != nil && b.broken == nil {
		b.broken = fmt.Errorf("commit %d: %w", b.Commits, err)
		if sent.call != nil {
			b.broken = fmt.Errorf("%w, by %s", b.broken, sent.call.What)
		}
	}
	if !sent.torn {
		b.give(sent, heads)
	}
	return heads, nil
}

func (b *Backend) admit(changes []store.Change) error {
	for i, c := range changes {
		current, ok := b.records[c.Head.Key]
		guarded := !b.Unguarded && (i == 0 || !b.UnguardedBeside)
		if guarded && current.Revision != c.Head.Revision {
			b.Conflicts++
			if !ok {
				current = store.Record{Key: c.Head.Key}
			}
			return &store.ConflictError{Expected: c.Head.Revision, Current: current.Canonical()}
		}
	}
	for _, c := range changes {
		for _, w := range c.Writes {
			if standing, ok := b.records[w.Record.Key]; ok && w.Op == store.Create {
				return &store.ExistsError{Records: []store.Record{standing.Canonical()}}
			}
		}
	}
	return nil
}

func (b *Backend) put(by commit, r store.Record) {
	before, known := b.records[r.Key]
	r.Revision = b.revision
	b.keep(before, r.Key)
	b.records[r.Key] = r
	if !known {
		i, _ := slices.BinarySearchFunc(b.keys, r.Key, store.Key.Compare)
		b.keys = slices.Insert(b.keys, i, r.Key)
	}
	b.wrote(by, before, r)
}

func (b *Backend) remove(by commit, key store.Key) {
	before, known := b.records[key]
	if !known {
		return
	}
	b.keep(before, key)
	delete(b.records, key)
	i, _ := slices.BinarySearchFunc(b.keys, key, store.Key.Compare)
	b.keys = slices.Delete(b.keys, i, i+1)
	b.wrote(by, before, store.Record{Key: key})
}

// wrote passes on that a record was before and is now.
func (b *Backend) wrote(by commit, before, now store.Record) {
	if b.ledger.write(before, now) && by.call != nil {
		by.note(Change{before, now})
	}
	if b.Observe != nil {
		b.Observe(before, now)
	}
}

// keep keeps what a record was for those who read stale ones.
func (b *Backend) keep(before store.Record, key store.Key) {
	if b.Stale {
		b.earlier[key] = before
	}
}
