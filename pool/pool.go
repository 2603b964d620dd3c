package pool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// Options configure a handle of a pool. The zero Options and a nil *Options mean the defaults. Options may be copied.
type Options struct {
	// Clock returns the current time. Default: [time.Now].
	Clock func() time.Time

	// Attempts is how many times a call tries to commit before it gives up with [ErrBusy], because other processes
	// committed first each time. A call that has lost once takes a turn (see [store.Store.Turn]), so it rarely loses
	// twice. Default: 256.
	Attempts int

	// Backoff is the longest wait before another attempt, after a call has lost although it had its turn, or after a
	// commit of unknown outcome. It doubles with each further attempt, up to 64 times Backoff. The actual wait is a
	// random fraction of it. Default: 1 ms.
	Backoff time.Duration

	// Random returns a random number, for [RandomFree] and for the back-off. Each handle calls it from one goroutine at
	// a time. Default: [rand.Uint64].
	Random func() uint64

	// CommitTimeout bounds how long one commit may take. After a commit of unknown outcome it also bounds how long the
	// call tries to find out whether the commit took effect, before it returns [store.ErrUnknown].
	//
	// The context of the call does not cut short a commit that has begun, because its outcome would then be unknown.
	// After its context ends a call mostly returns at once, and takes at most three times CommitTimeout: once each for
	// the read, the commit, and finding out the outcome. A call that is finding out the outcome while a call over
	// several pools has its turn waits for that call too. It also bounds how long a call waits for other handles before
	// it tries without its turn; see [ErrTurn]. Default: 30 s.
	CommitTimeout time.Duration

	// Observer is told when calls and commits begin and end. Default: none, at no cost.
	Observer Observer

	// Logger receives what an operator should know: commits whose outcome had to be found out, and repairs. Default: no
	// logging.
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

// withDeadline returns a context that ends at a time by the options' clock, in a millisecond at the earliest. It is ctx
// if the time is zero.
func (o *Options) withDeadline(ctx context.Context, until time.Time) (context.Context, context.CancelFunc) {
	if until.IsZero() {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, max(until.Sub(o.Clock()), time.Millisecond))
}

// Pool is a handle of a pool, in a store ([Create], [Open]) or in memory ([New]). Any number of handles, in any number
// of processes, may share a pool in a store.
//
// The zero Pool is not usable, and a Pool must not be copied. All methods may be called by any number of goroutines at
// once. Calls that arrive while a commit is under way share the next commit.
//
// A Pool need not be closed, and starts no goroutine. It is usable until its store is closed.
type Pool struct {
	name    string
	options Options
	home    home
	line    line
	sets    setCache
	self    [1]*Pool // the pools of steps that name none
}

// New returns a pool that lives in memory, with the same rules as one in a store.
//
// Errors: [ErrInvalid] if the spec breaks a rule, or if it names a network or asks for a history: these need a store.
func New(spec Spec, options *Options) (*Pool, error) {
	p := newPool("", options)
	if spec.Network != "" {
		return nil, &Error{Op: "new", Err: errNeedsStore("a network")}
	}
	if err := (*memory)(nil).takesHistory(spec); err != nil {
		return nil, &Error{Op: "new", Err: err}
	}
	r, err := newRules(spec, nil, Renumbering{})
	if err != nil {
		return nil, &Error{Op: "new", Err: err}
	}
	s, err := newState(r, parentage{}, p.options.Random)
	if err != nil {
		return nil, &Error{Op: "new", Err: err}
	}
	p.home = newMemory(s, &p.options)
	return p, nil
}

// newPool returns a pool that has no home yet.
func newPool(name string, options *Options) *Pool {
	p := &Pool{name: name, options: options.withDefaults()}
	p.self[0] = p
	return p
}

// newHandle returns a handle of a pool in a store of which nothing is known yet.
func newHandle(s store.Store, name string, options *Options) (*Pool, error) {
	if err := validateName("pool's name", name); err != nil {
		return nil, err
	}
	p := newPool(name, options)
	p.home = newStored(s, name, &p.options)
	return p, nil
}

// setOptions gives a handle that is not in use yet other options.
func (p *Pool) setOptions(options *Options) { p.options = options.withDefaults() }

// Create creates a pool of that name in the store and returns a handle of it. The name is 1 to [store.MaxNameBytes]
// bytes of UTF-8 without NUL.
//
// Errors: [ErrInvalid] if the name or the spec breaks a rule; [ErrExists]; [ErrOrphaned]; [ErrOverlap] if the ranges
// overlap with those of another pool in the spec's network, or with addresses that such a pool still holds out of
// range; [ErrBusy]; those of the store. Cost: one commit, after two lists that stop at the first record. A pool in a
// network also costs one read, and O(allocations) for each pool that may still hold some of the addresses out of range.
func Create(ctx context.Context, s store.Store, name string, spec Spec, options *Options) (*Pool, error) {
	return makeWith(s, name, spec, options, "create", func(p *Pool) error { return p.create(ctx, spec) })
}

// makeWith returns a handle of a pool of that name that build makes. The operation is that of an error.
func makeWith(
	s store.Store, name string, spec Spec, options *Options, operation string, build func(*Pool) error,
) (*Pool, error) {
	p, err := newHandle(s, name, options)
	if err == nil {
		err = spec.Validate()
	}
	if err == nil {
		err = build(p)
	}
	if err != nil {
		return nil, wrapped(err, Error{Op: operation, Pool: name})
	}
	return p, nil
}

func (p *Pool) create(ctx context.Context, spec Spec) error {
	var created time.Time
	return exclusively(ctx, func(a *attempt) error {
		if a.uncertain() {
			if err := p.home.refresh(a.ctx); err != nil && !errors.Is(err, ErrNoPool) {
				return err
			}
		}
		if p.home.state() != nil { // it was in the way of the last attempt, or is what that made
			if a.uncertain() && p.isMade(spec, created) {
				return nil
			}
			return ErrExists
		}
		if err := a.requireNoRecords(p); err != nil {
			return err
		}
		created = a.now
		return a.create(p, spec)
	}, p)
}

// isMade reports whether the pool, whose state is known, is the one that an attempt of unknown outcome was to make.
func (p *Pool) isMade(spec Spec, created time.Time) bool {
	return p.home.state().rules.Equal(spec) && p.home.created().Equal(created)
}

// create plans that a pool is made.
func (a *attempt) create(p *Pool, spec Spec) error {
	d := a.draft(p)
	r, err := a.rulesFor(p, spec, outside{})
	if err != nil {
		return err
	}
	if err := r.requireRoom(); err != nil {
		return err
	}
	d.created = a.now
	d.next, err = newState(r, parentage{}, p.options.Random)
	return err
}

// rulesFor returns the rules of a pool that is to be made with the spec, and admits it to its network with what it
// holds.
func (a *attempt) rulesFor(p *Pool, spec Spec, held outside) (*rules, error) {
	if err := p.home.takesHistory(spec); err != nil {
		return nil, err
	}
	if spec.Network == "" {
		return newRules(spec, nil, Renumbering{})
	}
	n, err := a.network(p, spec.Network)
	if err != nil {
		return nil, err
	}
	withheld := n.externalIn(spec.ranges())
	if err := a.admit(p, n, spec.ranges(), held.of(spec.ranges())); err != nil {
		return nil, err
	}
	return newRules(spec, withheld, Renumbering{})
}

// Open returns a handle of the pool of that name in the store.
//
// Errors: [ErrInvalid] if the name breaks a rule; [ErrNoPool]; [ErrUnfinished]; [ErrCorrupt]; those of the store. Cost:
// one read, one more for a large spec, and one more for each piece of a fragmented pool's free space (a piece is 32 KiB
// or more). It does not depend on the number of allocations.
func Open(ctx context.Context, s store.Store, name string, options *Options) (*Pool, error) {
	p, err := newHandle(s, name, options)
	if err == nil {
		err = p.home.refresh(ctx)
	}
	if err != nil {
		return nil, &Error{Op: "open", Pool: name, Err: storeError(err)}
	}
	return p, nil
}

// Drift says what [Ensure] does if the pool exists with another spec. The zero Drift is Update.
type Drift string

const (
	// Update gives the pool the spec, as [Pool.Update] does. It is refused if it would leave allocations out of range.
	Update Drift = "update"
	// Drain gives the pool the spec, as [Pool.Drain] does. Allocations that are then out of range stay held until they
	// are released.
	Drain Drift = "drain"
	// Keep leaves the pool as it is.
	Keep Drift = "keep"
	// Refuse returns [ErrDrift].
	Refuse Drift = "refuse"
)

// Ensure makes sure that a pool of that name exists, and returns a handle of it. It is for a program that carries its
// pool's spec: at each start Ensure creates the pool, changes it, or leaves it as it is. drift says what happens to a
// pool that has another spec, by [Spec.Equal].
//
// Any number of processes may call it at once. If their specs differ, each change takes effect whole or is refused, and
// the last one stays.
//
// Errors: those of [Open] and [Create]; those of [Pool.Update] or [Pool.Drain] if the spec is changed; [ErrDrift].
// Cost: as for [Open], and also as for [Create] or [Pool.Update] if the pool is created or changed.
func Ensure(
	ctx context.Context, s store.Store, name string, spec Spec, drift Drift, options *Options,
) (*Pool, error) {
	return makeWith(s, name, spec, options, "ensure", func(p *Pool) error {
		switch drift {
		case "", Update, Drain, Keep, Refuse:
		default:
			return invalid("%q is not a Drift, want %q", string(drift), []Drift{Update, Drain, Keep, Refuse})
		}
		for range p.options.Attempts {
			err := p.ensure(ctx, spec, drift)
			if !errors.Is(err, ErrExists) && !errors.Is(err, ErrNoPool) {
				return err
			} // else another process was faster
		}
		return ErrBusy
	})
}

func (p *Pool) ensure(ctx context.Context, spec Spec, drift Drift) error {
	err := p.home.refresh(ctx)
	if errors.Is(err, ErrNoPool) {
		return p.create(ctx, spec)
	}
	if err != nil || drift == Keep || p.home.state().rules.Equal(spec) {
		return err
	}
	switch drift {
	case Refuse:
		return ErrDrift
	case Drain:
		return p.Drain(ctx, spec)
	default:
		return p.Update(ctx, spec)
	}
}

// Info describes a pool. The zero Info describes none. An Info may be copied; the copy shares its slices, which belong
// to the caller.
type Info struct {
	// Name is the name of the pool; empty for one in memory.
	Name string
	Spec Spec
	// Created is when the pool was created; zero for one in memory.
	Created time.Time
	// Revision rises with every change of the pool.
	Revision int64
	// Stats has the counts of each family, the primary one first. A family that the pool has given up keeps its counts
	// while any of its addresses is held.
	Stats []Stats
	// Holders is the number of owners that hold something. It includes the owners of leases that have ended, until a
	// claim needs their addresses; see [Pool.Expire].
	Holders int
	// Reservations is the number of owners for whom something is reserved, whether they hold it or not; see
	// [Pool.Reserve].
	Reservations int
	// Quotas are how much of the quotas of the spec is used, in the order of labels and values: of each value that a
	// quota names and, for quotas of each value, of those that hold something.
	Quotas []QuotaUse
	// History is the number of records that the history has at most, of tenures that have ended; see [Pool.History].
	History int
	// Withheld are the addresses that the pool must not hand out although its own spec allows it: those that are
	// external in its network and, in a delegated pool, those that its parent must not hand out.
	Withheld []netipx.IPRange
	// Renumbering says from which prefix to which the pool moves; zero if it does not. See [Pool.Renumber].
	Renumbering Renumbering
	// Parent is the name of the pool that this one was delegated from; empty if there is none. Grants are what the
	// parent has granted to it, in the order of the grants.
	Parent string
	Grants []Grant
}

// clone returns a copy that shares nothing.
func (i Info) clone() Info {
	i.Spec, i.Stats, i.Quotas = i.Spec.clone(), slices.Clone(i.Stats), slices.Clone(i.Quotas)
	i.Withheld, i.Grants = slices.Clone(i.Withheld), parentage{Grants: i.Grants}.clone().Grants
	return i
}

// StatsOf returns the counts of one family; all zero if the pool does not have it.
func (i Info) StatsOf(family Family) Stats { return countsOf(i.Stats, family) }

// List iterates over the pools in the store, in the store's order. It omits pools whose [Import] is unfinished. An
// error ends the iteration. Cost: O(pools).
func List(ctx context.Context, s store.Store) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for head, err := range s.List(ctx, store.KindPool, "") {
			if err == nil && head.State == stateImporting {
				continue
			}
			var info Info
			if err == nil {
				info, err = describe(ctx, s, head)
			}
			if errors.Is(err, ErrNoPool) { // it has been deleted meanwhile
				continue
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

// Name returns the name of the pool; empty for one in memory.
func (p *Pool) Name() string { return p.name }

// Info reads the pool's spec and counts, as of one moment. They are as fresh as the store's reads.
//
// Errors: [ErrNoPool] if the pool has been deleted; [ErrCorrupt]; those of the store. Cost: one read; in memory,
// none.
func (p *Pool) Info(ctx context.Context) (Info, error) {
	info, err := p.home.info(ctx)
	return info, p.failed("info", "", err)
}

// infoNow describes the pool as it is known to whoever leads.
func (p *Pool) infoNow() Info {
	s := p.home.state()
	parent, stats := s.parent.clone(), statsOf(s.space.Counts())
	return Info{
		Name: p.name, Spec: s.rules.Spec.clone(), Created: p.home.created(), Revision: p.home.revision(),
		Quotas: quotaUses(s.rules.Quotas, stats, s.space.Owned()), Stats: stats, Holders: s.space.Tally(space.Holding),
		Reservations: s.space.Tally(space.Reserved), Withheld: s.rules.withheld, Renumbering: s.rules.moving,
		Parent: parent.Pool, Grants: parent.Grants,
	}
}

// FreeSet returns the free addresses of a family, as of one moment. Use it to look at the pool, not to choose an
// address: any of them may be taken by the time it returns.
//
// Errors: [ErrFamily]; [ErrNoPool]; [ErrCorrupt]; those of the store. Cost: one read, and O(runs of free addresses).
func (p *Pool) FreeSet(ctx context.Context, family Family) (*netipx.IPSet, error) {
	var free *netipx.IPSet
	err := p.look(ctx, func(s *state) error {
		if !s.rules.has(family) {
			return fmt.Errorf("%w: %v", ErrFamily, family)
		}
		free = s.space.FreeSet(family.inSpace())
		return nil
	})
	return free, p.failed("list what is free", "", err)
}

// CountFree returns how many prefixes of a length, in bits, are free. That many claims for one such prefix can be met,
// if they may use the whole pool. Prefixes that ended leases still hold are not counted.
//
// Errors: [ErrFamily]; [ErrInvalid] for a length that the family does not have; [ErrNoPool]; [ErrCorrupt]; those of the
// store. Cost: one read, and O(runs of free addresses).
func (p *Pool) CountFree(ctx context.Context, family Family, bits int) (n cidr.Count, err error) {
	err = p.look(ctx, func(s *state) error {
		if !s.rules.has(family) {
			return fmt.Errorf("%w: %v", ErrFamily, family)
		}
		if n, err = s.space.CountFree(family.inSpace(), bits); err != nil {
			return invalid("the prefix length %d is out of range for %v, want 0 to %d", bits, family, family.Width())
		}
		return nil
	})
	return n, p.failed("count what is free", "", err)
}

// look calls f with the present state, while no other call changes the pool through this handle.
func (p *Pool) look(ctx context.Context, f func(*state) error) error {
	return exclusively(ctx, func(a *attempt) error {
		d, err := a.present(p)
		if err != nil {
			return err
		}
		return f(d.state())
	}, p)
}

// Allocate gives the claim's owner everything that the claim asks for, or nothing, in one commit. Each request gets the
// lowest prefix of its length that is free at that commit, unless the pool's strategy, a band or the request says
// otherwise.
//
// Allocate is idempotent. An owner that already holds what the claim asks for gets the same answer until it is
// released, however often and from whichever process it asks. An allocation is what the claim asks for if it has one
// prefix for each request, in the same order, and each prefix has the family and length of its request, and the exact
// prefix and the set if the request names them. A claim that prefers both families also accepts one of them. A caller
// that did not see the answer (after a crash, a time-out or [store.ErrUnknown]) asks again, or releases.
//
// Errors: [ErrInvalid]; [ErrExhausted]; [ErrTaken] and [ErrNotInPool] for an exact prefix; [ErrFamily]; [ErrScope];
// [ErrHeld] if the owner holds something else; [ErrShared] if its share key does not fit; [ErrBusy]; [ErrNoPool] if the
// pool has been deleted; the context's, if it ended before it was the call's turn to commit; those of the store. After
// any error except [store.ErrUnknown], nothing has changed.
//
// Cost: one round trip to the store if no other process has changed the pool in between, however large and full it is.
func (p *Pool) Allocate(ctx context.Context, claim Claim) (a Allocation, err error) {
	if p.options.Observer == nil {
		err = p.allocate(ctx, &claim, &a)
		return a, err
	}
	return p.observeOne(ctx, "Allocate", Allocate(claim), func(ctx context.Context) (a Allocation, err error) {
		err = p.allocate(ctx, &claim, &a)
		return a, err
	})
}

// allocate is Allocate of a claim that may be changed, and the result of which is zero.
func (p *Pool) allocate(ctx context.Context, claim *Claim, result *Allocation) error {
	err := claim.prepare(&p.sets)
	if err == nil {
		err = p.do(ctx, &task{kind: taskAllocate, owner: claim.Owner}, claim, result)
	}
	return p.failed("allocate", claim.Owner, err)
}

func singleAddr(addr netip.Addr) netip.Prefix {
	return netip.PrefixFrom(addr.WithZone(""), addr.BitLen())
}

// Allocations iterates over all allocations, in no particular order. One that is granted or released meanwhile may or
// may not be included. An error ends the iteration. Cost: O(allocations). To find those with a label, or to read them
// in the order of their addresses or in pages, see [Pool.Find].
func (p *Pool) Allocations(ctx context.Context) iter.Seq2[Allocation, error] {
	return p.list(ctx, (*holding).live)
}

// list iterates over what is held or kept, as far as it is wanted.
func (p *Pool) list(ctx context.Context, wanted func(*holding) bool) iter.Seq2[Allocation, error] {
	return func(yield func(Allocation, error) bool) {
		for h, err := range p.home.records(ctx, false) {
			switch {
			case err != nil:
				yield(Allocation{}, p.failed("list", "", err))
				return
			case wanted(h) && !yield(h.Allocation.clone(), nil):
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
	return causedBy(err, Error{Op: operation, Pool: p.name, Owner: owner})
}

// causedBy returns e with the cause err. If err is an [*Error] that only names a prefix, e names it instead.
func causedBy(err error, e Error) *Error {
	e.Err = storeError(err)
	var inner *Error
	if errors.As(err, &inner) && inner.Op == "" {
		e.Prefix, e.Err = inner.Prefix, inner.Err
	}
	e.explain()
	return &e
}

// storeError leaves of the store's error for a missing record only that, and returns other errors unchanged.
func storeError(err error) error {
	if errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNoPool) && !errors.Is(err, store.ErrUnknown) {
		return ErrNotFound
	}
	return err
}

// now is the present time as records keep it.
func now(options *Options) time.Time { return time.UnixMicro(options.Clock().UnixMicro()).UTC() }
