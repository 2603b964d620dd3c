package pool

import (
	"context"
	"iter"
	"time"

	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// Reserve is a step that does what [Pool.Reserve] does.
func Reserve(claim Claim) Step {
	return Step{Op: opReserve, Claim: claim, Held: Held{Owner: claim.Owner}}
}

// Unreserve is a step that does what [Pool.Unreserve] does.
func Unreserve(held Held) Step { return Step{Op: opUnreserve, Held: held} }

// Reserve keeps what the claim asks for, usually with [ExactAddr], for the claim's owner, whether the owner holds it or
// not: a DHCP client's host reservation, the address of a StatefulSet's pod or of a virtual machine. Nobody else gets
// it. The owner gets it, and nothing else, when it claims it by [Pool.Allocate], as a lease or for good. When the owner
// releases it, or its lease ends, it stays reserved, until [Pool.Unreserve]. A lease that has ended still counts as
// [Stats.Used] until the owner releases it, since nobody else can have it. To reserve many at once, do steps; see
// [Pool.Each].
//
// If the owner already holds what the claim asks for, that becomes reserved, and its lease stays as it is. If the owner
// does not, what Reserve returns is [Allocation.Kept]: it counts as [Stats.Kept], and [Pool.Get] and [Pool.Allocations]
// do not return it; see [Pool.Reservations]. An owner has one reservation in a pool. Reserve is idempotent, as
// [Pool.Allocate] is. A later claim without labels keeps those of the reservation.
//
// The owner's claims must ask for what is reserved: as many prefixes, of these families and lengths. A reservation that
// a change of the pool's spec would strand prevents that change; see [Pool.Update]. [Pool.Drain] strands it: when its
// owner claims or releases next, the reservation ends. A pool that is delegated from what is reserved is not kept.
//
// Errors: those of [Pool.Allocate]; [ErrInvalid] also for a claim with a time to live; [ErrHeld] if the owner holds, or
// has reserved, something else. Cost: as for [Pool.Allocate]. A pool without reservations pays nothing for them.
func (p *Pool) Reserve(ctx context.Context, claim Claim) (Allocation, error) {
	return p.observeOne(ctx, "Reserve", Reserve(claim), func(ctx context.Context) (Allocation, error) {
		err := claim.prepareFor(opReserve, &p.sets)
		var a Allocation
		if err == nil {
			err = p.do(ctx, &task{kind: taskAllocate, owner: claim.Owner, reserve: true}, &claim, &a)
		}
		return a, p.failed(opReserve, claim.Owner, err)
	})
}

// Unreserve ends the reservation of the owner, and returns what was reserved. What the owner holds stays held, and its
// lease stays as it is. What it does not hold becomes free, or cools down or stays in quarantine for as long as it
// would have without the reservation.
//
// Errors: [ErrNotFound] if nothing that matches held is reserved; [ErrGeneration]; otherwise as for [Pool.Release].
// Cost: as for [Pool.Release].
func (p *Pool) Unreserve(ctx context.Context, held Held) (Allocation, error) {
	return p.change(ctx, "Unreserve", &Step{Op: opUnreserve, Held: held})
}

// Reservations iterates over what is reserved, whether its owner holds it or not (see [Allocation.Kept]), in no
// particular order. One that begins or ends meanwhile may or may not be included. An error ends the iteration. Cost:
// O(allocations).
func (p *Pool) Reservations(ctx context.Context) iter.Seq2[Allocation, error] {
	return p.list(ctx, func(h *holding) bool { return h.Reserved })
}

// undoes reports whether the task takes something away from its owner.
func (t *task) undoes() bool { return t.kind == taskRelease || t.kind == taskUnreserve }

// isUndone reports whether h, what the owner has, is as if the task had been done.
func (t *task) isUndone(h *holding) bool { return !t.appliesTo(h) }

// ofReserved is for a claim whose owner has a reservation that the pool can grant, and does not hold it. It reports
// whether nothing is left to do.
func (v *view) ofReserved(t *task, h *holding, out *outcome) (done bool, err error) {
	switch {
	case !v.isMet(t.claim, h.Prefixes) || t.claim.Share != "":
		if _, err := t.claim.resolve(v.rules, t.claim.Policy, nil); err != nil {
			return true, err
		}
		return true, errorf("%w: %v is reserved for it", ErrHeld, h.Prefixes)
	case t.reserve:
		out.result = h.Allocation
		return true, nil
	case h.Declined && !h.Expired(v.around.now()):
		return true, &Error{Prefix: h.Prefixes[0], Err: &takenError{prefix: h.Prefixes[0], until: h.Expires, next: h.Expires}}
	}
	return false, nil
}

// keep plans that h, which is reserved, is not held any more.
func (v *view) keep(t *task, h *holding, cooldown time.Duration, out *outcome) {
	kept := &holding{Allocation: h.Allocation, cooling: true}
	kept.Kept, kept.Child, kept.Expires = true, "", time.Time{}
	switch {
	case t.quarantine > 0:
		kept.Declined, kept.Expires = true, v.around.now().Add(t.quarantine.Truncate(time.Microsecond))
	case cooldown > 0 && !h.Expired(v.around.now()):
		kept.Expires = v.around.now().Add(cooldown)
	}
	v.put(out, h, kept)
	v.use(h.Prefixes, space.Held, space.Kept)
}

// unreserve ends a reservation.
func (v *view) unreserve(t *task, h *holding, out *outcome) error {
	if err := t.matches(h); err != nil {
		return t.unlessOptional(err)
	}
	out.result = h.Allocation
	plain := h.copy()
	plain.Reserved, plain.Kept = false, false
	switch {
	case h.live():
		v.put(out, h, plain)
		return nil
	case h.Expires.IsZero() || h.Expired(v.around.now()) || !v.coversSome(h.Prefixes):
		out.owned = !h.planned
		v.remove(out, h)
		return v.free(h)
	case h.Declined:
		v.remove(out, h)
		plain.stray = true
		v.put(out, nil, plain)
	default:
		v.put(out, h, plain)
	}
	v.use(h.Prefixes, space.Kept, space.Cooling)
	return nil
}
