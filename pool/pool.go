package pool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// Options configure a handle of a pool. The zero Options, and a nil pointer to it, mean the defaults. Options may be
// copied.
type Options struct {
	// Clock returns the present time. Default: [time.Now].
	Clock func() time.Time

	// Attempts is how often a call tries to commit while other processes get there first, before it gives up with
	// [ErrBusy]. A call that has lost takes its turn (see [store.Store.Turn]), so it rarely loses twice. Default: 256.
	Attempts int

	// Backoff is the longest wait before another attempt when a call lost though it had its turn, or when the outcome of
	// a commit is unknown. It doubles with each further attempt, up to 64 times Backoff; the actual wait is a random part
	// of it. Default: 1 ms.
	Backoff time.Duration

	// Random returns a random number, for [RandomFree] and for the back-off. It is called by one goroutine at a time for
	// each handle. Default: [rand.Uint64].
	Random func() uint64

	// CommitTimeout bounds how long one commit may take. After a commit of unknown outcome it also bounds how long the
	// call goes on to find out what became of it, before it returns [store.ErrUnknown].
	//
	// The context of the call does not cut short a commit that has begun, since that would leave open whether it took
	// effect. A call returns within three times CommitTimeout after its context has ended, and mostly at once: reading,
	// the commit, and finding out take one each. A call that is finding out while a call over several pools has its turn
	// waits for that one too. Default: 30 s.
	CommitTimeout time.Duration

	// Observer is told of calls and commits when they begin and end. Default: none, at no cost.
	Observer Observer

	// Logger is told what an operator should know: commits whose outcome had to be found out, and repairs. Default:
	// nothing is logged.
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

// Pool is a handle of a pool: of one in a store, which any number of handles in any number of processes may share
// ([Create], [Open]), or of one that lives in memory only ([New]).
//
// The zero Pool is not usable, and a Pool must not be copied. All methods may be called by any number of goroutines
// at once. Calls that come in while a commit is under way share the next commit.
//
// A Pool holds nothing that needs closing, and starts no goroutine. It is usable until its store is closed.
type Pool struct {
	name    string
	options Options
	home    home
	line    line
	sets    setCache
}

// New returns a pool that lives in memory, with the same rules as one in a store.
//
// Errors: [ErrInvalid] if the spec breaks a rule, or names a network, which needs a store.
func New(spec Spec, options *Options) (*Pool, error) {
	p := &Pool{options: options.withDefaults()}
	if spec.Network != "" {
		return nil, &Error{Op: "new", Err: errNeedsStore("a network")}
	}
	r, err := newRules(spec, nil)
	if err != nil {
		return nil, &Error{Op: "new", Err: err}
	}
	s, err := newState(r, Parent{}, p.options.Random)
	if err != nil {
		return nil, &Error{Op: "new", Err: err}
	}
	p.home = newMemory(s, &p.options)
	return p, nil
}

// newHandle returns a handle of a pool in a store of which nothing is known yet.
func newHandle(s store.Store, name string, options *Options) (*Pool, error) {
	if err := validateName("pool's name", name); err != nil {
		return nil, err
	}
	p := &Pool{name: name, options: options.withDefaults()}
	p.home = newStored(s, name, &p.options)
	return p, nil
}

// setOptions gives a handle that is not in use yet other options.
func (p *Pool) setOptions(options *Options) { p.options = options.withDefaults() }

// Create makes a pool of that name in the store and returns a handle of it. The name is any UTF-8 without NUL, 1 to
// [store.MaxNameBytes] bytes.
//
// Errors: [ErrInvalid] if the name or the spec breaks a rule; [ErrExists]; [ErrOrphaned]; [ErrOverlap] if the spec
// names a network in which another pool has any of the addresses in its ranges, or still holds any of them out of
// range; [ErrBusy]; those of the store. Cost: one commit, and before it two lists that stop at the first record. In a
// network also one read, and O(allocations) of each pool that may still
// hold some of the addresses out of range.
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
	d.next, err = newState(r, Parent{}, p.options.Random)
	return err
}

// rulesFor returns the rules of a pool that is to be made with the spec, and admits it to its network with what it
// holds.
func (a *attempt) rulesFor(p *Pool, spec Spec, held outside) (*rules, error) {
	if spec.Network == "" {
		return newRules(spec, nil)
	}
	n, err := a.network(p, spec.Network)
	if err != nil {
		return nil, err
	}
	withheld := n.externalIn(spec)
	if err := a.admit(p, n, spec, held.of(spec)); err != nil {
		return nil, err
	}
	return newRules(spec, withheld)
}

// Open returns a handle of the pool of that name in the store.
//
// Errors: [ErrInvalid] if the name breaks a rule; [ErrNoPool]; [ErrUnfinished]; [ErrCorrupt]; those of the store. Cost:
// one read, one more for a large spec, and one more for each piece that a fragmented pool's free space is cut into (32
// KiB or more each). It does not depend on the number of allocations.
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

// Drift says what [Ensure] does if the pool is there with another spec. The zero Drift is Update.
type Drift uint8

const (
	// Update gives the pool the spec as [Pool.Update] does, which is refused if that would leave allocations out of
	// range.
	Update Drift = iota
	// Drain gives the pool the spec as [Pool.Drain] does: what is out of range then stays held until it is released.
	Drain
	// Keep leaves the pool as it is.
	Keep
	// Refuse is an error: [ErrDrift].
	Refuse
)

// String returns "update", "drain", "keep" or "refuse".
func (d Drift) String() string {
	if d > Refuse {
		return fmt.Sprintf("Drift(%d)", uint8(d))
	}
	return [...]string{"update", "drain", "keep", "refuse"}[d]
}

// Ensure makes sure that there is a pool of that name with this spec, and returns a handle of it. It is for a program
// that brings its pool's spec along: on each start it creates the pool, leaves it as it is, or changes it, as need be.
// drift says what happens to a pool that has another spec; whether it has, [Spec.Equal] decides.
//
// Any number of processes may call it at once. If they bring different specs, each change is refused or takes effect
// whole, and the last one stays.
//
// Errors: those of [Open] and [Create]; those of [Pool.Update] or [Pool.Drain] if the spec is changed; [ErrDrift].
// Cost: as for [Open], and if the pool is created or changed as for [Create] or [Pool.Update].
func Ensure(
	ctx context.Context, s store.Store, name string, spec Spec, drift Drift, options *Options,
) (*Pool, error) {
	return makeWith(s, name, spec, options, "ensure", func(p *Pool) error {
		if drift > Refuse {
			return invalid("%v is no Drift, want Update, Drain, Keep or Refuse", drift)
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
	case Update:
		return p.Update(ctx, spec)
	case Drain:
		return p.Drain(ctx, spec)
	default:
		return ErrDrift
	}
}

// Info describes a pool. The zero Info is that of none. An Info may be copied; the copy shares slices, which belong
// to the caller.
type Info struct {
	// Name is the name of the pool; empty for one in memory.
	Name string
	Spec Spec
	// Created is when the pool was made; zero for one in memory.
	Created time.Time
	// Revision rises with every change of the pool.
	Revision int64
	Stats    Stats
	// Holders is the number of owners that hold something. Those of leases that have ended are among them until a claim
	// needs what they hold; see [Pool.Expire].
	Holders int
	// Withheld are addresses that the pool may not hand out because others decide so: what is external in its network,
	// and in a delegated pool what its parent may not hand out.
	Withheld []netipx.IPRange
	// Parent is the pool that this one was delegated from, with what it granted; zero if there is none.
	Parent Parent
}

// List iterates over the pools in the store, in the store's order, except those whose [Import] is unfinished. An
// error is the last thing that it yields. Cost: O(pools).
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

// Info reads the pool's spec and counts. They are of one moment, and as fresh as the store's reads.
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
	return Info{
		Name: p.name, Spec: s.rules.Spec.clone(), Created: p.home.created(), Revision: p.home.revision(),
		Stats: statsOf(s.space.Counts()), Holders: s.space.Tally(space.Holding), Withheld: s.rules.withheld,
		Parent: s.parent.clone(),
	}
}

// FreeSet returns the addresses of a family that are free, all as of one moment. They may be taken by the time it
// returns, so it is for looking at the pool.
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

// CountFree returns how many prefixes of a length, in bits, are free: so many claims for one of them can be met, if
// they may use the whole pool. What leases that have ended still hold is not among them.
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

// Allocate gives the claim's owner what it asks for, all of it or nothing, in one commit. Unless the pool's strategy,
// a band or the request says otherwise, each request gets the lowest free prefix of its length, of all that are free
// at that commit.
//
// It is idempotent. An owner that already holds what the claim asks for gets that again, however often and from
// whichever process it asks, until it is released. A holding is what the claim asks for if it has one prefix for each
// request, in their order, each of the family, the length, the exact prefix and the set that the request names. A
// claim that prefers both families also accepts a holding of one. So a caller that did not see the answer (after a
// crash, a time-out or [store.ErrUnknown]) asks again, or releases.
//
// Errors: [ErrInvalid]; [ErrExhausted]; [ErrTaken] and [ErrNotInPool] for an exact prefix; [ErrFamily]; [ErrScope];
// [ErrHeld] if the owner holds something else; [ErrBusy]; [ErrNoPool] if the pool has been deleted; the context's, if
// it ended before the call's turn to commit came; those of the store. After each of them nothing has changed, except
// after [store.ErrUnknown].
//
// Cost: one round trip to the store, however large and full the pool is, if no other process has changed it in
// between.
func (p *Pool) Allocate(ctx context.Context, claim Claim) (Allocation, error) {
	s := StepBegin{Owner: claim.Owner, Claim: claim}
	return p.observeOne(ctx, "Allocate", s, func(ctx context.Context) (Allocation, error) {
		err := claim.prepare(&p.sets)
		var a Allocation
		if err == nil {
			a, err = p.do(ctx, &task{kind: taskAllocate, owner: claim.Owner}, &claim)
		}
		return a, p.failed("allocate", claim.Owner, err)
	})
}

func singleAddr(addr netip.Addr) netip.Prefix {
	return netip.PrefixFrom(addr.WithZone(""), addr.BitLen())
}

// Allocations iterates over all that is held, in no particular order. What is granted or released meanwhile may or
// may not come up. An error is the last thing that it yields. Cost: O(allocations).
func (p *Pool) Allocations(ctx context.Context) iter.Seq2[Allocation, error] {
	return func(yield func(Allocation, error) bool) {
		for h, err := range p.home.records(ctx, false) {
			switch {
			case err != nil:
				yield(Allocation{}, p.failed("list", "", err))
				return
			case h.live() && !yield(h.Allocation.clone(), nil):
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

// storeError leaves of the store's error for a missing record only that, and returns other errors unchanged.
func storeError(err error) error {
	if errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNoPool) && !errors.Is(err, store.ErrUnknown) {
		return ErrNotFound
	}
	return err
}

// now is the present time as records keep it.
func now(options *Options) time.Time { return options.Clock().UTC().Truncate(time.Microsecond) }
