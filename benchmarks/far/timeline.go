package main

import (
	"container/heap"
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/internal/simulation"
	"github.com/ipalloc/ipalloc/store"
)

// timeline gives the steps of a world their times: the process whose request arrives first makes the next step. Each
// call of a store takes a round trip, and a commit occupies the server for a while, one after the other, as a store's
// log does. Nothing else takes time: not the processes, nor what the server reads.
type timeline struct {
	tally
	world     *simulation.World
	memory    *store.Memory
	roundTrip time.Duration
	commit    time.Duration
	busy      time.Time // until when the server commits
	processes []*simulated
	waiting   arrivals
	lines     map[store.Key][]*simulated // who waits for a turn at a head; the first one has it
}

func newTimeline(w *simulation.World, memory *store.Memory, roundTrip, commit time.Duration) *timeline {
	t := &timeline{
		world: w, memory: memory, roundTrip: roundTrip, commit: commit, busy: w.Now(), lines: map[store.Key][]*simulated{},
	}
	w.Choose = func(int) int {
		if w.Calm() || len(t.waiting) == 0 {
			return 0 // the world ends: which process unwinds first does not matter
		}
		return heap.Pop(&t.waiting).(*simulated).index
	}
	return t
}

// simulated is a process with its clock, and the store as it sees it.
type simulated struct {
	line    *timeline
	index   int // in the world
	process *simulation.Process
	clock   time.Time // of what has happened to it last
	arrives time.Time // when its next step is
	parked  bool      // it has none
}

var _ store.Store = (*simulated)(nil)

// add adds a process that begins at a time.
func (t *timeline) add(at time.Time, body func(*simulated)) {
	p := &simulated{line: t, index: len(t.processes), clock: at, arrives: at}
	t.processes = append(t.processes, p)
	heap.Push(&t.waiting, p)
	t.world.Go(fmt.Sprint(p.index), func(process *simulation.Process) {
		p.process = process
		body(p)
	})
}

// wakeAll has those that are parked go on at a time.
func (t *timeline) wakeAll(at time.Time) {
	for _, p := range t.processes {
		if p.parked {
			p.wake(at)
		}
	}
}

// wake has a process that is parked go on at a time.
func (p *simulated) wake(at time.Time) {
	p.parked, p.clock, p.arrives = false, later(p.clock, at), at
	heap.Push(&p.line.waiting, p)
}

// park waits until the process is woken.
func (p *simulated) park() {
	p.parked = true
	p.process.Step(false)
}

// step waits until a time.
func (p *simulated) step(at time.Time) {
	p.arrives = at
	heap.Push(&p.line.waiting, p)
	p.process.Step(false)
}

func (p *simulated) now() time.Time { return p.clock }

func (p *simulated) sleep(d time.Duration) {
	if d > 0 {
		p.step(p.clock.Add(d))
		p.clock = p.arrives
	}
}

// request waits until a request arrives at the server. The answer is there half a round trip later.
func (p *simulated) request() {
	p.step(p.clock.Add(p.line.roundTrip / 2))
	p.clock = p.arrives.Add(p.line.roundTrip / 2)
}

// Get implements [store.Store].
func (p *simulated) Get(ctx context.Context, key store.Key) (store.Record, error) {
	p.request()
	return p.line.memory.Get(ctx, key)
}

// List implements [store.Store]: one round trip, however long it is.
func (p *simulated) List(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	p.request()
	return p.line.memory.List(ctx, kind, pool)
}

// ByExpiry implements [store.Store].
func (p *simulated) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	p.request()
	return p.line.memory.ByExpiry(ctx, kind, pool)
}

// Find implements [store.Store].
func (p *simulated) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
	p.request()
	return p.line.memory.Find(ctx, pool, addr)
}

// Watch implements [store.Store]. No writer waits for an address.
func (p *simulated) Watch(context.Context, store.Key, int64) (store.Record, error) {
	return store.Record{}, fmt.Errorf("%w: nothing is watched in this simulation", store.ErrInvalid)
}

// Close implements [store.Store].
func (p *simulated) Close() error { return nil }

// Commit implements [store.Store]. A commit waits for the commits that arrived before it and, without a turn, for the
// turns at its heads.
func (p *simulated) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	defer store.EndTurns(changes)
	for _, c := range changes {
		if c.Turn == nil && len(p.line.lines[c.Head.Key]) > 0 {
			t, err := p.Turn(ctx, c.Head.Key)
			if err != nil {
				return nil, err
			}
			t.End()
		}
	}
	p.request()
	sent := slices.Clone(changes)
	for i := range sent {
		sent[i].Turn = nil // the memory has its own
	}
	heads, err := p.line.memory.Commit(ctx, sent...)
	p.line.busy = later(p.line.busy, p.arrives)
	if err != nil {
		p.line.conflicts++ // of what writers do, nothing else fails
	} else {
		p.line.commits++
		p.line.busy = p.line.busy.Add(p.line.commit)
	}
	p.clock = p.line.busy.Add(p.line.roundTrip / 2)
	return heads, err
}

// Turn implements [store.Store]: a process stands in line without asking, as one does that watches who is before it.
func (p *simulated) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	if err := store.ValidateTurn(keys...); err != nil {
		return nil, err
	}
	t := &turn{process: p}
	p.request()
	for _, key := range slices.SortedFunc(slices.Values(keys), store.Key.Compare) {
		p.line.lines[key] = append(p.line.lines[key], p)
		t.keys = append(t.keys, key)
		if p.line.lines[key][0] != p {
			p.park()
		}
	}
	p.request()
	for _, key := range keys {
		head, err := p.line.memory.Get(ctx, key)
		if err != nil {
			head = store.Record{Key: key}
		}
		t.heads = append(t.heads, head)
	}
	return t, nil
}

// turn is a turn at some heads.
type turn struct {
	process *simulated
	keys    []store.Key
	heads   []store.Record
}

// Heads implements [store.Turn].
func (t *turn) Heads() []store.Record { return t.heads }

// End implements [store.Turn]. The next one in each line learns of it half a round trip after the caller does.
func (t *turn) End() {
	lines := t.process.line.lines
	for _, key := range t.keys {
		line := lines[key][1:] // who ends a turn is the first
		if lines[key] = line; len(line) == 0 {
			delete(lines, key)
		} else {
			line[0].wake(t.process.clock)
		}
	}
	t.keys = nil
}

// arrivals is a heap of processes by when their requests arrive.
type arrivals []*simulated

func (a arrivals) Len() int { return len(a) }

func (a arrivals) Less(i, j int) bool {
	if !a[i].arrives.Equal(a[j].arrives) {
		return a[i].arrives.Before(a[j].arrives)
	}
	return a[i].index < a[j].index
}

func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push implements [heap.Interface].
func (a *arrivals) Push(x any) { *a = append(*a, x.(*simulated)) }

// Pop implements [heap.Interface].
func (a *arrivals) Pop() any {
	last := len(*a) - 1
	p := (*a)[last]
	*a = (*a)[:last]
	return p
}
