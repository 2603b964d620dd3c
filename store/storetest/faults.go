package storetest

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

// ErrInjected is the cause of the errors that [Faults] makes, unless [Fault.Err] names another.
var ErrInjected = errors.New("injected fault")

// Method names a method of a [store.Store], or Find.
type Method string

// The methods that [Faults] can make fail.
const (
	Get    Method = "Get"
	List   Method = "List"
	Find   Method = "Find"
	Commit Method = "Commit"
)

// Call is a call that is about to happen.
type Call struct {
	Method Method
	// N is the number of the call among those of its method, through all wrapped stores, from 1.
	N int
	// Key is the key of a Get, the head's key of a Commit, and the kind and pool of a List or Find.
	Key store.Key
	// Writes is the number of writes of a Commit.
	Writes int
}

// Effect is what goes wrong with a call.
type Effect uint8

const (
	// Pass lets the call through.
	Pass Effect = iota
	// Refuse fails the call without doing it, as a backend does that is there, but not well.
	Refuse
	// LoseRequest fails a Commit with [store.ErrUnknown] without doing it, as when the connection breaks
	// before the request arrives. Any other call it fails as Refuse does.
	LoseRequest
	// LoseReply does a Commit and fails it with [store.ErrUnknown], whatever came of it, as when the
	// connection breaks before the reply arrives. Any other call it fails as Refuse does.
	LoseReply
	// LandLate fails a Commit with [store.ErrUnknown] and does it later, during a later call: see
	// [Fault.Late]. It then has an effect if the head is still at its revision. Any other call it fails as
	// Refuse does.
	LandLate
)

// Fault says what happens to one call. The zero Fault is none.
type Fault struct {
	Effect Effect
	// Delay is how long the call waits before anything happens. It waits shorter if its context ends, and
	// then goes on.
	Delay time.Duration
	// Late is how many calls after this one, through any store that the same Faults wraps, the commit of
	// LandLate is done, before that call itself. Less than 1 counts as 1.
	Late int
	// After is how many records a List yields before it fails.
	After int
	// Err is the cause that the error wraps; nil is ErrInjected.
	Err error
}

func (f Fault) err() error {
	if f.Err == nil {
		return ErrInjected
	}
	return f.Err
}

// Counts are how many calls there were through the stores that a [Faults] wraps, those that failed included.
type Counts struct {
	Get, List, Find, Commit int
	// Listed is the number of records that List yielded.
	Listed int
	// Committed is the number of commits that took effect, and Writes the number of writes in them.
	Committed, Writes int
	// Bytes is the size of the records in the commits that took effect, heads included: the bytes of keys,
	// states and data, 18 for each prefix and 8 for each time. Backends add to it what their formats need.
	Bytes int64
}

// RoundTrips returns how often a backend over a network would have been asked, if it sends a list at once.
func (c Counts) RoundTrips() int { return c.Get + c.List + c.Find + c.Commit }

// Faults wraps stores, decides for each call whether it fails, and counts the calls. Stores wrapped by one Faults
// stand for processes that share a backend: they share the numbers, the counts, and the commits that land late.
//
// The zero Faults is ready to use, and lets everything through. A Faults must not be copied. All methods, and those
// of the wrapped stores, may be called by any number of goroutines at once.
type Faults struct {
	// Choose decides what happens to a call; nil lets all through. It is called for one call at a time and must
	// not use the wrapped stores. It must not be changed while calls run. See [Script] and [Random].
	Choose func(Call) Fault

	mu     sync.Mutex
	counts Counts
	calls  int
	late   []lateCommit
}

// lateCommit is a commit under way.
type lateCommit struct {
	due    int // the number of the call before which it arrives
	head   store.Record
	writes []store.Write
}

// Wrap returns s with faults. What it returns keeps the contract of a store, and is a [store.Finder] that lists if s
// is none. Its Close closes s, and is never made to fail.
func (f *Faults) Wrap(s store.Store) store.Store { return &faulty{faults: f, inner: s} }

// Counts returns the counts so far.
func (f *Faults) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

// ResetCounts sets all counts to zero, and so the numbers that [Call.N] has.
func (f *Faults) ResetCounts() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts = Counts{}
}

// begin counts a call and returns what happens to it, and the commits that arrive before it.
func (f *Faults) begin(call Call, count func(*Counts) *int) (Fault, []lateCommit) {
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
func (f *Faults) postpone(calls int, head store.Record, writes []store.Write) {
	c := lateCommit{head: head.Canonical(), writes: make([]store.Write, len(writes))}
	for i, w := range writes {
		c.writes[i] = store.Write{Op: w.Op, Record: w.Record.Canonical()}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c.due = f.calls + max(calls, 1)
	f.late = append(f.late, c)
}

// committed counts a commit that took effect.
func (f *Faults) committed(head store.Record, writes []store.Write) {
	size := recordSize(head)
	for _, w := range writes {
		size += recordSize(w.Record)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts.Committed++
	f.counts.Writes += len(writes)
	f.counts.Bytes += int64(size)
}

func (f *Faults) listed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts.Listed++
}

func recordSize(r store.Record) int {
	size := len(r.Kind) + len(r.Pool) + len(r.Name) + len(r.State) + len(r.Data) + 18*len(r.Prefixes)
	for _, t := range []time.Time{r.Created, r.Expires} {
		if !t.IsZero() {
			size += 8
		}
	}
	return size
}

// faulty is a wrapped store.
type faulty struct {
	faults *Faults
	inner  store.Store
}

var (
	_ store.Store  = (*faulty)(nil)
	_ store.Finder = (*faulty)(nil)
)

// enter does what happens before a call, and returns what happens to it. A store that is closed, or a context that
// has ended, are no faults: the call goes on to the inner store, which says so.
func (w *faulty) enter(ctx context.Context, call Call, count func(*Counts) *int) Fault {
	fault, due := w.faults.begin(call, count)
	for _, c := range due {
		w.land(c)
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

// land does a late commit. That it may fail is its nature.
func (w *faulty) land(c lateCommit) {
	if _, err := w.inner.Commit(context.Background(), c.head, c.writes); err == nil {
		w.faults.committed(c.head, c.writes)
	}
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

func (w *faulty) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
	key := store.Key{Kind: store.KindAllocation, Pool: pool}
	fault := w.enter(ctx, Call{Method: Find, Key: key}, func(c *Counts) *int { return &c.Find })
	if err := fault.read(Find); err != nil {
		return store.Record{}, err
	}
	return store.Find(ctx, w.inner, pool, addr)
}

func (w *faulty) List(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		fault := w.enter(ctx, Call{Method: List, Key: store.Key{Kind: kind, Pool: pool}}, func(c *Counts) *int { return &c.List })
		left := fault.After
		for record, err := range w.inner.List(ctx, kind, pool) {
			if fault.Effect != Pass && left == 0 {
				break
			}
			left--
			if err == nil {
				w.faults.listed()
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
		if err := fault.read(List); err != nil {
			yield(store.Record{}, err)
		}
	}
}

func (w *faulty) Commit(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
	call := Call{Method: Commit, Key: head.Key, Writes: len(writes)}
	fault := w.enter(ctx, call, func(c *Counts) *int { return &c.Commit })
	if fault.Effect != Pass && fault.Effect != LoseReply {
		if err := w.refusal(ctx, head, writes); err != nil {
			return store.Record{}, err
		}
	}
	unknown := fmt.Errorf("%s of %v: %w: %w", Commit, head.Key, store.ErrUnknown, fault.err())
	switch fault.Effect {
	case Pass:
		return w.commit(ctx, head, writes)
	case LoseReply:
		_, err := w.commit(ctx, head, writes)
		if errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrInvalid) {
			return store.Record{}, err
		}
		return store.Record{}, unknown
	case LoseRequest:
		return store.Record{}, unknown
	case LandLate:
		w.faults.postpone(fault.Late, head, writes)
		return store.Record{}, unknown
	default:
		return store.Record{}, fmt.Errorf("%s of %v: %w", Commit, head.Key, fault.err())
	}
}

// refusal returns the error with which the inner store would have refused the commit before it sent anything.
func (w *faulty) refusal(ctx context.Context, head store.Record, writes []store.Write) error {
	if err := store.ValidateCommit(head, writes); err != nil {
		return err
	}
	if _, err := w.inner.Get(ctx, head.Key); errors.Is(err, store.ErrClosed) {
		return err
	}
	return nil
}

func (w *faulty) commit(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
	got, err := w.inner.Commit(ctx, head, writes)
	if err == nil {
		w.faults.committed(head, writes)
	}
	return got, err
}

func (w *faulty) Close() error { return w.inner.Close() }
