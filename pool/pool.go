package pool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/store"
)

// Options are what a handle of a pool may be told. The zero Options, and a nil pointer to it, mean the defaults.
type Options struct {
	// Clock returns the present time. Default: [time.Now].
	Clock func() time.Time

	// Attempts is how often a call tries to commit while other processes get there first, before it gives up with
	// [ErrBusy]. Default: 256.
	Attempts int

	// Backoff is the longest wait after the first conflict; it doubles with each further one, up to 64 times
	// that, and the wait is a random part of it. Default: 1 ms.
	Backoff time.Duration

	// Random returns a random number, for [RandomFree] and for the back-off. It is called by one goroutine at a time for each
	// handle. Default: [rand.Uint64].
	Random func() uint64

	// CommitTimeout is how long one commit, or reading again what became of it, may take. A commit that has
	// begun is not cut short by the context of the call, since that would leave open whether it took effect.
	// Default: 30 s.
	CommitTimeout time.Duration

	// Observer is told of calls and commits. Default: nobody is, and it costs nothing.
	Observer Observer

	// Logger is told what an operator should know: of commits whose outcome had to be found out, and of
	// repairs. Default: nothing is logged.
	Logger *slog.Logger
}

func (o *Options) withDefaults() Options {
	var with Options
	if o != nil {
		with = *o
	}
	if with.Clock == nil {
		with.Clock = time.Now //nolint:forbidigo // the default of what is injected
	}
	if with.Attempts <= 0 {
		with.Attempts = 256
	}
	if with.Backoff <= 0 {
		with.Backoff = time.Millisecond
	}
	if with.Random == nil {
		with.Random = rand.Uint64
	}
	if with.CommitTimeout <= 0 {
		with.CommitTimeout = 30 * time.Second
	}
	if with.Logger == nil {
		with.Logger = slog.New(slog.DiscardHandler)
	}
	return with
}

// Pool is a handle of a pool: of one in a store, which any number of handles in any number of processes may
// share ([Create], [Open]), or of one that lives in memory only ([New]).
//
// The zero Pool is not usable, and a Pool must not be copied. All methods may be called by any number of goroutines
// at once; calls that come in while a commit is under way are committed together, in one more.
//
// A Pool holds nothing that needs closing, and starts no goroutine. It ends with its store.
type Pool struct {
	name    string
	store   store.Store // nil in memory
	options Options

	mu      sync.Mutex
	queue   []*op // calls that wait for a commit
	leading bool  // whether some call is committing

	// What follows belongs to the call that is leading; in memory, to who holds mu.
	ledger   *ledger      // nil if the store must be read first
	head     store.Record // as committed last, to the knowledge of this handle
	parent   *Parent      // as in head
	held     map[string]*holding
	maxBatch int
	full     int // how many batches of that size were committed since it was made smaller
	company  int // how many calls the last round knew of
	// Of the batch that is planned: when, for whom, which records it writes, which op is planned now, and for how many tasks there is room.
	time     time.Time
	planning map[string]*op
	written  map[store.Key]bool
	current  *op
	room     int
	// unsettled is the revision of the head on which a commit of unknown outcome was made; 0 if there is none. As long
	// as the head has it, that commit may yet take effect.
	unsettled int64

	waiting chan struct{} // in memory: closed with the next change; nil if nobody waits

	// In memory only: held is complete, and these are its index, what expires, and what cools down beside what its owner holds.
	index  index
	expiry expiry
	strays map[netip.Prefix]*holding
	clock  int64  // the last generation
	order  uint64 // at random, for the order in which joint calls lock pools, which have no names in memory
	own    task   // for doInMemory
}

// New returns a pool that lives in memory, with the same rules as one in a store.
//
// Errors: [ErrInvalid] if the spec breaks a rule.
func New(spec Spec, options *Options) (*Pool, error) {
	p := blank("", options)
	p.index, p.strays, p.order = newIndex(), map[netip.Prefix]*holding{}, rand.Uint64()
	err := needsStore(spec)
	if err == nil {
		p.ledger, err = p.emptyLedger(spec, nil)
	}
	if err != nil {
		return nil, &Error{Op: "new", Err: err}
	}
	return p, nil
}

// needsStore refuses a spec that makes no sense for one pool by itself.
func needsStore(spec Spec) error {
	if spec.Network != "" {
		return invalid("the pool in memory is in the network %q; a network needs a store, such as store.NewMemory", spec.Network)
	}
	return nil
}

func blank(name string, options *Options) *Pool {
	return &Pool{
		name: name, options: options.withDefaults(), maxBatch: maxBatch,
		held: map[string]*holding{}, planning: map[string]*op{}, written: map[store.Key]bool{},
	}
}

// Create makes a pool of that name in the store and returns a handle of it. The name is any UTF-8 without NUL, 1 to
// [store.MaxNameBytes] bytes.
//
// Errors: [ErrInvalid] if the name or the spec breaks a rule; [ErrExists]; those of the store. Cost: one commit.
func Create(ctx context.Context, s store.Store, name string, spec Spec, options *Options) (*Pool, error) {
	p, err := create(ctx, s, name, spec, options)
	if err != nil {
		return nil, &Error{Op: "create", Pool: name, Err: err}
	}
	return p, nil
}

func create(ctx context.Context, s store.Store, name string, spec Spec, options *Options) (*Pool, error) {
	p, err := newHandle(s, name, options)
	if err != nil {
		return nil, err
	}
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if spec.Network == "" {
		return p, p.createIn(ctx, spec, nil)
	}
	err = p.retry(ctx, func() error {
		n, err := readNetwork(ctx, p.store, spec.Network)
		if err == nil {
			err = n.admit(name, spec)
		}
		if err != nil {
			return err
		}
		return p.createIn(ctx, spec, n)
	})
	return p, err
}

// createIn makes the pool, and its entry in the network if that is not nil.
func (p *Pool) createIn(ctx context.Context, spec Spec, n *network) error {
	next, err := p.firstHead(spec, n.foreignIn(spec), nil)
	if err != nil {
		return err
	}
	changes := []store.Change{next.change}
	if n != nil {
		change, err := n.change()
		if err != nil {
			return err
		}
		changes = append(changes, change)
	}
	heads, err := p.commitChanges(ctx, changes)
	if err := p.existsAlready(err); err != nil {
		return err
	}
	p.committed(heads[0], next)
	return nil
}

// firstHead prepares the head of a pool that does not exist yet.
func (p *Pool) firstHead(spec Spec, foreign []netipx.IPRange, parent *Parent) (prepared, error) {
	var err error
	if p.ledger, err = p.emptyLedger(spec, foreign); err != nil {
		return prepared{}, err
	}
	p.head = store.Record{Key: headKey(p.name), State: stateActive, Created: p.now()}
	p.parent = parent
	return p.finishDraft(p.ledger, p.draft())
}

// existsAlready makes a conflict about the pool's head [ErrExists].
func (p *Pool) existsAlready(err error) error {
	var conflict *store.ConflictError
	if errors.As(err, &conflict) && conflict.Current.Key == headKey(p.name) {
		return ErrExists
	}
	return err
}

// commitOne commits a change of the pool alone.
func (p *Pool) commitOne(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
	begin := p.begin()
	heads, err := p.store.Commit(ctx, store.Change{Head: head, Writes: writes})
	p.observeCommit(begin, len(writes), err)
	if err != nil {
		return store.Record{}, err
	}
	return heads[0], nil
}

// commitChanges commits a change of the pool, the first one, and with it the others.
func (p *Pool) commitChanges(ctx context.Context, changes []store.Change) ([]store.Record, error) {
	begin := p.begin()
	heads, err := p.store.Commit(ctx, changes...)
	p.observeCommit(begin, len(changes[0].Writes), err)
	return heads, err
}

// retry calls f until it returns another error than a conflict, and not too often.
func (p *Pool) retry(ctx context.Context, f func() error) error {
	for attempts := range p.options.Attempts {
		p.backOff(ctx, attempts)
		if err := f(); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("%w: %d attempts", ErrBusy, p.options.Attempts)
}

const stateActive = "active"

// Open returns a handle of the pool of that name in the store.
//
// Errors: [ErrInvalid] if the name breaks a rule; [ErrNoPool]; [ErrCorrupt]; those of the store. Cost: one read, and one
// more for each piece that a fragmented pool's free space is cut into (32 KiB or more each); it does not depend on the
// number of allocations.
func Open(ctx context.Context, s store.Store, name string, options *Options) (*Pool, error) {
	p, err := newHandle(s, name, options)
	if err == nil {
		err = p.refresh(ctx)
	}
	if err != nil {
		return nil, &Error{Op: "open", Pool: name, Err: storeError(err)}
	}
	return p, nil
}

// OpenOrCreate returns a handle of the pool of that name, and makes the pool if there is none yet: what a program does that ships with
// its pool's spec. The spec of a pool that exists is left as it is, and is not compared. Whoever wants to know whether it is still
// the same asks [Pool.Info] and compares with [Spec.Equal].
//
// Errors: [ErrInvalid]; [ErrCorrupt]; those of the store. Cost: as for [Open], and one commit more.
func OpenOrCreate(ctx context.Context, s store.Store, name string, spec Spec, options *Options) (*Pool, error) {
	p, err := Open(ctx, s, name, options)
	if !errors.Is(err, ErrNoPool) {
		return p, err
	}
	p, err = Create(ctx, s, name, spec, options)
	if errors.Is(err, ErrExists) { // another process was faster
		return Open(ctx, s, name, options)
	}
	return p, err
}

func newHandle(s store.Store, name string, options *Options) (*Pool, error) {
	if err := validateName("pool's name", name); err != nil {
		return nil, err
	}
	p := blank(name, options)
	p.store = s
	return p, nil
}

func (p *Pool) emptyLedger(spec Spec, foreign []netipx.IPRange) (*ledger, error) {
	resolved, err := resolveSpec(spec, foreign)
	if err != nil {
		return nil, err
	}
	return newLedger(resolved, p.options.Random)
}

// Info describes a pool in a store.
type Info struct {
	Name    string
	Spec    Spec
	Created time.Time
	// Revision rises with every change of the pool.
	Revision int64
	Stats    Stats
	// Foreign are the addresses of the ranges that are foreign in the pool's network.
	Foreign []netipx.IPRange
	// Parent is the pool that this one was carved from, and who holds it there; zero if it was not.
	Parent Parent
}

// List iterates over the pools in the store, in the store's order, but for those whose [Import] is unfinished. An error is the last thing that it yields. Cost: O(pools).
func List(ctx context.Context, s store.Store) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for head, err := range s.List(ctx, store.KindPool, "") {
			if err == nil && head.State == stateImporting {
				continue
			}
			var info Info
			if err == nil {
				info, err = infoOf(head)
			}
			if err != nil {
				yield(Info{}, &Error{Op: "list", Pool: head.Pool, Err: err})
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

func infoOf(head store.Record) (Info, error) {
	data, spec, err := parseHead(head)
	if err != nil {
		return Info{}, err
	}
	info := Info{Name: head.Pool, Spec: spec, Created: head.Created, Revision: head.Revision}
	for _, space := range data.Spaces {
		info.Stats = append(info.Stats, space.FamilyStats)
	}
	info.Stats = append(info.Stats, data.Left...)
	if data.Parent != nil {
		info.Parent = *data.Parent
	}
	info.Foreign, err = parseRanges(data.Foreign)
	return info, err
}

// Name returns the name of the pool; empty for one in memory.
func (p *Pool) Name() string { return p.name }

// Info reads the pool's spec and counts. They are those of one moment, and as fresh as the store can tell.
//
// Errors: [ErrNoPool] if the pool has been deleted; those of the store. Cost: one read; in memory, none.
func (p *Pool) Info(ctx context.Context) (Info, error) {
	if p.store == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.infoInMemory(), nil
	}
	head, err := getHead(ctx, p.store, p.name)
	var info Info
	if err == nil {
		info, err = infoOf(head)
	}
	return info, p.failed("info", "", err)
}

// infoInMemory is Info for a pool without a store. The caller holds p.mu.
func (p *Pool) infoInMemory() Info {
	return Info{Spec: p.ledger.spec.clone(), Revision: p.clock, Stats: p.ledger.stats()}
}

// Stats counts the pool's addresses. It is [Pool.Info] for those who want the counts alone.
func (p *Pool) Stats(ctx context.Context) (Stats, error) {
	info, err := p.Info(ctx)
	return info.Stats, err
}

// FreeSet returns the addresses of a family that are free, all of one moment: for a look at the pool, such as the ranges that are
// left. What is free may be taken by the time it returns.
//
// Errors: [ErrFamily]; [ErrNoPool]; [ErrCorrupt]; those of the store. Cost: one read, and O(runs of free addresses).
func (p *Pool) FreeSet(ctx context.Context, family Family) (*netipx.IPSet, error) {
	var free *netipx.IPSet
	err := p.exclusively(ctx, func(ctx context.Context) error {
		if err := p.catchUp(ctx); err != nil {
			return err
		}
		s, _ := p.ledger.space(family)
		if s == nil {
			return fmt.Errorf("%w: %v", ErrFamily, family)
		}
		free = setOf(s.free.FreeRanges())
		return nil
	})
	return free, p.failed("list what is free", "", err)
}

// catchUp brings the ledger up to the head that the store has now.
func (p *Pool) catchUp(ctx context.Context) error {
	if p.store == nil {
		return nil
	}
	head, err := getHead(ctx, p.store, p.name)
	if err != nil || p.ledger != nil && p.head.Revision == head.Revision {
		return err
	}
	return p.adopt(ctx, head)
}

// Allocate gives the claim's owner what it asks for, all of it or nothing, in one commit. Each request without an exact
// prefix gets the lowest free one of its length, of all that are free at that commit.
//
// It is idempotent: an owner who holds something that the claim asks for gets that again, however often and from whichever
// process it asks, until it is released. What is held is what the claim asks for if it has one prefix for each request, in their
// order, of the family, the length, the exact prefix and the set that the request names; a claim that prefers both families is also
// content with one, if that is held. So a caller that did not see the answer (a crash, a time-out,
// [store.ErrUnknown]) asks again, or releases.
//
// Errors: [ErrInvalid]; [ErrExhausted]; [ErrTaken] and [ErrNotInPool] for an exact prefix; [ErrFamily]; [ErrHeld] if the
// owner holds something else; [ErrBusy]; [ErrNoPool] if the pool has been deleted; the context's, if it ended before the
// call's turn to commit came; those of the store. After each of them nothing has changed, except after [store.ErrUnknown].
//
// Cost: one round trip to the store, however large and full the pool is, if no other process has changed it in between.
func (p *Pool) Allocate(ctx context.Context, claim Claim) (Allocation, error) {
	begin := p.begin()
	err := claim.checkOwnerAndRest()
	var a Allocation
	if err == nil {
		a, err = p.do(ctx, task{kind: taskAllocate, owner: claim.Owner, claim: claim})
	}
	err = p.failed("allocate", claim.Owner, err)
	p.observe(begin, CallAllocate, claim.Owner, a, err)
	return a, err
}

// Release frees all that the owner holds and returns what that was. It can be handed out again at once, or when the pool's
// cooldown is over; until then the owner gets it back if it claims the same. A pool that was carved out of it (see [Carve]) is deleted with
// it, if nothing of that is held.
//
// Errors: [ErrInUse] if addresses of a pool are held that was carved out of it; [ErrNotFound] if the owner holds nothing; otherwise as for [Pool.Allocate]. Cost: one round trip if this
// handle granted what is released and no other process has changed the pool since; else one more.
func (p *Pool) Release(ctx context.Context, owner string) (Allocation, error) {
	return p.ReleaseGeneration(ctx, owner, 0)
}

// ReleaseGeneration is [Pool.Release] for who must not release what the owner was granted later: it frees only the
// grant with this [Allocation.Generation]. 0 means any.
//
// Errors: as for [Pool.Release], and [ErrGeneration] if what the owner holds is of another generation.
func (p *Pool) ReleaseGeneration(ctx context.Context, owner string, generation int64) (Allocation, error) {
	begin := p.begin()
	err := validateOwner(owner)
	var a Allocation
	if err == nil {
		a, err = p.do(ctx, task{kind: taskRelease, owner: owner, generation: generation})
	}
	if child := childIn(err); child != "" {
		a, err = p.releaseWithChild(ctx, owner, generation, child)
	}
	err = p.failed("release", owner, err)
	p.observe(begin, CallRelease, owner, a, err)
	return a, err
}

// Renew makes the owner's lease last for ttl from now on, and returns it. A lease that would end later as it is stays so, also if the
// clock has been set back; a reservation stays one. A lease that has ended can be renewed as long as nobody has needed its addresses.
//
// Errors: [ErrNotFound] if the owner holds nothing; [ErrInvalid] for a ttl that is not positive or above [MaxTTL]; otherwise as for
// [Pool.Allocate]. Cost: as for [Pool.Release]; how many leases there are does not matter.
func (p *Pool) Renew(ctx context.Context, owner string, ttl time.Duration) (Allocation, error) {
	begin := p.begin()
	err := validateOwner(owner)
	if err == nil {
		err = checkTTL(ttl)
	}
	var a Allocation
	if err == nil {
		a, err = p.do(ctx, task{kind: taskRenew, owner: owner, ttl: ttl})
	}
	err = p.failed("renew", owner, err)
	p.observe(begin, CallRenew, owner, a, err)
	return a, err
}

// Get returns what the owner holds.
//
// Errors: [ErrNotFound] if that is nothing; those of the store. Cost: one read.
func (p *Pool) Get(ctx context.Context, owner string) (Allocation, error) {
	if err := validateOwner(owner); err != nil {
		return Allocation{}, p.failed("get", owner, err)
	}
	h, err := p.get(ctx, owner)
	if err == nil && !h.live() {
		err = ErrNotFound
	}
	if err != nil {
		return Allocation{}, p.failed("get", owner, err)
	}
	return h.Allocation.clone(), nil
}

// get returns the owner's record.
func (p *Pool) get(ctx context.Context, owner string) (*holding, error) {
	if p.store == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if h := p.held[owner]; h != nil {
			return h, nil
		}
		return nil, ErrNotFound
	}
	record, err := p.store.Get(ctx, store.Key{Kind: store.KindAllocation, Pool: p.name, Name: owner})
	if err != nil {
		return nil, err
	}
	return holdingOf(record)
}

// Lookup returns the allocation that addr belongs to.
//
// Errors: [ErrNotFound] if nobody holds it; those of the store. Cost: one read if the store has an index of prefixes, as the bolt
// store and [store.Memory] have; else O(allocations).
func (p *Pool) Lookup(ctx context.Context, addr netip.Addr) (Allocation, error) {
	h, err := p.lookup(ctx, addr)
	if err == nil && !h.live() {
		err = ErrNotFound
	}
	if err != nil {
		return Allocation{}, &Error{Op: "lookup", Pool: p.name, Prefix: singleAddr(addr), Err: storeError(err)}
	}
	return h.Allocation.clone(), nil
}

func (p *Pool) lookup(ctx context.Context, addr netip.Addr) (*holding, error) {
	if p.store == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.index.find(addr.WithZone("")), nil
	}
	record, err := p.store.Find(ctx, p.name, addr)
	if err != nil {
		return nil, err
	}
	return holdingOf(record)
}

func singleAddr(addr netip.Addr) netip.Prefix {
	return netip.PrefixFrom(addr.WithZone(""), addr.BitLen())
}

// Allocations iterates over all that is held, in no particular order. What is granted or released meanwhile may or may not
// come up. An error is the last thing that it yields. Cost: O(allocations).
func (p *Pool) Allocations(ctx context.Context) iter.Seq2[Allocation, error] {
	if p.store == nil {
		return p.allocationsInMemory()
	}
	return func(yield func(Allocation, error) bool) {
		for h, err := range holdings(p.store.List(ctx, store.KindAllocation, p.name)) {
			switch {
			case err != nil:
				yield(Allocation{}, p.failed("list", "", err))
				return
			case h.live() && !yield(h.Allocation, nil):
				return
			}
		}
	}
}

// failed wraps an error in [*Error], unless there is none.
func (p *Pool) failed(operation, owner string, err error) error {
	if err == nil {
		return nil
	}
	wrapped := &Error{Op: operation, Pool: p.name, Owner: owner, Err: storeError(err)}
	var inner *Error
	if errors.As(err, &inner) && inner.Op == "" {
		wrapped.Prefix, wrapped.Err = inner.Prefix, inner.Err
	}
	return wrapped
}

// storeError makes the store's way to say that there is no such record this package's, and leaves other errors as they are.
func storeError(err error) error {
	if errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrUnknown) {
		return ErrNotFound
	}
	return err
}

// now is the present time as records keep it.
func (p *Pool) now() time.Time { return p.options.Clock().UTC().Truncate(time.Microsecond) }
