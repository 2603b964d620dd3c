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

// Backend is a simulated backend: records in memory, and a handle for each process. It is not safe for concurrent use, which a world does not need.
type Backend struct {
	// Unguarded is a fault to be found: commits do not look at the heads' revisions.
	Unguarded bool
	// Torn is a fault to be found: when a process dies after a commit only half of its writes are there.
	Torn bool
	// Parted is a fault to be found: when a process dies after a commit of several heads only the first is there.
	Parted bool
	// Spoil is a fault to be found: it changes what is committed. May be nil.
	Spoil func(*store.Change)
	// Stale is a fault to be found: a record is now and then read as it was before it was written last.
	Stale bool
	// Observe is told of each record that a commit writes or, if now.Revision is 0, deletes.
	Observe func(before, now store.Record)
	// Commits and Conflicts are counted.
	Commits, Conflicts int

	records  map[store.Key]store.Record
	earlier  map[store.Key]store.Record // what was there before, if Stale
	keys     []store.Key                // sorted, so that lists have an order
	revision int64
}

// NewBackend returns an empty backend.
func NewBackend() *Backend {
	return &Backend{records: map[store.Key]store.Record{}, earlier: map[store.Key]store.Record{}}
}

// Handle returns the store as a process sees it. A nil process sees it without steps.
func (b *Backend) Handle(p *Process) store.Store { return &handle{b, p} }

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

func (h *handle) Get(ctx context.Context, key store.Key) (store.Record, error) {
	if err := ctx.Err(); err != nil {
		return store.Record{}, err
	}
	if h.step(false) == Refuse {
		return store.Record{}, ErrRefused
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

// List reads one record a step, each as it is then.
func (h *handle) List(_ context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if h.step(false) == Refuse {
			yield(store.Record{}, ErrRefused)
			return
		}
		for i, key := range slices.Clone(h.backend.keys) {
			if key.Kind != kind || pool != "" && key.Pool != pool {
				continue
			}
			if i%4 == 3 && h.step(false) == Refuse {
				yield(store.Record{}, ErrRefused)
				return
			}
			if r, ok := h.backend.records[key]; ok && !yield(r.Canonical(), nil) {
				return
			}
		}
	}
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
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := store.ValidateCommit(changes...); err != nil {
		return nil, err
	}
	changes = copyOf(changes)
	for i := range changes {
		if h.backend.Spoil != nil {
			h.backend.Spoil(&changes[i])
		}
	}
	switch h.step(true) {
	case Refuse:
		return nil, ErrRefused
	case LoseRequest:
		return nil, fmt.Errorf("%w: the request was lost", store.ErrUnknown)
	case LoseReply:
		_, _ = h.backend.commit(changes)
		return nil, fmt.Errorf("%w: the reply was lost", store.ErrUnknown)
	case Late:
		h.process.World.Postpone(func() { _, _ = h.backend.commit(changes) })
		return nil, fmt.Errorf("%w: it takes long", store.ErrUnknown)
	case CrashAfter:
		if h.backend.Parted {
			changes = changes[:1]
		}
		if h.backend.Torn && len(changes[0].Writes) > 0 {
			changes[0].Writes = changes[0].Writes[:len(changes[0].Writes)/2]
		}
		_, _ = h.backend.commit(changes)
		h.process.Die()
	}
	return h.backend.commit(changes)
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

func (b *Backend) commit(changes []store.Change) ([]store.Record, error) {
	if err := b.admit(changes); err != nil {
		return nil, err
	}
	b.Commits++
	b.revision++
	heads := make([]store.Record, len(changes))
	for i, c := range changes {
		heads[i] = c.Head
		heads[i].Revision = b.revision
		for _, w := range c.Writes {
			if w.Op == store.Delete {
				b.remove(w.Record.Key)
			} else {
				b.put(w.Record)
			}
		}
		if !c.DeletesHead() {
			b.put(heads[i])
		}
		heads[i] = heads[i].Canonical()
	}
	return heads, nil
}

func (b *Backend) admit(changes []store.Change) error {
	for _, c := range changes {
		current, ok := b.records[c.Head.Key]
		if !b.Unguarded && current.Revision != c.Head.Revision {
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

func (b *Backend) put(r store.Record) {
	before, known := b.records[r.Key]
	r.Revision = b.revision
	b.keep(before, r.Key)
	b.records[r.Key] = r
	if !known {
		i, _ := slices.BinarySearchFunc(b.keys, r.Key, compareKeys)
		b.keys = slices.Insert(b.keys, i, r.Key)
	}
	if b.Observe != nil {
		b.Observe(before, r)
	}
}

func (b *Backend) remove(key store.Key) {
	before, known := b.records[key]
	if !known {
		return
	}
	b.keep(before, key)
	delete(b.records, key)
	i, _ := slices.BinarySearchFunc(b.keys, key, compareKeys)
	b.keys = slices.Delete(b.keys, i, i+1)
	if b.Observe != nil {
		b.Observe(before, store.Record{Key: key})
	}
}

// keep keeps what a record was for those who read stale ones.
func (b *Backend) keep(before store.Record, key store.Key) {
	if b.Stale {
		b.earlier[key] = before
	}
}
