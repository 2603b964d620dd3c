package pool

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Held identifies what an owner holds in a pool: by owner, by one of its addresses, or by both. It is the argument of
// [Pool.Release], [Pool.Renew], [Pool.Decline] and [Pool.Get], and of the steps of the same names.
//
// The zero Held identifies nothing and is refused with [ErrInvalid]. A Held is a value; it may be copied and compared.
type Held struct {
	// Owner is the owner. Empty means whichever owner holds Addr. If several share it, the call fails with
	// [ErrShared].
	Owner string

	// Addr is an address that is held. If Owner is set too, that owner must hold it; otherwise the call fails with
	// [ErrNotFound]. The zero Addr means whatever the owner holds. A zone is ignored.
	Addr netip.Addr

	// Generation is the expected [Allocation.Generation]. If the allocation has another one, because it was released
	// and granted again, the call fails with [ErrGeneration]. 0 means any generation.
	Generation int64

	// Optional makes the call succeed if nothing matches: it then changes nothing and returns the zero Allocation. Set
	// it for a call that may be repeated, such as a CNI plugin's DEL.
	Optional bool
}

// check returns an error that wraps [ErrInvalid] unless it names something.
func (h *Held) check() error {
	if h.Owner == "" && !h.Addr.IsValid() {
		return invalid("neither an owner nor an address says what is held")
	}
	if h.Owner == "" {
		return nil
	}
	return validateOwner(h.Owner)
}

// about makes the task one about what is held.
func (t *task) about(h *Held, kind taskKind) {
	*t = task{kind: kind, owner: h.Owner, generation: h.Generation, optional: h.Optional, addr: h.Addr.WithZone("")}
}

// matches returns an error unless h, what the owner holds, is what the task names.
func (t *task) matches(h *holding) error {
	switch {
	case !t.appliesTo(h):
		return ErrNotFound
	case t.addr.IsValid() && !h.contains(t.addr):
		return ErrNotFound
	case t.generation != 0 && h.Generation != t.generation:
		return fmt.Errorf("%w: the owner holds generation %d, not %d", ErrGeneration, h.Generation, t.generation)
	}
	return nil
}

// appliesTo reports whether the task is about something like h: what is held or, to end a reservation, reserved.
func (t *task) appliesTo(h *holding) bool {
	if t.kind == taskUnreserve {
		return h != nil && h.Reserved
	}
	return h.live()
}

// Release frees everything that the owner holds, and returns it. The addresses can be handed out again at once, or
// after the pool's cooldown; until then the owner gets them back if it claims the same. Addresses that others share
// stay with them; see [Claim.Share]. Addresses that are reserved for the owner stay so; see [Pool.Reserve]. If a pool
// was delegated from the allocation (see [Delegate]), that pool loses the addresses too, and is deleted if it has no
// others.
//
// If the answer of a commit is lost, and nothing that matches held is there afterwards, Release succeeds, although
// another process may have released it before.
//
// Errors: [ErrNotFound] if nothing matches held; [ErrShared]; [ErrGeneration]; [ErrInUse] if a pool that was delegated
// from the allocation still holds any of the addresses; otherwise as for [Pool.Allocate]. Cost: one round trip if this
// handle granted the allocation and no other process has changed the pool since, and two otherwise. An address without
// an owner is looked up first, as in [Pool.Get], with one read more if that finds nobody, or several.
func (p *Pool) Release(ctx context.Context, held Held) (Allocation, error) {
	return p.change(ctx, "Release", &Step{Op: opRelease, Held: held})
}

// Renew makes the lease last for ttl from now on, and returns it. It never makes a lease end earlier, even if the clock
// has been set back. A permanent allocation stays permanent. A lease that has ended can be renewed until another claim
// has taken its addresses.
//
// Errors: as for [Pool.Release]; [ErrInvalid] for a ttl under a microsecond or above [MaxTTL]. Cost: as for
// [Pool.Release]; the number of leases does not matter.
func (p *Pool) Renew(ctx context.Context, held Held, ttl time.Duration) (Allocation, error) {
	return p.change(ctx, "Renew", &Step{Op: opRenew, Held: held, Duration: ttl})
}

// Decline is for an owner whose address is in use by another host: it found out through duplicate address detection
// (RFC 4862, section 5.4; RFC 5227), or is a DHCP client that sends DHCPDECLINE. In one commit the owner loses
// everything that it holds, and the address goes into quarantine: for that time nobody gets it, not even its last
// owner, whatever [Spec.Cooldown] says. The owner may claim another address at once; see [Pool.All] to do both in one
// commit.
//
// If held has an Addr, only the prefix that contains it goes into quarantine, and the rest is released as by
// [Pool.Release]. Otherwise all of it goes into quarantine. Addresses in quarantine count as [Stats.Cooling].
// When the quarantine ends they are free. What others share stays with them, and goes into quarantine only if the last
// of them declines it too. What is reserved for the owner goes into quarantine as a whole, counts as
// [Stats.Kept], and stays reserved: until the quarantine ends the owner's claims are refused with [ErrTaken].
//
// A lost answer is treated as by Release: the address may then be in another process's quarantine.
//
// Errors: as for [Pool.Release]; [ErrInvalid] for a quarantine under a microsecond or above [MaxTTL]. Cost: as for
// [Pool.Release].
func (p *Pool) Decline(ctx context.Context, held Held, quarantine time.Duration) (Allocation, error) {
	return p.change(ctx, "Decline", &Step{Op: opDecline, Held: held, Duration: quarantine})
}

// Get returns the allocation that held identifies.
//
// Errors: [ErrInvalid]; [ErrNotFound] if nothing matches held; [ErrShared]; [ErrGeneration]; those of the store. Cost:
// by owner, one read. By address alone, as for [store.Store.Find]: one or two reads if the store has an index of
// prefixes, and O(allocations) otherwise; in memory, at most one map look-up for each prefix length. One read more if
// the owner holds it by a share key.
func (p *Pool) Get(ctx context.Context, held Held) (Allocation, error) {
	h, err := p.get(ctx, held)
	if err != nil {
		return Allocation{}, p.failedFor("get", held, held.unlessOptional(storeError(err)))
	}
	return h.Allocation.clone(), nil
}

func (p *Pool) get(ctx context.Context, held Held) (h *holding, err error) {
	if err := held.check(); err != nil {
		return nil, err
	}
	var t task
	t.about(&held, taskRelease)
	if t.owner != "" {
		h, err = p.home.get(ctx, t.owner)
	} else {
		h, err = p.holder(ctx, t.addr)
	}
	if err != nil {
		return nil, err
	}
	return h, t.matches(h)
}

// failedFor is failed for a call about what is held.
func (p *Pool) failedFor(operation string, held Held, err error) error {
	if err == nil {
		return nil
	}
	if held.Owner == "" && held.Addr.IsValid() {
		return &Error{Op: operation, Pool: p.name, Prefix: singleAddr(held.Addr), Err: storeError(err)}
	}
	return p.failed(operation, held.Owner, err)
}

// isGone reports whether nothing was held that fits a name.
func isGone(err error) bool {
	return (errors.Is(err, ErrNotFound) || errors.Is(err, ErrGeneration)) && !errors.Is(err, ErrNoPool)
}

// change does a step about what is held, by itself, for a method.
func (p *Pool) change(ctx context.Context, method string, s *Step) (a Allocation, err error) {
	if p.options.Observer == nil {
		err = p.changeStep(ctx, s, &a)
		return a, err
	}
	return p.observeOne(ctx, method, *s, func(ctx context.Context) (a Allocation, err error) {
		err = p.changeStep(ctx, s, &a)
		return a, err
	})
}

func (p *Pool) changeStep(ctx context.Context, s *Step, result *Allocation) error {
	err := s.plan()
	if err == nil {
		err = p.changeNamed(ctx, s, result)
	}
	return p.failedFor(s.Op, s.Held, err)
}

// changeNamed does it for whoever holds it at that moment.
func (p *Pool) changeNamed(ctx context.Context, s *Step, result *Allocation) error {
	if s.task.owner != "" {
		return p.changeOne(ctx, &s.task, result)
	}
	holder := "" // of the address, whom the last attempt found to hold it no longer
	for range p.options.Attempts {
		t := s.task
		t.optional = false
		err := p.resolve(ctx, &t)
		if err != nil {
			return s.Held.unlessOptional(err)
		}
		err = p.changeOne(ctx, &t, result)
		if !errors.Is(err, ErrNotFound) || errors.Is(err, ErrNoPool) || t.owner == holder {
			return s.Held.unlessOptional(err)
		}
		holder = t.owner // perhaps somebody else has the address by now
	}
	return ErrBusy
}

func (p *Pool) changeOne(ctx context.Context, t *task, result *Allocation) error {
	if t.kind == taskRelease {
		return p.release(ctx, t, result)
	}
	return p.do(ctx, t, nil, result)
}

// resolve finds out the owner of what a task names by its address alone.
func (p *Pool) resolve(ctx context.Context, t *task) error {
	if t.owner != "" || !t.addr.IsValid() {
		return nil
	}
	h, err := p.holder(ctx, t.addr)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrShared) {
		h, err = p.holderNow(ctx, t.addr, err)
	}
	if err == nil && !t.appliesTo(h) {
		err = ErrNotFound
	}
	if err == nil {
		t.owner = h.Owner
	}
	return storeError(err)
}

// unlessOptional is the error, unless it says that nothing is held and the caller is content with that.
func (h Held) unlessOptional(err error) error {
	if h.Optional && isGone(err) {
		return nil
	}
	return err
}
