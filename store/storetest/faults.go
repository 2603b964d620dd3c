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

// Method names a method of a [store.Store], or of an interface that a store may implement beside it.
type Method string

// The methods that [Faults] can make fail.
const (
	Get           Method = "Get"
	List          Method = "List"
	Commit        Method = "Commit"
	Find          Method = "Find"
	ByExpiry      Method = "ByExpiry"
	Watch         Method = "Watch"
	CommitSeveral Method = "CommitSeveral"
)

// commits reports whether m is one of those that change something.
func (m Method) commits() bool { return m == Commit || m == CommitSeveral }

// Call is a call that is about to happen.
type Call struct {
	Method Method
	// N is the number of the call among those of its method, through all wrapped stores, from 1.
	N int
	// Key is the key of a Get or Watch, the key of the head, or of the first one, of a Commit or CommitSeveral, and the kind and pool of a
	// List, ByExpiry or Find.
	Key store.Key
	// Writes is the number of writes of a Commit or CommitSeveral.
	Writes int
}

// Effect is what goes wrong with a call. What is said of a Commit is also true of a CommitSeveral.
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
	// [Fault.Late]. It then has an effect if the heads are still at their revisions. Any other call it fails as
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
	// After is how many records a List or ByExpiry yields before it fails.
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
	Get, List, Find, Commit        int
	ByExpiry, Watch, CommitSeveral int
	// Listed is the number of records that List and ByExpiry yielded.
	Listed int
	// Committed is the number of commits, of one head or several, that took effect, and Writes the number of writes in them.
	Committed, Writes int
	// Bytes is the size of the records in the commits that took effect, heads included: the bytes of keys,
	// states and data, 18 for each prefix and 8 for each time. Backends add to it what their formats need.
	Bytes int64
}

// RoundTrips returns how often a backend over a network would have been asked, if it sends a list at once.
func (c Counts) RoundTrips() int {
	return c.Get + c.List + c.Find + c.Commit + c.ByExpiry + c.Watch + c.CommitSeveral
}

// Faults wraps stores, decides for each call whether it fails, and counts the calls. Stores wrapped by one Faults
// stand for processes that share a backend: they share the numbers, the counts, and the commits that land late.
//
// The zero Faults is ready to use, and lets everything through. A Faults must not be copied. All methods, and those
// of the wrapped stores, may be called by any number of goroutines at once.
type Faults struct {
	// Choose decides what happens to a call; nil lets all through. It is called for one call at a time and must
	// not use the wrapped stores. It must not be changed while calls run. See [Script] and [Random].
	Choose func(Call) Fault
	// Plain makes the wrapped stores plain ones, which hide what else the inner stores implement. It must not be changed
	// while calls run.
	Plain bool

	mu     sync.Mutex
	counts Counts
	calls  int
	late   []lateCommit
}

// lateCommit is a commit under way.
type lateCommit struct {
	due     int // the number of the call before which it arrives
	changes []store.Change
	do      doCommit
}

// doCommit does a commit, of one head or several, on the inner store.
type doCommit func(ctx context.Context, changes []store.Change) ([]store.Record, error)

// Wrap returns s with faults. What it returns keeps the contract of a store. Unless Plain, it is a [store.Finder] and [store.Expirer], which lists
// where s is none, and a [store.SeveralCommitter] and [store.Watcher] where s is one. Its Close closes s, and is never made to fail.
func (f *Faults) Wrap(s store.Store) store.Store {
	w := &faulty{faults: f, inner: s}
	if f.Plain {
		return w
	}
	several, commits := s.(store.SeveralCommitter)
	watcher, watches := s.(store.Watcher)
	indexes, committing, watching := faultyIndexes{w}, faultySeveral{w, several}, faultyWatcher{w, watcher}
	switch {
	case commits && watches:
		return struct {
			*faulty
			faultyIndexes
			faultySeveral
			faultyWatcher
		}{w, indexes, committing, watching}
	case commits:
		return struct {
			*faulty
			faultyIndexes
			faultySeveral
		}{w, indexes, committing}
	case watches:
		return struct {
			*faulty
			faultyIndexes
			faultyWatcher
		}{w, indexes, watching}
	default:
		return struct {
			*faulty
			faultyIndexes
		}{w, indexes}
	}
}

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
func (f *Faults) postpone(calls int, changes []store.Change, do doCommit) {
	c := lateCommit{changes: make([]store.Change, len(changes)), do: do}
	for i, change := range changes {
		c.changes[i] = store.Change{Head: change.Head.Canonical(), Writes: make([]store.Write, len(change.Writes))}
		for j, w := range change.Writes {
			c.changes[i].Writes[j] = store.Write{Op: w.Op, Record: w.Record.Canonical()}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c.due = f.calls + max(calls, 1)
	f.late = append(f.late, c)
}

// committed counts a commit that took effect.
func (f *Faults) committed(changes []store.Change) {
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

// What a wrapped store has beside it, if the inner one does.
type (
	faultyIndexes struct{ of *faulty }
	faultySeveral struct {
		of    *faulty
		inner store.SeveralCommitter
	}
	faultyWatcher struct {
		of    *faulty
		inner store.Watcher
	}
)

var (
	_ store.Store            = (*faulty)(nil)
	_ store.Finder           = faultyIndexes{}
	_ store.Expirer          = faultyIndexes{}
	_ store.SeveralCommitter = faultySeveral{}
	_ store.Watcher          = faultyWatcher{}
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
	_, _ = w.commit(context.Background(), c.changes, c.do)
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
func (w *faulty) list(ctx context.Context, call Call, count func(*Counts) *int, records iter.Seq2[store.Record, error]) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		fault := w.enter(ctx, call, count)
		left := fault.After
		for record, err := range records {
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
		if err := fault.read(call.Method); err != nil {
			yield(store.Record{}, err)
		}
	}
}

func (i faultyIndexes) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
	key := store.Key{Kind: store.KindAllocation, Pool: pool}
	fault := i.of.enter(ctx, Call{Method: Find, Key: key}, func(c *Counts) *int { return &c.Find })
	if err := fault.read(Find); err != nil {
		return store.Record{}, err
	}
	return store.Find(ctx, i.of.inner, pool, addr)
}

func (i faultyIndexes) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	call := Call{Method: ByExpiry, Key: store.Key{Kind: kind, Pool: pool}}
	return i.of.list(ctx, call, func(c *Counts) *int { return &c.ByExpiry }, store.ByExpiry(ctx, i.of.inner, kind, pool))
}

func (f faultyWatcher) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	fault := f.of.enter(ctx, Call{Method: Watch, Key: key}, func(c *Counts) *int { return &c.Watch })
	if err := fault.read(Watch); err != nil {
		return store.Record{}, err
	}
	return f.inner.Watch(ctx, key, revision)
}

func (w *faulty) Commit(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
	fault := w.enter(ctx, Call{Method: Commit, Key: head.Key, Writes: len(writes)}, func(c *Counts) *int { return &c.Commit })
	refusal := func() error { return store.ValidateCommit(head, writes) }
	heads, err := w.commitWith(ctx, fault, Commit, []store.Change{{Head: head, Writes: writes}}, refusal, w.commitOne)
	if err != nil {
		return store.Record{}, err
	}
	return heads[0], nil
}

func (w *faulty) commitOne(ctx context.Context, changes []store.Change) ([]store.Record, error) {
	head, err := w.inner.Commit(ctx, changes[0].Head, changes[0].Writes)
	return []store.Record{head}, err
}

func (f faultySeveral) CommitSeveral(ctx context.Context, changes []store.Change) ([]store.Record, error) {
	call := Call{Method: CommitSeveral}
	for i, c := range changes {
		if i == 0 {
			call.Key = c.Head.Key
		}
		call.Writes += len(c.Writes)
	}
	fault := f.of.enter(ctx, call, func(c *Counts) *int { return &c.CommitSeveral })
	refusal := func() error { return store.ValidateSeveral(changes) }
	return f.of.commitWith(ctx, fault, CommitSeveral, changes, refusal, f.inner.CommitSeveral)
}

// commitWith commits changes by do, with what fault does to it. Refusal tells why the inner store would refuse before it sent anything.
func (w *faulty) commitWith(ctx context.Context, fault Fault, method Method, changes []store.Change, refusal func() error, do doCommit) ([]store.Record, error) {
	if fault.Effect == Pass {
		return w.commit(ctx, changes, do)
	}
	if fault.Effect != LoseReply {
		if err := refusal(); err != nil {
			return nil, err
		}
		if _, err := w.inner.Get(ctx, changes[0].Head.Key); errors.Is(err, store.ErrClosed) {
			return nil, err
		}
	}
	unknown := fmt.Errorf("%s: %w: %w", method, store.ErrUnknown, fault.err())
	switch fault.Effect {
	case LoseReply:
		_, err := w.commit(ctx, changes, do)
		if errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrInvalid) {
			return nil, err
		}
		return nil, unknown
	case LoseRequest:
		return nil, unknown
	case LandLate:
		w.faults.postpone(fault.Late, changes, do)
		return nil, unknown
	default:
		return nil, fmt.Errorf("%s: %w", method, fault.err())
	}
}

func (w *faulty) commit(ctx context.Context, changes []store.Change, do doCommit) ([]store.Record, error) {
	heads, err := do(ctx, changes)
	if err == nil {
		w.faults.committed(changes)
	}
	return heads, err
}

func (w *faulty) Close() error { return w.inner.Close() }
