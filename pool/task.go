package pool

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// What a call does to a pool, as a function of the request, of a view of the pool, and of what the owner holds
// there. It takes and frees in the view's free space, and returns the records to write. Nothing here knows a
// store, a context or the other callers.

type taskKind uint8

const (
	taskAllocate taskKind = iota
	taskRelease
	taskRenew
	taskMark   // notes whether the owner is missing, for Reconcile
	taskExpire // is for no owner
	taskUnreserve
	taskSettle // writes what is held as the rules have it; for no owner, what cools down aside
)

// String returns the operation as errors name it.
func (k taskKind) String() string {
	return [...]string{opAllocate, opRelease, opRenew, "mark", "expire", opUnreserve, "renumber"}[k]
}

// op is what the task does, as errors and observers have it.
func (t *task) op() string {
	switch {
	case t.quarantine != 0:
		return opDecline
	case t.reserve:
		return opReserve
	}
	return t.kind.String()
}

// task is what is asked for one owner. It does not change once it is made.
type task struct {
	kind        taskKind
	owner       string
	claim       *Claim         // of taskAllocate
	reserve     bool           // of taskAllocate: only to reserve
	generation  int64          // the one that is meant; 0 for any
	ttl         time.Duration  // of taskRenew
	missing     time.Time      // of taskMark; of taskRelease, since when the owner must still be missing, if not zero
	optional    bool           // of taskRelease and taskRenew: that nothing is held which is meant is no error
	addr        netip.Addr     // that is meant, if it is valid
	quarantine  time.Duration  // of taskRelease: how long nobody gets it, not even its last owner; 0 for none
	transferred []netip.Prefix // of taskRelease: what later steps of the same call ask for, and does not cool down
	limit       int            // of taskExpire, and of taskSettle for no owner: at most so many records
	delegate    *delegation    // of taskAllocate: the pool to make of what is granted
	line        *lineOrder     // of taskAllocate: the claim waits in a line
	child       string         // of taskRelease: the pool that gives back what the owner holds, and is not asked again
}

// verdict is what became of a task in one plan.
type verdict uint8

const (
	// verdictDone: the result is true as the pool is; nothing is to be written.
	verdictDone verdict = iota
	// verdictWrite: the result is true once the writes are committed.
	verdictWrite
	// verdictRefuse: it cannot be done, for the reason in refusal.
	verdictRefuse
	// verdictWait: as verdictRefuse, but the claim waits in a line. This is no answer, so nothing was done to be certain.
	verdictWait
	// verdictLater: it depends on what another call of the same commit does, and is to be planned again after that.
	verdictLater
)

// outcome is a plan for a task.
type outcome struct {
	verdict   verdict
	result    Allocation
	owned     bool // nothing else shares what the result has any more
	refusal   error
	writes    []write
	ended     int      // of taskExpire: how many records it ends
	delegated bool     // the result is to become a pool of its own
	released  *holding // what is given back that a pool was delegated from; nil for nothing of that kind
}

// write is one record to be written in the place of old, which is nil if there is none, or to be deleted.
type write struct {
	op      store.Op
	holding *holding
	old     *holding
	ended   bool // old is a lease that had ended, whose addresses are freed
}

// view is what a task sees of its pool at one time.
type view struct {
	pool   string // its name
	rules  *rules
	space  *space.Space
	around surroundings

	scratch *scratch
}

// surroundings are what a task may look at beside what its owner holds.
type surroundings interface {
	// now is the present time, the same as long as one commit is planned.
	now() time.Time
	// ending iterates over the records that end, the earliest first.
	ending() iter.Seq2[*holding, error]
	// aside iterates over the records that cool down beside what their owner holds.
	aside() iter.Seq2[*holding, error]
	// at returns the record of an owner that the address belongs to; nil if there is none.
	at(addr netip.Addr) (*holding, error)
	// named returns the record of that name, aside from those that cool down beside what their owner holds, as it is
	// planned to be; nil if there is none.
	named(name string) (*holding, error)
	// fresh returns a zero holding for what is planned, and room for its prefix if it has one.
	fresh() (h *holding, room []netip.Prefix)
	// busy tells what else the commit that is being planned does with a record.
	busy(h *holding) busyness
}

// busyness is what else the commit that is being planned does with a record.
type busyness uint8

const (
	idle      busyness = iota
	written            // it is written, or deleted
	mine               // its owner is asking in this very call, which does all it asks for or nothing
	planned            // its owner is asking in the same commit
	forbidden          // a pool was delegated from it
)

// scratch is memory that plans use again and again.
type scratch struct {
	requests, met []Request
	wants         wants
	order         []int
	room          []netip.Prefix // for what is granted, if it is as many prefixes
}

// plan does the task; h is what its owner holds, nil if nothing. A refused task leaves the free space as it was. The
// outcome's writes are appended to writes, which is empty.
func (v *view) plan(out *outcome, t *task, h *holding, writes []write) {
	start := v.space.Mark()
	*out = outcome{writes: writes}
	var err error
	switch t.kind {
	case taskAllocate:
		err = v.allocate(t, h, out)
	case taskRelease:
		err = v.release(t, h, out)
	case taskRenew:
		err = v.renew(t, h, out)
	case taskMark:
		err = v.mark(t, h, out)
	case taskExpire:
		err = v.expireAll(t, out)
	case taskUnreserve:
		err = v.unreserve(t, h, out)
	case taskSettle:
		err = v.settle(t, h, out)
	}
	switch {
	case err != nil:
		v.space.Rollback(start)
		refused := t.refused(err)
		if out.verdict == verdictLater {
			refused = verdictLater
		}
		*out = outcome{verdict: refused, refusal: err}
	case len(out.writes) > 0:
		out.verdict = verdictWrite
	}
}

// put plans that h is written in the place of old, which is nil if there is no record yet.
func (v *view) put(out *outcome, old, h *holding) {
	h.Beside, h.since = v.rules.beside(h), h.sinceAfter(old, v.around.now())
	op := store.Put
	if old == nil {
		op = store.Create
	}
	out.writes = append(out.writes, write{op: op, holding: h, old: old})
	v.count(old, h)
}

// remove plans that the record of h is deleted.
func (v *view) remove(out *outcome, h *holding) {
	out.writes = append(out.writes, write{op: store.Delete, holding: h, old: h})
	v.count(h, nil)
}

// copyOf returns a copy of h, as [holding.copy] does, for what is planned.
func (v *view) copyOf(h *holding) *holding {
	c, room := v.around.fresh()
	return h.copyTo(c, room)
}

// expire plans that what h held is free, and that its record is deleted. Its lease or cooldown has ended.
func (v *view) expire(out *outcome, h *holding) error {
	if err := v.giveBack(h, out); err != nil {
		return err
	}
	v.remove(out, h)
	out.writes[len(out.writes)-1].ended = h.live()
	return nil
}

// count notes what the head counts of records: before goes and after comes, either may be nil.
func (v *view) count(before, after *holding) {
	v.rules.counted.own(v.space, before, false)
	v.rules.counted.own(v.space, after, true)
	recount(v.space, before, after)
}

// recount brings the counters of records up to date: before goes and after comes, either may be nil.
func recount(s *space.Space, before, after *holding) {
	had, has := before.counters(), after.counters()
	for changed := had ^ has; changed != 0; changed &= changed - 1 {
		by := 1
		if had&changed&-changed != 0 {
			by = -1
		}
		s.Add(space.Counter(bits.TrailingZeros(changed)), by)
	}
}

// counters has a bit for each counter of records in which h counts.
func (h *holding) counters() uint {
	if h == nil {
		return 0
	}
	return bitIf(space.Expiring, !h.frees().IsZero()) | bitIf(space.Aside, h.stray) |
		bitIf(space.Delegated, h.Child != "") | bitIf(space.Holding, h.live()) |
		bitIf(space.Reserved, h.Reserved) | bitIf(space.Shared, h.shared)
}

func bitIf(c space.Counter, counts bool) uint {
	if counts {
		return 1 << c
	}
	return 0
}

func (v *view) allocate(t *task, h *holding, out *outcome) error {
	if err := checkScope(v.rules.Scope, t.claim.Scope, h); err != nil {
		return err
	}
	if t.delegate != nil && !v.rules.moving.isZero() {
		return errorf("%w: it is being renumbered, and no pool can be delegated from it meanwhile", ErrInUse)
	}
	if h.live() && !h.Expired(v.around.now()) {
		return v.again(t, h, out)
	}
	if h != nil && h.Reserved && v.covers(h.Prefixes) {
		if done, err := v.ofReserved(t, h, out); done || err != nil {
			return err
		}
	}
	if v.rules.Cordoned {
		_, err := t.claim.resolve(v.rules, t.claim.Policy, nil)
		return cmp.Or(err, ErrCordoned)
	}
	if err := v.checkLengths(t.claim); err != nil {
		return err
	}
	granted, room := v.around.fresh()
	granted.Owner, granted.Created, granted.Labels = t.owner, v.around.now(), maps.Clone(t.claim.Labels)
	granted.Scope, granted.Share = t.claim.Scope, t.claim.Share
	if t.reserve {
		granted.Reserved, granted.Kept, granted.cooling = true, true, true
	}
	if t.claim.TTL > 0 {
		granted.Expires = v.around.now().Add(t.claim.TTL).Truncate(time.Microsecond)
	}
	back := h != nil && v.isMet(t.claim, h.Prefixes) && v.covers(h.Prefixes)
	if granted.Share != "" || h.shares() {
		if done, err := v.share(t, h, granted, back, out); done || err != nil {
			return err
		}
	}
	if back && !h.shares() {
		// What the owner had, nobody else has had since.
		v.use(h.Prefixes, h.use(), granted.use())
		v.found(granted.with(h), out)
		return v.give(t, h, granted, out)
	}
	if h != nil {
		if err := v.vacate(h, out); err != nil {
			return err
		}
	}
	var err error
	v.scratch.room = room
	granted.Prefixes, err = v.grant(t, out)
	v.scratch.room = nil
	if err != nil {
		return v.explainFully(err)
	}
	v.use(granted.Prefixes, space.Held, granted.use())
	v.found(granted, out)
	return v.give(t, h, granted, out)
}

// with is h with the prefixes of what its owner had, and if these are reserved, with that.
func (h *holding) with(had *holding) *holding {
	h.Prefixes = had.Prefixes
	if had.Reserved {
		h.Reserved = true
		if len(h.Labels) == 0 {
			h.Labels = had.Labels
		}
	}
	return h
}

// give plans that the owner holds what is granted in the place of h.
func (v *view) give(t *task, h, granted *holding, out *outcome) error {
	granted.Child = t.delegate.childOf(v.pool, granted.Prefixes)
	v.put(out, h, granted)
	if h.live() && !slices.Equal(h.Prefixes, granted.Prefixes) {
		out.writes[len(out.writes)-1].ended = true
	}
	out.result, out.delegated = granted.Allocation, granted.Child != ""
	return v.keepQuotas(t, h, granted, out)
}

// checkScope returns an error unless the pool, and what the owner holds, admit a claim of the scope.
func checkScope(only, scope string, h *holding) error {
	switch {
	case only != "" && scope != only:
		return errorf("%w: the pool is for %q, the claim is of %q", ErrScope, only, scope)
	case (h.live() || h != nil && h.Reserved) && h.Scope != scope:
		return errorf("%w: what the owner holds is of %q, the claim is of %q", ErrScope, h.Scope, scope)
	}
	return nil
}

// again is for an owner that holds h already, by a lease that goes on or for good.
func (v *view) again(t *task, h *holding, out *outcome) error {
	if !v.isMet(t.claim, h.Prefixes) && !v.isMetBeside(t.claim, h) || h.Share != t.claim.Share {
		if _, err := t.claim.resolve(v.rules, t.claim.Policy, nil); err != nil {
			return err
		}
		if h.Share != t.claim.Share {
			return errorf("%w: it holds %v by the share key %q, and claims by %q", ErrHeld, h.Prefixes, h.Share, t.claim.Share)
		}
		return errorf("%w: it holds %v", ErrHeld, h.Prefixes)
	}
	child := h.Child
	if child == "" || t.delegate != nil && t.delegate.name != "" {
		child = t.delegate.childOf(v.pool, h.Prefixes)
	}
	if child != "" && h.Child != "" && h.Child != child {
		return errorf("%w: the pool %q was delegated from it", ErrHeld, h.Child)
	}
	child = cmp.Or(child, h.Child)
	expires, reserved := h.Expires, h.Reserved || t.reserve
	switch until := v.around.now().Add(t.claim.TTL).Truncate(time.Microsecond); {
	case t.reserve:
	case t.claim.TTL == 0:
		expires = time.Time{}
	case !expires.IsZero() && expires.Before(until):
		expires = until
	}
	if out.result = h.Allocation; expires.Equal(h.Expires) && h.missing.IsZero() && child == h.Child &&
		reserved == h.Reserved {
		return nil
	}
	kept := v.copyOf(h)
	kept.missing = time.Time{} // an owner that asks is there
	kept.Expires, kept.Child, kept.Reserved = expires, child, reserved
	out.result, out.delegated = kept.Allocation, child != h.Child
	v.put(out, h, kept)
	return nil
}

// vacate makes room for what the owner gets in the place of h, which cools down or is a lease that has ended.
func (v *view) vacate(h *holding, out *outcome) error {
	if !h.cooling || h.due(v.around.now()) || h.Kept {
		return v.giveBack(h, out)
	}
	aside := v.copyOf(h)
	aside.stray = true
	v.put(out, nil, aside)
	return nil
}

// grant takes what the claim asks for, if need be from owners whose time is over.
func (v *view) grant(t *task, out *outcome) ([]netip.Prefix, error) {
	if err := t.line.refusal(out); err != nil {
		return nil, err
	}
	if prefixes, err := v.takePreferred(t, out); prefixes != nil || err != nil {
		return prefixes, err
	}
	prefixes, err := v.take(t.claim, nil)
	if err == nil || v.space.Tally(space.Expiring) == 0 || !errors.Is(err, ErrExhausted) && !errors.Is(err, ErrTaken) {
		return prefixes, err
	}
	start, writes := v.space.Mark(), len(out.writes)
	prefixes, err = v.takeEnded(t, out, err)
	if err != nil {
		v.space.Rollback(start)
		out.writes = out.writes[:writes]
		if own, failed := v.takeOwnAside(t, out); own != nil || failed != nil {
			return own, failed
		}
	}
	return prefixes, err
}

// takePreferred takes what the claim asks for, with the addresses that it prefers as far as they can be had. It returns
// nil, and has changed nothing, if that is none, or if the rest of the claim cannot be met beside them.
func (v *view) takePreferred(t *task, out *outcome) ([]netip.Prefix, error) {
	if !slices.ContainsFunc(t.claim.Requests, func(r Request) bool { return r.Prefer.IsValid() }) {
		return nil, nil
	}
	requests, err := t.claim.resolve(v.rules, t.claim.Policy, v.scratch.requests[:0])
	if err != nil {
		return nil, err
	}
	v.scratch.requests = requests
	v.scratch.wants.reset()
	start, writes := v.space.Mark(), len(out.writes)
	taken, some := make([]netip.Prefix, len(requests)), false
	for i := range requests {
		if r := &requests[i]; r.Prefer.IsValid() && v.admits(r) {
			if taken[i], err = v.takeAround(t, out, r); err != nil {
				return nil, err
			}
			some = some || taken[i].IsValid()
		}
	}
	if some {
		if prefixes, err := v.take(t.claim, taken); err == nil {
			return prefixes, nil
		}
	}
	v.space.Rollback(start)
	out.writes = out.writes[:writes]
	return nil, nil
}

// preferred is the prefix of the requested length around the address that the request prefers.
func (r *Request) preferred() netip.Prefix { return netip.PrefixFrom(r.Prefer, r.Bits).Masked() }

// admits reports whether the request might get what it prefers if it did not say so.
func (v *view) admits(r *Request) bool {
	for _, part := range v.scratch.wants.of(r, v.rules).Tiers {
		if part == nil || part.Contains(r.preferred()) {
			return true
		}
	}
	return false
}

// takeAround takes what the request prefers if it is free, or held by a lease that has ended. It returns the zero
// Prefix if it is not.
func (v *view) takeAround(t *task, out *outcome, r *Request) (netip.Prefix, error) {
	wanted := space.Want{Family: r.Family.inSpace(), Bits: r.Bits, Exact: r.preferred()}
	p, err := v.space.Take(&wanted)
	if err == nil || v.space.Tally(space.Expiring) == 0 || !errors.Is(err, allocator.ErrTaken) {
		return p, ifBroken(err)
	}
	h, err := v.recordAt(r.Prefer)
	if err != nil || h == nil || !h.due(v.around.now()) || h.Owner == t.owner || v.around.busy(h) != idle {
		return netip.Prefix{}, err
	}
	start, writes := v.space.Mark(), len(out.writes)
	if err := v.expire(out, h); err != nil {
		return netip.Prefix{}, err
	}
	if p, err = v.space.Take(&wanted); err != nil {
		v.space.Rollback(start)
		out.writes = out.writes[:writes]
	}
	return p, ifBroken(err)
}

// ifBroken returns the error of taking an exact prefix if it is not about that prefix.
func ifBroken(err error) error {
	if errors.Is(err, allocator.ErrTaken) || errors.Is(err, allocator.ErrOutside) {
		return nil
	}
	return err
}

// take takes what the claim asks for, all of it or nothing, and returns it in the order of the requests. What has been
// taken for some of them already is in taken, which may be nil.
func (v *view) take(c *Claim, taken []netip.Prefix) ([]netip.Prefix, error) {
	requests, err := c.resolve(v.rules, c.Policy, v.scratch.requests[:0])
	if err != nil {
		return nil, err
	}
	v.scratch.requests = requests
	v.scratch.wants.reset()
	start := v.space.Mark()
	prefixes := taken
	switch {
	case prefixes != nil:
	case len(requests) == len(v.scratch.room):
		prefixes = v.scratch.room
		clear(prefixes)
	default:
		prefixes = make([]netip.Prefix, len(requests))
	}
	for _, i := range v.scratch.inOrder(requests) {
		if prefixes[i].IsValid() {
			continue
		}
		r := &requests[i]
		if prefixes[i], err = v.space.Take(v.scratch.wants.of(r, v.rules)); err != nil {
			v.space.Rollback(start)
			return nil, v.explain(r, err)
		}
	}
	return prefixes, nil
}

// inOrder returns the indexes of the requests in the order in which to take them: those with less choice first, so that
// others do not take what they need. That is exact ones, then those within a set, then the rest, and the larger
// prefixes first among the last two.
func (s *scratch) inOrder(requests []Request) []int {
	s.order = s.order[:0]
	for i := range requests {
		s.order = append(s.order, i)
	}
	if len(requests) > 1 {
		slices.SortStableFunc(s.order, func(i, j int) int {
			byChoice := requests[i].choice() - requests[j].choice()
			if byChoice == 0 && !requests[i].Exact.IsValid() {
				return requests[i].Bits - requests[j].Bits
			}
			return byChoice
		})
	}
	return s.order
}

// explain makes an error of the free space one of this package.
func (v *view) explain(r *Request, err error) error {
	switch {
	case errors.Is(err, allocator.ErrExhausted):
		counts, refused := countsOf(statsOf(v.space.Counts()), r.Family), *r
		return &exhaustedError{
			family: r.Family, bits: r.Bits, limited: r.Within != nil || len(v.rules.Bands) > 0,
			free: counts.Free, total: counts.Total.Sub(counts.Reserved), cooling: counts.Cooling,
			hint: v.hint(r), refused: &refused,
		}
	case errors.Is(err, allocator.ErrTaken):
		return &Error{Prefix: r.Exact, Err: &takenError{prefix: r.Exact}}
	case errors.Is(err, allocator.ErrOutside):
		why := v.rules.sets[r.Family.index()].whyNot(r.Exact)
		return &Error{Prefix: r.Exact, Err: fmt.Errorf("%w: %s", ErrNotInPool, why)}
	default:
		return err
	}
}

// neverFits reports whether the request could not be met even if nothing were held. Cost: O(ranges) if it could not.
func (v *view) neverFits(r *Request) bool {
	allowed := v.rules.allowed[r.Family.index()]
	for _, part := range v.scratch.wants.of(r, v.rules).Tiers {
		in := allowed
		if part != nil {
			in = allowed.and(part.Ranges())
		}
		if in.hasRoom(r.Bits) {
			return false
		}
	}
	return true
}

// explainFully adds to the error of a grant what costs something to find out, after the last attempt at it: whether the
// request could ever be met and the longest free block, or whether an exact prefix cools down.
func (v *view) explainFully(err error) error {
	var exhausted *exhaustedError
	if errors.As(err, &exhausted) && exhausted.refused != nil {
		exhausted.never = v.neverFits(exhausted.refused)
		exhausted.longest = v.space.Longest(exhausted.family.inSpace())
		exhausted.refused = nil
	}
	var taken *takenError
	if errors.As(err, &taken) {
		if failed := v.explainTaken(taken); failed != nil {
			return failed
		}
	}
	return err
}

func (v *view) explainTaken(taken *takenError) error {
	first := taken.prefix.Addr()
	if v.space.InUse(space.FamilyOf(first), space.Cooling).IsZero() && v.space.Tally(space.Reserved) == 0 &&
		v.space.Tally(space.Shared) == 0 {
		return nil
	}
	h, err := v.recordAt(first)
	switch {
	case err != nil || h == nil:
	case h.cooling:
		taken.until, taken.reserved = h.frees(), h.Reserved
	case h.shared:
		taken.share = h.Share
	}
	return err
}

// recordAt returns the record that the address belongs to, aside or not; nil if there is none.
func (v *view) recordAt(addr netip.Addr) (*holding, error) {
	h, err := v.around.at(addr)
	if err == nil && h == nil && v.space.Tally(space.Aside) > 0 {
		h, err = v.asideAt(addr)
	}
	return h, err
}

// asideAt returns the record aside that the address belongs to; nil if there is none.
func (v *view) asideAt(addr netip.Addr) (*holding, error) {
	for h, err := range v.around.aside() {
		if err != nil || h.contains(addr) {
			return h, err
		}
	}
	return nil, nil
}

// hint says what may be in the way of a large prefix in a pool of addresses.
func (v *view) hint(r *Request) string {
	if r.Bits == r.Family.Width() || r.Within != nil || !v.rules.reserves(r.Family) {
		return ""
	}
	return "; the first and last address of each subnet are reserved, see FamilySpec.AllocateReserved"
}

// takeEnded frees holdings that have ended and can help, the earliest first, until the claim can be granted. refusal is
// the reason why it cannot be granted yet.
func (v *view) takeEnded(t *task, out *outcome, refusal error) ([]netip.Prefix, error) {
	for h, err := range v.around.ending() {
		if err != nil {
			return nil, err
		}
		if !h.due(v.around.now()) {
			return nil, untilNext(refusal, h.Expires)
		}
		if h.Owner == t.owner && !h.stray || !v.helps(h) {
			continue
		}
		if freed, err := v.endFor(h, out); err != nil {
			return nil, err
		} else if !freed {
			continue
		}
		prefixes, err := v.take(t.claim, nil)
		if err == nil {
			out.verdict = verdictDone
			return prefixes, nil
		}
		refusal = err
	}
	return nil, refusal
}

// endFor frees what h held, whose time is over, unless the commit does something else with it, and reports whether it
// did. What depends on another call of the commit is to be planned later.
func (v *view) endFor(h *holding, out *outcome) (freed bool, err error) {
	switch v.around.busy(h) {
	case idle:
		return true, v.expire(out, h)
	case planned:
		out.verdict = verdictLater
	}
	return false, nil
}

// untilNext adds to the error of a grant when the next address may become free.
func untilNext(err error, next time.Time) error {
	var exhausted *exhaustedError
	var taken *takenError
	switch {
	case errors.As(err, &exhausted):
		exhausted.next = next
	case errors.As(err, &taken):
		taken.next = next
	}
	return err
}

// helps reports whether some request of the claim that was just refused could use what h leaves.
func (v *view) helps(h *holding) bool {
	for i := range v.scratch.requests {
		r := &v.scratch.requests[i]
		for _, prefix := range h.Prefixes {
			switch {
			case FamilyOf(prefix.Addr()) != r.Family:
			case r.Exact.IsValid() && !r.Exact.Overlaps(prefix):
			case r.within != nil && !r.within.Overlaps(prefix):
			default:
				return true
			}
		}
	}
	return false
}

// takeOwnAside takes what the owner itself released and what was put aside since, if the claim asks for it: of several,
// what it released last. It returns nil if there is none.
func (v *view) takeOwnAside(t *task, out *outcome) ([]netip.Prefix, error) {
	if v.space.Tally(space.Aside) == 0 {
		return nil, nil
	}
	var last *holding
	for h, err := range v.around.aside() {
		switch {
		case err != nil:
			return nil, err
		case h.Owner != t.owner || h.Declined || v.around.busy(h) != idle:
		case last != nil && !h.releasedAfter(last):
		case v.isMet(t.claim, h.Prefixes) && v.covers(h.Prefixes):
			last = h
		}
	}
	if last == nil {
		return nil, nil
	}
	v.use(last.Prefixes, space.Cooling, space.Held)
	v.remove(out, last)
	return last.Prefixes, nil
}

// releasedAfter reports whether h, which cools down, does so for longer than the other, or has the higher address.
func (h *holding) releasedAfter(other *holding) bool {
	if !h.Expires.Equal(other.Expires) {
		return h.Expires.After(other.Expires)
	}
	return other.Prefixes[0].Addr().Less(h.Prefixes[0].Addr())
}

func (v *view) release(t *task, h *holding, out *outcome) error {
	if err := t.matches(h); err != nil {
		return t.unlessOptional(err)
	}
	if !t.missing.IsZero() && !h.missing.Equal(t.missing) {
		return ErrNotFound // it is back
	}
	switch {
	case t.child != "" && h.Child != t.child:
		return ErrNotFound // it is another's by now
	case t.child == "" && h.Child != "":
		out.released = h
	}
	out.result = h.Allocation
	return v.letGo(t, h, out)
}

// unlessOptional is the error about what the task names, unless the task is content with that.
func (t *task) unlessOptional(err error) error {
	if t.optional {
		return nil
	}
	return err
}

// letGo frees the prefixes of h, or withholds them for a time.
func (v *view) letGo(t *task, h *holding, out *outcome) error {
	if h.shares() {
		if last, err := v.leave(h, out); err != nil || !last {
			v.remove(out, h)
			return err
		}
	}
	cooldown := v.rules.Cooldown.Truncate(time.Microsecond)
	if h.Reserved && v.coversSome(h.Prefixes) {
		v.keep(t, h, cooldown, out)
		return nil
	}
	cools := cooldown > 0 && !h.Expired(v.around.now()) && v.coversSome(h.Prefixes)
	if !cools && t.quarantine == 0 {
		out.owned = !h.planned
		v.remove(out, h)
		return v.free(h)
	}
	declined := v.rules.tracked(t.addr)
	var room [3]netip.Prefix // for what most have, without a heap allocation
	freed, cooling, quarantined := room[0:0:1], room[1:1:2], room[2:2:3]
	for _, p := range h.Prefixes {
		switch {
		case t.quarantine > 0 && (!declined.IsValid() || p.Contains(declined)) && v.space.CoversSome(p):
			quarantined = append(quarantined, p)
		case cools && !slices.Contains(t.transferred, p):
			cooling = append(cooling, p)
		default:
			freed = append(freed, p)
		}
	}
	out.owned = h.Labels == nil && !h.planned
	if len(cooling) > 0 {
		v.put(out, h, v.withheld(h, cooling, cooldown))
	} else {
		v.remove(out, h)
	}
	if len(quarantined) > 0 {
		declined := v.withheld(h, quarantined, t.quarantine.Truncate(time.Microsecond))
		declined.stray, declined.Declined = true, true
		v.put(out, nil, declined)
	}
	return v.free(&holding{Allocation: Allocation{Prefixes: freed}})
}

// withheld is what remains of h, the prefixes of which nobody else gets for a time.
func (v *view) withheld(h *holding, prefixes []netip.Prefix, d time.Duration) *holding {
	cooling, room := v.around.fresh()
	cooling.Allocation, cooling.cooling = h.Allocation, true
	room = append(room[:0], prefixes...)
	cooling.Prefixes, cooling.Expires = room, v.around.now().Add(d)
	cooling.Child, cooling.Share, cooling.Reserved = "", "", false
	v.use(prefixes, space.Held, space.Cooling)
	return cooling
}

// renew makes a lease end later. It never makes it end earlier, also if the clock has been set back.
func (v *view) renew(t *task, h *holding, out *outcome) error {
	if err := t.matches(h); err != nil {
		return t.unlessOptional(err)
	}
	out.result = h.Allocation
	until := v.around.now().Add(t.ttl).Truncate(time.Microsecond)
	longer := !h.Expires.IsZero() && h.Expires.Before(until)
	if !longer && h.missing.IsZero() {
		return nil
	}
	renewed := v.copyOf(h)
	renewed.missing = time.Time{} // an owner that renews is there
	if longer {
		renewed.Expires = until
	}
	v.put(out, h, renewed)
	out.result = renewed.Allocation
	return nil
}

func (v *view) mark(t *task, h *holding, out *outcome) error {
	if err := t.matches(h); err != nil {
		return err
	}
	out.result = h.Allocation
	if h.missing.Equal(t.missing) {
		return nil
	}
	marked := v.copyOf(h)
	marked.missing = t.missing
	v.put(out, h, marked)
	return nil
}

// expireAll frees what has ended, as much of it as the task allows.
func (v *view) expireAll(t *task, out *outcome) error {
	if v.space.Tally(space.Expiring) == 0 {
		return nil
	}
	for h, err := range v.around.ending() {
		switch {
		case err != nil:
			return err
		case !h.due(v.around.now()) || out.ended >= t.limit:
			return nil
		case v.around.busy(h) != idle:
			continue
		}
		if err := v.expire(out, h); err != nil {
			return err
		}
		out.ended++
	}
	return nil
}

// free gives back what h holds or has held.
func (v *view) free(h *holding) error {
	for _, p := range h.Prefixes {
		if err := v.space.Free(p, h.use()); err != nil {
			return fmt.Errorf("%w: %v is held, but not taken in the pool: %w", ErrCorrupt, p, err)
		}
	}
	return nil
}

// use notes that prefixes, which stay taken, are used for something else.
func (v *view) use(prefixes []netip.Prefix, from, to space.Use) {
	for _, p := range prefixes {
		v.space.Change(p, from, to)
	}
}

// covers reports whether the pool hands out all addresses of the prefixes.
func (v *view) covers(prefixes []netip.Prefix) bool {
	return !slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return !v.space.Covers(p) })
}

// coversSome reports whether the pool hands out any address of the prefixes.
func (v *view) coversSome(prefixes []netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, v.space.CoversSome)
}
