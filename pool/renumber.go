package pool

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// How a pool moves to another prefix.
//
// While it does, each address of the old prefix and the one at the same offset in the new prefix are one: who holds the
// old one holds the new one beside it. So the free space needs to know one of the two only: the old one until the
// renumbering is finished, and then the new one. Both changes are one commit of the head, which cannot be half done.
// What records say of an owner is read as the head has it (rules.current), and is written so in commits of bounded size
// afterwards (taskSettle): these cannot be refused, and may end anywhere.

// Renumbering says from which prefix to which a pool moves; see [Pool.Renumber]. The zero Renumbering is none. It is a
// value; it may be copied and compared.
type Renumbering struct {
	// From is the old prefix, To the new one. An address keeps its offset: the n-th of From becomes the n-th of To.
	From netip.Prefix `json:"from"`
	To   netip.Prefix `json:"to"`
	// Finishing reports whether the old prefix is being given up; see [Pool.FinishRenumber].
	Finishing bool `json:"finishing,omitempty"`
	// Cancelled reports whether that is so because the renumbering was cancelled: From is then where the pool was to
	// move, and To where it stays; see [Pool.CancelRenumber].
	Cancelled bool `json:"cancelled,omitempty"`
}

// New returns the new prefix of an old one; false if old is not in From. Cost: O(1).
func (n Renumbering) New(old netip.Prefix) (netip.Prefix, bool) {
	if !n.From.IsValid() || old.Bits() < n.From.Bits() || !n.From.Contains(old.Addr()) {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(shift(old.Addr(), n.From, n.To), old.Bits()), true
}

// Old returns the old prefix of a new one; false if it has none. Cost: O(1).
func (n Renumbering) Old(moved netip.Prefix) (netip.Prefix, bool) {
	return Renumbering{From: n.image(), To: n.From}.New(moved)
}

// twin is the address on the other side of addr; the zero Addr if it has none.
func (n Renumbering) twin(addr netip.Addr) netip.Addr {
	p := singleAddr(addr)
	if moved, ok := n.New(p); ok {
		return moved.Addr()
	}
	old, _ := n.Old(p)
	return old.Addr()
}

// image is the part of To that From becomes; the zero Prefix for none.
func (n Renumbering) image() netip.Prefix {
	if !n.To.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(n.To.Addr(), n.From.Bits())
}

// shift returns the address in to that is at the offset of addr in from. Both prefixes are of one family.
func shift(addr netip.Addr, from, to netip.Prefix) netip.Addr {
	bytes, base := addr.AsSlice(), to.Addr().AsSlice()
	for i := range bytes {
		host := byte(0xff)
		if bits := from.Bits() - 8*i; bits >= 8 {
			host = 0
		} else if bits > 0 {
			host >>= bits
		}
		bytes[i] = base[i]&^host | bytes[i]&host
	}
	moved, _ := netip.AddrFromSlice(bytes)
	return moved
}

func (n Renumbering) isZero() bool { return n == Renumbering{} }

// isOf reports whether addresses of the family move.
func (n Renumbering) isOf(family Family) bool {
	return !n.isZero() && FamilyOf(n.From.Addr()) == family
}

// validate checks the two prefixes.
func (n Renumbering) validate() error {
	for _, p := range []netip.Prefix{n.From, n.To} {
		switch {
		case !p.IsValid() || p.Addr().Is4In6():
			return invalid("the prefix %v is not a valid IPv4 or IPv6 prefix", p)
		case p != p.Masked():
			return invalid("the prefix %v has host bits set, want %v", p, p.Masked())
		}
	}
	switch {
	case n.From.Addr().BitLen() != n.To.Addr().BitLen():
		return invalid("%v and %v are of two families, want one", n.From, n.To)
	case n.To.Bits() > n.From.Bits():
		return invalid("%v is smaller than %v, want a prefix of at most %d bits", n.To, n.From, n.From.Bits())
	case n.From.Overlaps(n.To):
		return invalid("%v and %v overlap", n.From, n.To)
	}
	return nil
}

// Renumbered returns the spec with all that it has in from at the same offset in to: ranges, exclusions, subnets,
// gateways and bands. What a larger to has beyond that is not added. It is the spec of a pool after
// [Pool.FinishRenumber].
//
// Errors: [ErrInvalid] if from and to are not two prefixes of one family that do not overlap, the second at least as
// large; if the spec has nothing in from, a range that is only partly there (ranges that touch count as one), or one
// where from is to move; or if the result breaks a rule. Cost: as for [Spec.Validate].
func (s Spec) Renumbered(from, to netip.Prefix) (Spec, error) {
	n := Renumbering{From: from, To: to}
	if err := n.validate(); err != nil {
		return Spec{}, err
	}
	old := netipx.RangeOfPrefix(from)
	some := false
	for _, r := range setOf(ofFamily(s.ranges(), FamilyOf(from.Addr()))) {
		if r.Overlaps(netipx.RangeOfPrefix(n.image())) {
			return Spec{}, invalid("the range %s of the pool is in %v already", cidr.FormatRange(r), to)
		}
		if !r.Overlaps(old) {
			continue
		}
		if some = true; !old.Contains(r.From()) || !old.Contains(r.To()) {
			return Spec{}, invalid("the range %s is only partly in %v, want all of it there", cidr.FormatRange(r), from)
		}
	}
	if !some {
		return Spec{}, invalid("the pool has no ranges in %v", from)
	}
	s = s.clone()
	s.Ranges, s.Exclude = n.moved(s.Ranges), n.moved(s.Exclude)
	for i := range s.Bands {
		s.Bands[i].Ranges = n.moved(s.Bands[i].Ranges)
	}
	for i := range s.Subnets {
		subnet := &s.Subnets[i]
		if p, ok := n.New(subnet.Prefix); ok {
			if subnet.Prefix = p; subnet.Gateway.IsValid() {
				subnet.Gateway = shift(subnet.Gateway, n.From, n.To)
			}
		}
	}
	if err := s.Validate(); err != nil {
		return Spec{}, errorf("in %v: %w", to, err)
	}
	return s, nil
}

// moved returns the ranges with what is in From at its new place.
func (n Renumbering) moved(ranges []netipx.IPRange) []netipx.IPRange {
	old := netipx.RangeOfPrefix(n.From)
	var moved []netipx.IPRange
	for _, r := range ranges {
		if !r.Overlaps(old) {
			moved = append(moved, r)
			continue
		}
		moved = append(moved, n.imageOf(r))
		moved = append(moved, set{r}.minus(set{old})...)
	}
	return moved
}

// imageOf is the new place of what of a range is in From, of which some is.
func (n Renumbering) imageOf(r netipx.IPRange) netipx.IPRange {
	old := netipx.RangeOfPrefix(n.From)
	first, last := later(r.From(), old.From()), earlier(r.To(), old.To())
	return netipx.IPRangeFrom(shift(first, n.From, n.To), shift(last, n.From, n.To))
}

// endOf is the spec in the end of a pool that has this one now.
func (n Renumbering) endOf(s Spec) (Spec, error) {
	if n.isZero() || n.Finishing {
		return s, nil
	}
	return s.Renumbered(n.From, n.To)
}

// restrict keeps from being handed out what must not be because of the renumbering: the old prefix once it is given up,
// and until then what of it the pool may not hand out in the new one. end is the spec in the end.
func (r *rules) restrict(family Family, end Spec) {
	if !r.moving.isOf(family) {
		return
	}
	n, allowed := r.moving, &r.allowed[family.index()]
	old := set{netipx.RangeOfPrefix(n.From)}
	if n.Finishing {
		*allowed = allowed.minus(old)
		return
	}
	after := end.setsOf(family).allowed.minus(setOf(ofFamily(r.withheld, family)))
	back := Renumbering{From: n.image(), To: n.From}
	var pairs []netipx.IPRange
	for _, both := range after.and(set{netipx.RangeOfPrefix(n.image())}) {
		pairs = append(pairs, back.imageOf(both))
	}
	*allowed = setOf(slices.Concat(allowed.minus(old), allowed.and(setOf(pairs))))
}

// allRanges are those of the pool, and while it is being renumbered what belongs to them on the other side.
func (r *rules) allRanges() []netipx.IPRange {
	ranges, n := r.Spec.ranges(), r.moving
	if n.isZero() {
		return ranges
	}
	if n.Finishing {
		n = Renumbering{From: n.image(), To: n.From}
	}
	return slices.Concat(ranges, n.moved(ofPrefix(ranges, n.From)))
}

// ofPrefix are those of the ranges that overlap with the prefix.
func ofPrefix(ranges []netipx.IPRange, p netip.Prefix) []netipx.IPRange {
	return slices.DeleteFunc(slices.Clone(ranges), func(r netipx.IPRange) bool {
		return !r.Overlaps(netipx.RangeOfPrefix(p))
	})
}

// current is what a record says as it is to be read by these rules; h itself unless the pool is being renumbered.
func (r *rules) current(h *holding) *holding {
	if h == nil || r.moving.isZero() && len(h.Beside) == 0 {
		return h
	}
	c := h.copy() // also of what a pool has left whose head was lost meanwhile
	c.Beside = r.beside(c)
	if r.moving.Finishing {
		c.Prefixes = slices.Clone(h.Prefixes)
		for i, old := range h.Prefixes {
			if p, ok := r.moving.New(old); ok {
				c.Prefixes[i] = p
			}
		}
	}
	moved := !slices.Equal(c.Prefixes, h.Prefixes)
	if c.stray && moved {
		c.name = h.named()
	}
	if moved || !slices.Equal(c.Beside, h.Beside) {
		c.was = h
	}
	return c
}

// sinceAfter is since when the owner has what h says, which is to be written in the place of old; zero if since its
// grant. What is renumbered was as before for a microsecond at least, so that no two tenures begin at one time.
func (h *holding) sinceAfter(old *holding, now time.Time) time.Time {
	switch {
	case !h.live():
		return time.Time{}
	case !old.goesOnAs(h) || old.was == nil:
		return h.since
	}
	since, next := now.UTC().Truncate(time.Microsecond), old.began().Add(time.Microsecond)
	if since.Before(next) {
		return next
	}
	return since
}

// goesOnAs reports whether both are held by one owner, by one grant.
func (h *holding) goesOnAs(next *holding) bool {
	return h.live() && next.live() && h.Owner == next.Owner && h.Generation == next.Generation
}

// began is since when the owner has what its record says.
func (h *holding) began() time.Time {
	if h.since.IsZero() {
		return h.Created
	}
	return h.since
}

// beside is what the owner of h has in the new prefix; nil unless the pool is being renumbered.
func (r *rules) beside(h *holding) []netip.Prefix {
	if r.moving.isZero() || r.moving.Finishing || !h.live() && !h.shared {
		return nil
	}
	return r.moving.allNew(h.Prefixes)
}

// allNew are the new ones of those of the prefixes that move.
func (n Renumbering) allNew(prefixes []netip.Prefix) (moved []netip.Prefix) {
	for _, old := range prefixes {
		if p, ok := n.New(old); ok {
			moved = append(moved, p)
		}
	}
	return moved
}

// tracked is the address by which the pool knows one of a prefix that it is renumbered to.
func (r *rules) tracked(addr netip.Addr) netip.Addr {
	if addr.IsValid() && !r.moving.Finishing {
		if old, ok := r.moving.Old(singleAddr(addr)); ok {
			return old.Addr()
		}
	}
	return addr
}

// allPrefixes are what is held, on both sides.
func (a *Allocation) allPrefixes() []netip.Prefix {
	if len(a.Beside) == 0 {
		return a.Prefixes
	}
	return slices.Concat(a.Prefixes, a.Beside)
}

// contains reports whether addr is in one of the prefixes, on either side.
func (a *Allocation) contains(addr netip.Addr) bool {
	has := func(p netip.Prefix) bool { return p.Contains(addr) }
	return slices.ContainsFunc(a.Prefixes, has) || slices.ContainsFunc(a.Beside, has)
}

// isMetBeside reports whether the new prefixes of h, which its owner holds too, are an answer to the claim.
func (v *view) isMetBeside(c *Claim, h *holding) bool {
	if len(h.Beside) == 0 {
		return false
	}
	prefixes := slices.Clone(h.Prefixes)
	for i, old := range prefixes {
		if p, ok := v.rules.moving.New(old); ok {
			prefixes[i] = p
		}
	}
	return v.isMet(c, prefixes)
}

// obstacle says what keeps a prefix that is taken from being renumbered by the rules of the state, which is to follow
// now; empty if nothing does.
func (s *state) obstacle(now *state, p netip.Prefix) string {
	n := s.rules.moving
	switch moved, ok := n.New(p); {
	case p.Overlaps(n.image()):
		return "it is where the pool is to move"
	case !p.Overlaps(n.From) || ok && s.space.Covers(p):
		return ""
	case !ok:
		return "it is larger than " + n.From.String()
	case !now.space.Covers(p):
		return "it is out of range"
	default:
		return moved.String() + " is not handed out: " + s.whyNotNew(moved)
	}
}

// whyNotNew says why the pool will not hand out a new prefix.
func (s *state) whyNotNew(moved netip.Prefix) string {
	family := FamilyOf(moved.Addr())
	spec, err := s.rules.Spec.Renumbered(s.rules.moving.From, s.rules.moving.To)
	if err != nil {
		return err.Error()
	}
	sets := spec.setsOf(family)
	return sets.whyNot(moved)
}

// RenumberPlan is what [Pool.Renumber] would do. It belongs to the caller. The zero RenumberPlan moves nothing.
type RenumberPlan struct {
	// Spec is what the pool's spec would be in the end.
	Spec Spec
	// Moves are all prefixes that would move or are in the way, in the order of their addresses.
	Moves []RenumberMove
}

// RenumberMove is what would become of one prefix that is held, cools down or is reserved. It is a value; it may be
// copied and compared.
type RenumberMove struct {
	// Owner is who holds it, or has held it last.
	Owner string
	// Old is the prefix, and New the one that would come beside it; zero if Old is in the way in the new prefix.
	Old, New netip.Prefix
	// Obstacle says what is in the way; empty if nothing is.
	Obstacle string
}

// OK reports whether nothing is in the way.
func (p RenumberPlan) OK() bool {
	return !slices.ContainsFunc(p.Moves, func(m RenumberMove) bool { return m.Obstacle != "" })
}

// PlanRenumber returns what [Pool.Renumber] would do, as of one moment, without changing anything: the old and the new
// address of each owner, and what is in the way. That two old ones become one cannot be.
//
// Errors: those of Renumber, except [ErrOutOfRange], instead of which the plan has obstacles. Cost: O(allocations), and
// one read; nothing is committed.
func (p *Pool) PlanRenumber(ctx context.Context, from, to netip.Prefix) (RenumberPlan, error) {
	var plan RenumberPlan
	err := exclusively(ctx, func(a *attempt) (err error) {
		plan, err = a.planRenumber(p, Renumbering{From: from, To: to})
		return err
	}, p)
	return plan, p.failed("plan to renumber", "", err)
}

func (a *attempt) planRenumber(p *Pool, n Renumbering) (plan RenumberPlan, err error) {
	d, err := a.present(p)
	if err != nil {
		return plan, err
	}
	start := a.mark()
	defer a.rollback(start)
	next, err := a.nextOf(d, n)
	if err != nil {
		return plan, err
	}
	if err := a.beginRenumber(d, n); err != nil && !errors.Is(err, ErrOutOfRange) {
		return plan, err
	}
	a.rollback(start)
	err = a.walk(p, func(Info) (err error) {
		plan = RenumberPlan{}
		plan.Spec, err = d.state().rules.Renumbered(n.From, n.To)
		return err
	}, func(h *holding) error {
		for _, old := range h.Prefixes {
			m := RenumberMove{Owner: h.Owner, Old: old, Obstacle: next.obstacle(d.state(), old)}
			if m.New, _ = n.New(old); m.New.IsValid() || m.Obstacle != "" {
				plan.Moves = append(plan.Moves, m)
			}
		}
		return nil
	})
	slices.SortFunc(plan.Moves, func(a, b RenumberMove) int {
		return cmp.Or(comparePrefixes(a.Old, b.Old), cmp.Compare(a.Owner, b.Owner))
	})
	return plan, err
}

// nextOf returns the state of the draft's pool, empty, when it begins to be renumbered.
func (a *attempt) nextOf(d *draft, n Renumbering) (*state, error) {
	now := d.state()
	if err := now.requireRenumberable(n); err != nil {
		return nil, err
	}
	both := rules{Spec: now.rules.Spec, moving: n}
	withheld := now.rules.withheld
	if name := now.rules.Network; name != "" {
		network, err := a.network(d.pool, name)
		if err != nil {
			return nil, err
		}
		withheld = network.externalIn(both.allRanges())
	}
	r, err := newRules(now.rules.Spec, withheld, n)
	if err != nil {
		return nil, err
	}
	return newState(r, parentage{}, d.pool.options.Random)
}

// requireRenumberable returns an error if the pool cannot begin to be renumbered, whatever it holds.
func (s *state) requireRenumberable(n Renumbering) error {
	switch _, err := s.rules.Renumbered(n.From, n.To); {
	case err != nil:
		return err
	case !s.parent.isZero():
		return invalid("the pool was delegated from %q; such a pool cannot be renumbered", s.parent.Pool)
	case s.space.Tally(space.Delegated) > 0:
		return errorf("%w: pools were delegated from it; such a pool cannot be renumbered", ErrInUse)
	case !s.rules.moving.isZero():
		return errorf("%w: it is being renumbered from %v to %v; finish that first",
			ErrInUse, s.rules.moving.From, s.rules.moving.To)
	}
	return nil
}

func (a *attempt) beginRenumber(d *draft, n Renumbering) error {
	now := d.state()
	if err := now.requireRenumberable(n); err != nil {
		return err
	}
	return a.changeTo(d, now.rules.Spec, n, false)
}

// Renumber moves the pool from one prefix to another of the same family and at least the same size (RFC 4192): because
// a provider's IPv6 prefix changes, or a site is renumbered. Every allocation keeps its offset. Renumber gives each
// owner of an address in from the one in to beside it, as [Allocation.Beside]; both are held, and [Pool.Get] finds the
// owner by either. [Pool.FinishRenumber] takes the old ones away, or [Pool.CancelRenumber] the new ones.
//
// Until then the two addresses are one for all that is done: a claim for the one in from gets both, a release or the
// end of a lease gives both back, and both cool down, are in quarantine, are reserved or shared. So owners that come
// meanwhile can be reached by either, as the others can. Claims ask for the old ones; an owner that holds something may
// also ask for it by the new ones. [Info.Spec] stays the old one, so programs that call [Ensure] may restart. Changes
// of the spec apply to both sides, and are refused with [ErrInvalid] if the new spec could not be renumbered so.
// Counts, quotas and exports are about the old ones: for them nothing has changed.
//
// Nothing is refused halfway: the first commit finds out whether all can move, or changes nothing. After it, nobody
// else can get an address that is to come. Owners have both in their records when Renumber returns; it writes these in
// several commits. If it fails in between, or the process dies, call it again. Meanwhile, all may use the pool: what
// changes something goes by what the owners have, and what only reads, such as [Pool.Get], by their records.
//
// Errors: [ErrInvalid] as for [Spec.Renumbered], also for a pool that was delegated from another one; [ErrOutOfRange]
// if something is in the way, with a list of these allocations ([Pool.PlanRenumber] says more): what is out of range,
// what would be excluded, reserved or a gateway in to, and what is held there; [ErrOverlap] in the network; [ErrInUse]
// if pools were delegated from this one, or if another renumbering is not finished; those of [Pool.Update]. While a
// pool is renumbered, [Delegate] is refused with ErrInUse.
//
// Cost: one commit and O(runs of free addresses), or O(allocations) as for Update; then one list, and one commit for
// every 4,096 owners of addresses in from. The names of these are in memory. In a pool with a history, it has one
// tenure more for each of these then, and another one after FinishRenumber. A pool that is not renumbered pays nothing.
func (p *Pool) Renumber(ctx context.Context, from, to netip.Prefix) error {
	n := Renumbering{From: from, To: to}
	err := exclusively(ctx, func(a *attempt) error {
		d, err := a.present(p)
		if err != nil || d.state().rules.moving == n {
			return err
		}
		return a.beginRenumber(d, n)
	}, p)
	if err == nil {
		err = p.settle(ctx)
	}
	return p.failed("renumber", "", err)
}

// FinishRenumber ends what [Pool.Renumber] began: the pool gives up the old prefix, and gets the spec that
// [Spec.Renumbered] returns. Owners then hold the new addresses only, with the same generation, lease and labels. What
// cools down or is reserved goes on in the new prefix. It does nothing if the pool is not being renumbered.
//
// The first commit changes what the pool hands out, and the others the records of the owners, so that for a time
// [Pool.Get] may still find an owner with both. The old addresses stay the pool's in its network until the last commit.
// If FinishRenumber fails in between, or the process dies, call it again. Meanwhile, all may use the pool.
//
// Errors: [ErrBusy]; [ErrNoPool]; those of the store. Cost: two commits and O(allocations), and one commit for every
// 4,096 owners of addresses in the old prefix. The names of these are in memory.
func (p *Pool) FinishRenumber(ctx context.Context) error {
	return p.failed("finish to renumber", "", p.endRenumber(ctx, func(now *rules) (spec Spec, n Renumbering, err error) {
		if n = now.moving; n.isZero() || n.Finishing {
			return now.Spec, n, nil
		}
		spec, err = now.Renumbered(n.From, n.To)
		n.Finishing = true
		return spec, n, err
	}))
}

// CancelRenumber takes back what [Pool.Renumber] began: the pool gives up the new prefix, and all owners keep the old
// addresses, those too that came meanwhile. It does nothing if the pool is not being renumbered. If it fails in
// between, or the process dies, call it or FinishRenumber again: both then go on with it.
//
// Errors and cost: as for FinishRenumber; [ErrInUse] if that has begun.
func (p *Pool) CancelRenumber(ctx context.Context) error {
	return p.failed("cancel to renumber", "", p.endRenumber(ctx, func(now *rules) (Spec, Renumbering, error) {
		n := now.moving
		switch {
		case n.Finishing && !n.Cancelled:
			return now.Spec, n, errorf("%w: it is giving up %v already; finish that", ErrInUse, n.From)
		case !n.isZero() && !n.Finishing:
			n = Renumbering{From: n.image(), To: n.From, Finishing: true, Cancelled: true}
		}
		return now.Spec, n, nil
	}))
}

// endRenumber has the pool give up one side of its renumbering. How returns the spec in the end, and the renumbering
// while that is so, which is the present one if it has begun.
func (p *Pool) endRenumber(ctx context.Context, how func(now *rules) (Spec, Renumbering, error)) error {
	var n Renumbering
	err := exclusively(ctx, func(a *attempt) error {
		d, err := a.present(p)
		if err != nil {
			return err
		}
		var spec Spec
		if spec, n, err = how(d.state().rules); err != nil || n == d.state().rules.moving {
			return err
		}
		return a.changeTo(d, spec, n, true)
	}, p)
	if err != nil || n.isZero() {
		return err
	}
	if err := p.settle(ctx); err != nil {
		return err
	}
	return exclusively(ctx, func(a *attempt) error {
		d, err := a.present(p)
		if err != nil || d.state().rules.moving != n {
			return err // another process has finished it
		}
		return a.changeTo(d, d.state().rules.Spec, Renumbering{}, true)
	}, p)
}

// settle writes the records of the pool that are not as its rules have them.
func (p *Pool) settle(ctx context.Context) error {
	var n Renumbering
	if err := p.look(ctx, func(s *state) error {
		n = s.rules.moving
		return nil
	}); err != nil {
		return err
	}
	var owners, shares []string
	for h, err := range p.home.records(ctx, false) {
		switch {
		case err != nil:
			return err
		case !n.isUnsettled(h):
		case h.shared:
			shares = append(shares, h.Owner)
		default:
			owners = append(owners, h.Owner)
		}
	}
	owners = append(owners, shares...) // by which the owners are found, so they come last
	for some := range slices.Chunk(owners, maxBatch) {
		tasks := make([]task, len(some))
		for i, owner := range some {
			tasks[i] = task{kind: taskSettle, owner: owner}
		}
		if err := p.settleAll(ctx, tasks); err != nil {
			return err
		}
	}
	return p.settleAside(ctx)
}

func (p *Pool) settleAll(ctx context.Context, tasks []task) error {
	results, err := p.doTasks(ctx, tasks)
	for i := range results {
		err = cmp.Or(err, results[i].Err)
	}
	return err
}

// settleAside settles what cools down beside what its owner holds, until all of it is.
func (p *Pool) settleAside(ctx context.Context) error {
	for {
		o := newOp(ctx, p, &task{kind: taskSettle, limit: maxBatch})
		err := o.run()
		s := &o.one.step[0]
		if err = cmp.Or(err, s.err); err != nil || len(s.outcome.writes) == 0 {
			return err
		}
	}
}

// isUnsettled reports whether the record of an owner is not as it is to be.
func (n Renumbering) isUnsettled(h *holding) bool {
	moves := len(n.allNew(h.Prefixes)) > 0
	if n.isZero() || n.Finishing {
		return moves || len(h.Beside) > 0
	}
	return moves && (h.live() || h.shared) && len(h.Beside) == 0
}

// settle writes what h holds as the rules have it, which h has been read by.
func (v *view) settle(t *task, h *holding, out *outcome) error {
	if t.owner != "" {
		if h != nil {
			v.put(out, h, h.copy())
		}
		return nil
	}
	if v.space.Tally(space.Aside) == 0 {
		return nil
	}
	for h, err := range v.around.aside() {
		if err != nil || len(out.writes) >= t.limit {
			return err
		}
		if !h.name.IsValid() || v.around.busy(h) != idle {
			continue
		}
		settled := h.copy()
		if settled.name = (netip.Prefix{}); settled.named() == h.named() {
			v.put(out, h, settled)
			continue
		}
		v.remove(out, h)
		v.put(out, nil, settled)
		out.writes[len(out.writes)-1].old = h // nothing was declined anew
	}
	return nil
}
