// Package faults makes stores fail as stores over a network do, in ways that a test chooses, and counts their calls. It
// is for tests of programs that use stores; it needs no network and is exact. Package store/storetest/proxy breaks the
// network beneath a driver.
package faults

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// ErrInjected is the cause of the errors that an [Injector] injects, unless [Fault.Err] names another.
var ErrInjected = errors.New("injected fault")

// Method names a method of a [store.Store].
type Method string

// The methods that an [Injector] can make fail.
const (
	Get      Method = "Get"
	List     Method = "List"
	ByExpiry Method = "ByExpiry"
	ByLabel  Method = "ByLabel" // of [store.ByLabel], whether or not the store is a [store.Labeller]
	Find     Method = "Find"
	Watch    Method = "Watch"
	Turn     Method = "Turn"
	Commit   Method = "Commit"
	GetAll   Method = "GetAll" // of a [store.Reader]
	Join     Method = "Join"   // of a [store.Grouper]
)

// Call is a call that is about to happen. The zero Call is none.
type Call struct {
	Method Method
	// N is the number of the call among those of its method, through all wrapped stores, from 1.
	N int
	// Key is the key of a Get, Watch or Join, the first key of a GetAll, the key of the first head of a Turn or Commit,
	// and the kind and pool of a List, ByExpiry, ByLabel or Find.
	Key store.Key
	// Heads and Writes are the numbers of heads and writes of a Commit, in a turn or not.
	Heads, Writes int
}

// Effect says how a call fails.
type Effect uint8

const (
	// Pass lets the call through.
	Pass Effect = iota
	// Refuse fails the call without doing it, as a reachable but unhealthy backend does.
	Refuse
	// LoseRequest fails a Commit with [store.ErrUnknown] without doing it, as if the connection broke before the
	// request arrived. It fails any other call as Refuse does.
	LoseRequest
	// LoseReply does a Commit and fails it with [store.ErrUnknown], whatever its result, as if the connection broke
	// before the reply arrived. It does the same with a Join, and ends the turn if the caller got it. It fails any
	// other call as Refuse does.
	LoseReply
	// LandLate fails a Commit with [store.ErrUnknown] and does it later, during another call; see [Fault.Late]. It then
	// takes effect if the heads are still at their revisions, and the callers that it answers still wait. It fails any
	// other call as Refuse does.
	LandLate
)

// Fault says what happens to one call. The zero Fault is none.
type Fault struct {
	Effect Effect
	// Delay is how long the call waits before anything else happens. If its context ends, it goes on at once.
	Delay time.Duration
	// Late says when the commit of LandLate is done: just before the call that comes so many calls after this one,
	// through any store of the same [Injector]. Less than 1 counts as 1.
	Late int
	// After is how many records a List, ByExpiry or ByLabel yields before it fails.
	After int
	// Err is the cause that the error wraps; nil means ErrInjected.
	Err error
}

func (f Fault) err() error {
	if f.Err == nil {
		return ErrInjected
	}
	return f.Err
}

// Counts are the numbers of calls through the stores that an [Injector] wraps, including calls that failed. A Join
// counts as a Turn. The zero Counts are none.
type Counts struct {
	Get, List, ByExpiry, ByLabel, Find, Watch, Turn, Commit, GetAll int
	// Listed is the number of records that List, ByExpiry and ByLabel yielded.
	Listed int
	// Committed is the number of commits that took effect, and Writes the number of writes in them.
	Committed, Writes int
	// Bytes is the size of the records in the commits that took effect, heads included: the bytes of keys, states,
	// labels and data, 18 for each prefix and 8 for each time. The format of a backend adds to it.
	Bytes int64
}

// RoundTrips returns the number of round trips that the calls would take over a network, with one for each list.
func (c Counts) RoundTrips() int {
	return c.Get + c.List + c.ByExpiry + c.ByLabel + c.Find + c.Watch + c.Turn + c.Commit + c.GetAll
}

// Injector wraps stores, decides for each call whether it fails, and counts the calls. The stores that one Injector
// wraps stand for processes that share a backend: they share the call numbers, the counts and the late commits.
//
// The zero Injector is ready to use, and lets all calls through. An Injector must not be copied. All methods, and those
// of the wrapped stores, may be called by any number of goroutines at once.
type Injector struct {
	// Choose decides what happens to a call; nil lets all calls through. It is called for one call at a time, and must
	// not use the wrapped stores. Do not change it while calls run. See [Script] and [Random].
	Choose func(Call) Fault

	mu     sync.Mutex
	counts Counts
	calls  int
	late   []lateCommit
}

// lateCommit is a commit under way.
type lateCommit struct {
	due     int // the number of the call before which it arrives
	inner   store.Store
	changes []store.Change
}

// Wrap returns s with faults. The result keeps the contract of a store, and is a [store.Grouper] and a [store.Reader]
// if s is. Its Close closes s, and never gets a fault.
func (f *Injector) Wrap(s store.Store) store.Store {
	w := &faulty{injector: f, inner: s}
	grouper, groups := s.(store.Grouper)
	reader, reads := s.(store.Reader)
	switch {
	case groups && reads:
		return &struct {
			*faulty
			grouping
			reading
		}{w, grouping{w, grouper}, reading{w, reader}}
	case groups:
		return &struct {
			*faulty
			grouping
		}{w, grouping{w, grouper}}
	case reads:
		return &struct {
			*faulty
			reading
		}{w, reading{w, reader}}
	default:
		return w
	}
}

// Counts returns the counts so far.
func (f *Injector) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// ResetCounts sets all counts to zero, including those behind [Call.N].
func (f *Injector) ResetCounts() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts = Counts{}
}

// begin counts a call and returns what happens to it, and the commits that arrive before it.
func (f *Injector) begin(call Call, count func(*Counts) *int) (Fault, []lateCommit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := count(&f.counts)
	*n++
	call.N = *n
	f.calls++
	var due, rest []lateCommit
	for _, c := range f.late {
		if c.due <= f.calls {
			due = append(due, c)
		} else {
			rest = append(rest, c)
		}
	}
	f.late = rest
	if f.Choose == nil {
		return Fault{}, due
	}
	return f.Choose(call), due
}

// postpone keeps a commit for later.
func (f *Injector) postpone(calls int, inner store.Store, changes []store.Change) {
	c := lateCommit{inner: inner, changes: make([]store.Change, len(changes))}
	for i, change := range changes {
		c.changes[i] = store.Change{Head: change.Head.Canonical(), Writes: make([]store.Write, len(change.Writes))}
		if turn, ok := change.Turn.(store.GroupTurn); ok {
			c.changes[i].Turn = turn // its answers belong to the commit
		}
		for j, w := range change.Writes {
			c.changes[i].Writes[j] = store.Write{Op: w.Op, Record: w.Record.Canonical()}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c.due = f.calls + max(calls, 1)
	f.late = append(f.late, c)
}

// commit commits, and counts what took effect.
func (f *Injector) commit(ctx context.Context, inner store.Store, changes []store.Change) ([]store.Record, error) {
	heads, err := inner.Commit(ctx, changes...)
	if err == nil {
		f.committed(changes)
	}
	return heads, err
}

// committed counts a commit that took effect.
func (f *Injector) committed(changes []store.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts.Committed++
	for _, c := range changes {
		f.counts.Writes += len(c.Writes)
		f.counts.Bytes += int64(recordSize(c.Head))
		for _, w := range c.Writes {
			f.counts.Bytes += int64(recordSize(w.Record))
		}
	}
}

func (f *Injector) listed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts.Listed++
}

func recordSize(r store.Record) int {
	size := len(r.Kind) + len(r.Pool) + len(r.Name) + len(r.State) + len(r.Data) + 18*len(r.Prefixes)
	for name, value := range r.Labels {
		size += len(name) + len(value)
	}
	for _, t := range []time.Time{r.Created, r.Expires} {
		if !t.IsZero() {
			size += 8
		}
	}
	return size
}

// faulty is a wrapped store.
type faulty struct {
	injector *Injector
	inner    store.Store
}

// enter does what happens before a call, and returns what happens to it. A store that is closed, or a context that
// has ended, are no faults: the call goes on to the inner store, which says so.
func (w *faulty) enter(ctx context.Context, call Call, count func(*Counts) *int) Fault {
	fault, due := w.injector.begin(call, count)
	for _, c := range due { // that they may fail is their nature
		_, _ = w.injector.commit(context.Background(), c.inner, c.changes)
	}
	if fault.Delay > 0 {
		select {
		case <-time.After(fault.Delay):
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return Fault{}
	}
	return fault
}

// read returns the error with which fault ends a call that reads, or nil.
func (f Fault) read(method Method) error {
	if f.Effect == Pass {
		return nil
	}
	return fmt.Errorf("%s: %w", method, f.err())
}

func (w *faulty) Get(ctx context.Context, key store.Key) (store.Record, error) {
	fault := w.enter(ctx, Call{Method: Get, Key: key}, func(c *Counts) *int { return &c.Get })
	if err := fault.read(Get); err != nil {
		return store.Record{}, err
	}
	return w.inner.Get(ctx, key)
}

func (w *faulty) List(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	call := Call{Method: List, Key: store.Key{Kind: kind, Pool: pool}}
	return w.list(ctx, call, func(c *Counts) *int { return &c.List }, w.inner.List(ctx, kind, pool))
}

// list yields records, with what happens to the call.
func (w *faulty) list(
	ctx context.Context, call Call, count func(*Counts) *int, records iter.Seq2[store.Record, error],
) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		fault := w.enter(ctx, call, count)
		left := fault.After
		for record, err := range records {
			if fault.Effect != Pass && left == 0 {
				break
			}
			left--
			if err == nil {
				w.injector.listed()
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
		if err := fault.read(call.Method); err != nil {
			yield(store.Record{}, err)
		}
	}
}

func (w *faulty) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	call := Call{Method: ByExpiry, Key: store.Key{Kind: kind, Pool: pool}}
	return w.list(ctx, call, func(c *Counts) *int { return &c.ByExpiry }, w.inner.ByExpiry(ctx, kind, pool))
}

// ByLabel implements [store.Labeller]; [store.ByLabel] looks whether the inner store does.
func (w *faulty) ByLabel(ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
	call := Call{Method: ByLabel, Key: store.Key{Kind: l.Kind, Pool: l.Pool}}
	return w.list(ctx, call, func(c *Counts) *int { return &c.ByLabel }, store.ByLabel(ctx, w.inner, l))
}

// Limit implements [store.Limiter].
func (w *faulty) Limit(kind store.Kind) int { return store.Limit(w.inner, kind) }

func (w *faulty) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
	call := Call{Method: Find, Key: store.Key{Kind: store.KindAllocation, Pool: pool}}
	fault := w.enter(ctx, call, func(c *Counts) *int { return &c.Find })
	if err := fault.read(Find); err != nil {
		return store.Record{}, err
	}
	return w.inner.Find(ctx, pool, addr)
}

func (w *faulty) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	fault := w.enter(ctx, Call{Method: Watch, Key: key}, func(c *Counts) *int { return &c.Watch })
	if err := fault.read(Watch); err != nil {
		return store.Record{}, err
	}
	return w.inner.Watch(ctx, key, revision)
}

func (w *faulty) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	call := Call{Method: Turn, Heads: len(keys)}
	if len(keys) > 0 {
		call.Key = keys[0]
	}
	fault := w.enter(ctx, call, func(c *Counts) *int { return &c.Turn })
	if err := fault.read(Turn); err != nil {
		return nil, err
	}
	return w.inner.Turn(ctx, keys...)
}

func (w *faulty) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	defer store.EndTurns(changes)
	call := Call{Method: Commit, Heads: len(changes)}
	for i, c := range changes {
		if i == 0 {
			call.Key = c.Head.Key
		}
		call.Writes += len(c.Writes)
	}
	fault := w.enter(ctx, call, func(c *Counts) *int { return &c.Commit })
	if fault.Effect == Pass {
		return w.injector.commit(ctx, w.inner, changes)
	}
	if fault.Effect != LoseReply {
		if err := store.ValidateCommit(changes...); err != nil {
			return nil, err
		}
		if _, err := w.inner.Get(ctx, changes[0].Head.Key); errors.Is(err, store.ErrClosed) {
			return nil, err
		}
	}
	unknown := fmt.Errorf("%s: %w: %w", Commit, store.ErrUnknown, fault.err())
	switch fault.Effect {
	case LoseReply:
		_, err := w.injector.commit(ctx, w.inner, changes)
		if errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrInvalid) {
			return nil, err
		}
		return nil, unknown
	case LoseRequest:
		return nil, unknown
	case LandLate:
		w.injector.postpone(fault.Late, w.inner, changes)
		return nil, unknown
	default:
		return nil, fmt.Errorf("%s: %w", Commit, fault.err())
	}
}

func (w *faulty) Close() error { return w.inner.Close() }
