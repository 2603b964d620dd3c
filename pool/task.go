package pool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/store"
)

// What a call does to a pool, in memory and in a store alike: it looks at what the owner holds, does what is asked for in the ledger,
// and says which records are to be written. Nobody writes them here.

type taskKind uint8

const (
	taskAllocate taskKind = iota
	taskRelease
	taskRenew
	taskMark // whether the owner is missing, for Reconcile
	taskReap // for no owner
)

// String returns the operation as errors name it.
func (k taskKind) String() string {
	return [...]string{"allocate", "release", "renew", "mark", "reap"}[k]
}

// task is what is to be done for one owner.
type task struct {
	kind       taskKind
	owner      string
	claim      Claim         // for taskAllocate
	generation int64         // the one that is meant; 0 for any
	ttl        time.Duration // for taskRenew
	missing    time.Time     // for taskMark; for taskRelease, since when its owner must be missing still, if not zero
	ifHeld     bool          // for taskRelease: it is fine if the owner holds nothing
	limit      int           // for taskReap: how many records at most; 0 if the store takes any number
	child      string        // for taskAllocate, the pool that is carved out; for taskRelease, the one that goes with it

	done   bool
	result Allocation
	err    error

	// The plan of this attempt. Either there are writes, which make the result true, or a refusal, or the result is true already.
	writes  []write
	refusal error
	sure    bool // the refusal holds whatever the head is
	later   bool // there is no plan: another attempt is wanted, after what others in the batch do
	waits   int  // how often that was so

	fetched   bool  // the owner's record was just read, with its result in Pool.held
	fresh     bool  // the same, by the failed commit before this attempt
	releasing int64 // the generation that a commit of unknown outcome was to release
}

// write is one record to be written, or to be deleted.
type write struct {
	op      store.Op
	holding *holding
}

func (t *task) reset() {
	t.writes, t.refusal, t.sure, t.later = nil, nil, false, false
	t.fetched, t.fresh = t.fresh, false
}

// planTask does the task in the ledger, where h is what the owner holds, nil if nothing. If it cannot be done, it leaves the ledger as it
// was.
func (p *Pool) planTask(ctx context.Context, t *task, h *holding) error {
	start := p.ledger.mark()
	var err error
	switch t.kind {
	case taskAllocate:
		err = p.planAllocate(ctx, t, h)
	case taskRelease:
		err = p.planRelease(t, h)
	case taskRenew:
		err = p.planRenew(t, h)
	case taskMark:
		err = p.planMark(t, h)
	case taskReap:
		err = p.planReap(ctx, t)
	}
	if err != nil {
		p.ledger.undo(start)
		t.writes = t.writes[:0]
	}
	return err
}

// put plans that h is written in the place of old, which is nil if there is no record yet.
func (p *Pool) put(t *task, old, h *holding) {
	op := store.Put
	if old == nil {
		op = store.Create
	}
	t.writes = append(t.writes, write{op, h})
	p.ledger.count(expires(h)-expires(old), stray(h)-stray(old))
}

// remove plans that the record of h is deleted.
func (p *Pool) remove(t *task, h *holding) {
	t.writes = append(t.writes, write{store.Delete, h})
	p.ledger.count(-expires(h), -stray(h))
}

func expires(h *holding) int {
	if h == nil || h.Expires.IsZero() {
		return 0
	}
	return 1
}

func stray(h *holding) int {
	if h == nil || !h.stray {
		return 0
	}
	return 1
}

func (p *Pool) planAllocate(ctx context.Context, t *task, h *holding) error {
	if err := checkScope(p.ledger.spec, t.claim.Scope, h); err != nil {
		return err
	}
	if h.live() && !h.Expired(p.time) {
		return p.planHeld(t, h)
	}
	granted := &holding{Allocation: Allocation{
		Owner: t.owner, Created: p.time, Scope: t.claim.Scope, Labels: maps.Clone(t.claim.Labels), Child: t.child,
	}}
	if t.claim.TTL > 0 {
		granted.Expires = p.time.Add(t.claim.TTL).Truncate(time.Microsecond)
	}
	if h != nil && p.ledger.isMet(&t.claim, h.Prefixes) && p.ledger.covers(h.Prefixes) {
		// What the owner had, nobody else has had since.
		granted.Prefixes = h.Prefixes
		if h.cooling {
			p.ledger.warm(h.Prefixes)
		}
		p.put(t, h, granted)
		t.result = granted.Allocation
		return nil
	}
	if h != nil {
		if err := p.vacate(t, h); err != nil {
			return err
		}
	}
	var err error
	if granted.Prefixes, err = p.grant(ctx, t); err != nil {
		return err
	}
	p.put(t, h, granted)
	t.result = granted.Allocation
	return nil
}

// checkScope tells whether the pool, and what the owner holds, admit the claim.
func checkScope(spec *resolvedSpec, scope string, h *holding) error {
	switch {
	case spec.Scope != "" && scope != spec.Scope:
		return fmt.Errorf("%w: the pool is for %q, the claim is of %q", ErrScope, spec.Scope, scope)
	case h.live() && h.Scope != scope:
		return fmt.Errorf("%w: what the owner holds is of %q, the claim is of %q", ErrScope, h.Scope, scope)
	}
	return nil
}

// planHeld is for an owner who holds something, by a lease that goes on or by a reservation.
func (p *Pool) planHeld(t *task, h *holding) error {
	if !p.ledger.isMet(&t.claim, h.Prefixes) {
		if _, err := t.claim.resolve(p.ledger.spec, t.claim.Policy, nil); err != nil {
			return err
		}
		return fmt.Errorf("%w: it holds %v", ErrHeld, h.Prefixes)
	}
	if h.Child != t.child && t.child != "" {
		if h.Child != "" {
			return fmt.Errorf("%w: the pool %q was carved out of it", ErrHeld, h.Child)
		}
		kept := h.copy()
		kept.Child, kept.Expires, kept.missing = t.child, time.Time{}, time.Time{} // a pool is carved out of a reservation only
		p.put(t, h, kept)
		t.result = kept.Allocation
		return nil
	}
	t.result = h.Allocation
	if endless := t.claim.TTL == 0 && !h.Expires.IsZero(); endless || !h.missing.IsZero() {
		kept := h.copy()
		kept.missing = time.Time{} // who asks is there
		if endless {
			kept.Expires = time.Time{}
		}
		p.put(t, h, kept)
		t.result = kept.Allocation
	}
	return nil
}

// vacate makes room for what the owner gets in the place of h, which cools down or is a lease that has ended.
func (p *Pool) vacate(t *task, h *holding) error {
	if !h.cooling || h.due(p.time) {
		return p.ledger.free(h)
	}
	aside := h.copy()
	aside.stray = true
	p.put(t, nil, aside)
	return nil
}

// grant takes what the claim asks for, if need be from those whose time is over.
func (p *Pool) grant(ctx context.Context, t *task) ([]netip.Prefix, error) {
	prefixes, err := p.ledger.grant(&t.claim)
	if err == nil || p.ledger.tallies.expiring == 0 || !errors.Is(err, ErrExhausted) && !errors.Is(err, ErrTaken) {
		return prefixes, err
	}
	start, writes := p.ledger.mark(), len(t.writes)
	prefixes, err = p.grantExpired(ctx, t, err)
	if err != nil {
		p.ledger.undo(start)
		t.writes = t.writes[:writes]
		if own, failed := p.aside(ctx, t); own != nil || failed != nil {
			return own, failed
		}
	}
	return prefixes, err
}

// aside takes what the owner itself released, and what was put aside since, if that is what the claim asks for; nil if there is no such.
func (p *Pool) aside(ctx context.Context, t *task) ([]netip.Prefix, error) {
	if p.ledger.tallies.strays == 0 {
		return nil, nil
	}
	for h, err := range p.strayHoldings(ctx) {
		if err != nil {
			return nil, err
		}
		if h.Owner == t.owner && !p.written[h.key(p.name)] && p.ledger.isMet(&t.claim, h.Prefixes) && p.ledger.covers(h.Prefixes) {
			p.ledger.warm(h.Prefixes)
			p.remove(t, h)
			return h.Prefixes, nil
		}
	}
	return nil, nil
}

// strayHoldings iterates over what cools down beside what its owner holds.
func (p *Pool) strayHoldings(ctx context.Context) iter.Seq2[*holding, error] {
	if p.store != nil {
		return holdings(p.store.List(ctx, store.KindCooling, p.name))
	}
	return func(yield func(*holding, error) bool) {
		for _, h := range p.strays {
			if !yield(h, nil) {
				return
			}
		}
	}
}

// grantExpired frees what has ended and could be of use, the earliest first, until the claim can be granted. refusal is why it cannot be yet.
func (p *Pool) grantExpired(ctx context.Context, t *task, refusal error) ([]netip.Prefix, error) {
	for h, err := range p.expiring(ctx) {
		switch other := p.planningOf(h); {
		case err != nil:
			return nil, err
		case !h.due(p.time):
			return nil, untilNext(refusal, h.Expires)
		case p.written[h.key(p.name)] || h.Owner == t.owner && !h.stray || h.Child != "" || !p.helps(h):
			continue
		case other != nil:
			t.later = t.later || other != p.current || !other.whole
			continue
		}
		if err := p.ledger.free(h); err != nil {
			return nil, err
		}
		p.remove(t, h)
		prefixes, err := p.ledger.grant(&t.claim)
		if err == nil {
			t.later = false
			return prefixes, nil
		}
		refusal = err
	}
	return nil, refusal
}

// planningOf is the op in this batch that may change h; nil if there is none.
func (p *Pool) planningOf(h *holding) *op {
	if h == nil || h.stray {
		return nil
	}
	return p.planning[h.Owner]
}

// untilNext adds to the error of a grant when the next address may become free.
func untilNext(err error, next time.Time) error {
	var exhausted *ExhaustedError
	var taken *takenError
	switch {
	case errors.As(err, &exhausted):
		exhausted.Next = next
	case errors.As(err, &taken):
		taken.next = next
	}
	return err
}

// helps tells whether some request of the claim that was just refused could use what h leaves.
func (p *Pool) helps(h *holding) bool {
	for i := range p.ledger.scratch {
		r := &p.ledger.scratch[i]
		for _, prefix := range h.Prefixes {
			switch {
			case FamilyOf(prefix.Addr()) != r.Family:
			case r.Exact.IsValid() && !r.Exact.Overlaps(prefix):
			case r.Within != nil && !cidr.Overlaps(r.Within, cidr.SetOf(netipx.RangeOfPrefix(prefix))):
			default:
				return true
			}
		}
	}
	return false
}

func (p *Pool) planRelease(t *task, h *holding) error {
	// Nothing tells an earlier commit that has released it from one that came too late, to what another process had
	// released. If the owner holds something again, it is to be released unless the call is for one generation.
	if t.releasing != 0 && (!h.live() || t.generation != 0 && h.Generation != t.releasing) {
		return nil
	}
	if t.ifHeld && !h.live() {
		t.result = Allocation{} // an earlier attempt may have seen something
		return nil
	}
	if err := checkRelease(h, t.generation); err != nil {
		t.sure = true
		return err
	}
	if !t.missing.IsZero() && !h.missing.Equal(t.missing) {
		return ErrNotFound // it is back
	}
	if h.Child != "" && h.Child != t.child {
		return &delegatedError{h.Child}
	}
	t.result = h.Allocation
	cooldown := p.ledger.spec.Cooldown.Truncate(time.Microsecond)
	if cooldown == 0 || h.Expired(p.time) || !p.ledger.coversSome(h.Prefixes) {
		p.remove(t, h)
		return p.ledger.free(h)
	}
	cooling := &holding{Allocation: h.Allocation, cooling: true}
	cooling.Expires = p.time.Add(cooldown)
	cooling.Child = ""
	p.ledger.cool(h.Prefixes)
	p.put(t, h, cooling)
	return nil
}

// checkRelease tells whether h, what the owner holds, may be changed as being of this generation.
func checkRelease(h *holding, generation int64) error {
	switch {
	case !h.live():
		return ErrNotFound
	case generation != 0 && h.Generation != generation:
		return fmt.Errorf("%w: the owner holds generation %d, not %d", ErrGeneration, h.Generation, generation)
	}
	return nil
}

// planRenew makes a lease end later. It never makes it end earlier, also if the clock has been set back.
func (p *Pool) planRenew(t *task, h *holding) error {
	if err := checkRelease(h, t.generation); err != nil {
		t.sure = true
		return err
	}
	t.result = h.Allocation
	until := p.time.Add(t.ttl).Truncate(time.Microsecond)
	longer := !h.Expires.IsZero() && h.Expires.Before(until)
	if !longer && h.missing.IsZero() {
		return nil
	}
	renewed := h.copy()
	renewed.missing = time.Time{} // who renews is there
	if longer {
		renewed.Expires = until
	}
	p.put(t, h, renewed)
	t.result = renewed.Allocation
	return nil
}

func (p *Pool) planMark(t *task, h *holding) error {
	if err := checkRelease(h, t.generation); err != nil {
		t.sure = true
		return err
	}
	t.result = h.Allocation
	if h.missing.Equal(t.missing) {
		return nil
	}
	marked := h.copy()
	marked.missing = t.missing
	p.put(t, h, marked)
	return nil
}

// copy returns a holding that may be changed, before it is written in the place of h. It keeps the generation.
func (h *holding) copy() *holding {
	c := *h
	c.place = 0
	return &c
}

// expiring iterates over all that expires, the earliest first.
func (p *Pool) expiring(ctx context.Context) iter.Seq2[*holding, error] {
	if p.store == nil {
		return func(yield func(*holding, error) bool) {
			for h := range p.expiry.inOrder() {
				if !yield(h, nil) {
					return
				}
			}
		}
	}
	allocations := holdings(p.store.ByExpiry(ctx, store.KindAllocation, p.name))
	if p.ledger.tallies.strays == 0 {
		return allocations
	}
	return byExpiry(allocations, holdings(p.store.ByExpiry(ctx, store.KindCooling, p.name)))
}

func holdings(records iter.Seq2[store.Record, error]) iter.Seq2[*holding, error] {
	return func(yield func(*holding, error) bool) {
		for r, err := range records {
			var h *holding
			if err == nil {
				h, err = holdingOf(r)
			}
			if !yield(h, err) || err != nil {
				return
			}
		}
	}
}

// byExpiry merges two iterations in which the earliest comes first.
func byExpiry(a, b iter.Seq2[*holding, error]) iter.Seq2[*holding, error] {
	return func(yield func(*holding, error) bool) {
		next, stop := iter.Pull2(b)
		defer stop()
		waiting, err, more := next()
		for h, failed := range a {
			for more && (err != nil || failed == nil && waiting.Expires.Before(h.Expires)) {
				if !yield(waiting, err) || err != nil {
					return
				}
				waiting, err, more = next()
			}
			if !yield(h, failed) || failed != nil {
				return
			}
		}
		for ; more && yield(waiting, err) && err == nil; waiting, err, more = next() {
		}
	}
}
