package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// Import creates a pool of that name in the store from the snapshot: with the same spec, and with the same addresses
// held and withheld by the same owners until the same times. It moves a pool from one store to another. Each allocation
// gets a new generation. If the spec names a network, the pool joins it, respects what is external there, and must not
// hold what another pool of the network has or holds. A delegated pool is imported under its own name, after its
// parent; clear [Info.Parent] to import it as an independent pool.
//
// Everything is checked before anything is written. A pool that is too large for one commit is written in several.
// Until the last of them the pool cannot be opened ([ErrUnfinished]). If Import does not get that far, import again, or
// [Delete] the pool.
//
// Errors: [ErrInvalid] if the snapshot breaks a rule: two owners that hold one address, an owner listed twice, a prefix
// with host bits, a parent that has not granted what is held; [ErrExists]; [ErrOrphaned]; [ErrOverlap] in the network;
// [ErrBusy]; those of the store. Cost: two lists that stop at the first record, and then one commit, or one for every
// 32,768 allocations, or for as many as the store takes. Memory: about 600 bytes an allocation beside the snapshot.
func Import(ctx context.Context, s store.Store, name string, snapshot Snapshot, options *Options) (*Pool, error) {
	p, err := newHandle(s, name, options)
	if err == nil {
		err = p.importAll(ctx, &snapshot)
	}
	if err != nil {
		return nil, wrapped(err, Error{Op: "import", Pool: name})
	}
	return p, nil
}

// mostImported is how many records a commit of an import has at most, so that neither this process nor a store holds a
// second copy of a large pool. A store that cannot take as many gets fewer.
const mostImported = 1 << 15

// importing is an import on its way.
type importing struct {
	*Snapshot
	pool *Pool
	held []*holding
	// at is the revision of the unfinished head while the records are written in several commits;
	// 0 if one commit writes all.
	at int64
}

func (p *Pool) importAll(ctx context.Context, s *Snapshot) error {
	if err := s.Spec.Validate(); err != nil {
		return err
	}
	if err := s.check(p.name); err != nil {
		return err
	}
	held, err := s.holdings()
	if err == nil {
		err = apart(held)
	}
	if err != nil {
		return err
	}
	in := &importing{Snapshot: s, pool: p, held: held}
	for range p.options.Attempts {
		err := ErrUnfinished
		if len(held) <= mostImported {
			err = in.inOne(ctx)
		}
		if errors.Is(err, store.ErrTooLarge) || errors.Is(err, ErrUnfinished) {
			err = in.inSeveral(ctx)
		}
		if !errors.Is(err, errInterfered) {
			return err
		}
	}
	return fmt.Errorf("%w: others were importing the pool too, each of %d times", ErrBusy, p.options.Attempts)
}

// errInterfered says that another process has changed a pool that is being imported in several commits.
var errInterfered = errors.New("another process has begun to import the pool, or has deleted it")

// inOne imports all in one commit.
func (in *importing) inOne(ctx context.Context) error {
	in.at = 0
	var created time.Time
	return exclusively(ctx, func(a *attempt) error {
		err := in.pool.home.refresh(a.ctx)
		switch {
		case err == nil && a.uncertain() && in.pool.isMade(in.Spec, created):
			return nil // an earlier attempt has taken effect
		case err == nil:
			return ErrExists
		case !errors.Is(err, ErrNoPool):
			return err
		}
		if err := a.requireNoRecords(in.pool); err != nil {
			return err
		}
		err = in.finish(a, in.held)
		created = a.draft(in.pool).created
		return err
	}, in.pool)
}

// inSeveral imports in as many commits as the store needs, and first clears what an unfinished import has left. Until
// the last commit the head says that the pool is not whole.
func (in *importing) inSeveral(ctx context.Context) error {
	home := in.pool.home.(*stored)
	if err := in.begin(ctx, home); err != nil {
		return err
	}
	if err := in.clear(ctx, home); err != nil {
		return err
	}
	if err := in.commitAll(ctx, home, len(in.held), func(i int) (w store.Write, err error) {
		w.Op = store.Put
		w.Record, err = in.held[i].record(home.name)
		return w, err
	}); err != nil {
		return err
	}
	return exclusively(ctx, func(a *attempt) error {
		done, err := in.resume(a, home)
		if err != nil || done {
			return err
		}
		return in.finish(a, nil)
	}, in.pool)
}

// deletions are what deletes all records of the pool but its head and what that names.
func (s *stored) deletions(ctx context.Context) ([]store.Write, error) {
	named := map[store.Key]bool{}
	if h, err := decodeHead(s.head); err == nil {
		for _, name := range h.records() {
			named[s.key(store.KindSpace, name)] = true
		}
	}
	var writes []store.Write
	for key, err := range s.keys(ctx, store.KindAllocation, store.KindCooling, store.KindSpace) {
		if err != nil {
			return nil, err
		}
		if named[key] {
			continue
		}
		writes = append(writes, store.Write{Op: store.Delete, Record: store.Record{Key: key}})
	}
	return writes, nil
}

// begin commits a head that says that the pool is not whole yet.
func (in *importing) begin(ctx context.Context, home *stored) error {
	err := exclusively(ctx, func(a *attempt) error {
		head, err := home.store.Get(a.ctx, home.head.Key)
		switch {
		case errors.Is(err, store.ErrNotFound):
			if err := home.requireNoRecords(a.ctx); err != nil {
				return err
			}
			head = store.Record{Key: home.head.Key}
		case err != nil:
			return err
		case head.State != stateImporting:
			return ErrExists
		default:
			if err := refuseNewerHead(head); err != nil {
				return err
			}
		}
		home.forget()
		home.head = head
		return in.plan(a, nil, stateImporting)
	}, in.pool)
	in.at = home.head.Revision
	return err
}

// clear deletes all records of the unfinished pool but its head.
func (in *importing) clear(ctx context.Context, home *stored) error {
	writes, err := home.deletions(ctx)
	if err != nil {
		return err
	}
	return in.commitAll(ctx, home, len(writes), func(i int) (store.Write, error) { return writes[i], nil })
}

// commitAll commits n writes under the unfinished head, in as many commits as the store needs.
func (in *importing) commitAll(
	ctx context.Context, home *stored, n int, write func(i int) (store.Write, error),
) error {
	for at, size := 0, mostImported; at < n; {
		writes := make([]store.Write, min(size, n-at))
		for i := range writes {
			var err error
			if writes[i], err = write(at + i); err != nil {
				return err
			}
		}
		err := exclusively(ctx, func(a *attempt) error {
			if done, err := in.resume(a, home); err != nil || done {
				return cmp.Or(err, errInterfered)
			}
			a.draft(in.pool).others = slices.Clip(writes)
			return nil
		}, in.pool)
		switch {
		case errors.Is(err, store.ErrTooLarge) && len(writes) > 1:
			size = len(writes) / 2
		case err != nil:
			return err
		default:
			in.at, at = home.head.Revision, at+len(writes)
		}
	}
	return nil
}

// resume makes sure that the unfinished head is still the one that this import has written. It reports whether the
// import is done already: an earlier attempt, of unknown outcome, has completed it.
func (in *importing) resume(a *attempt, home *stored) (done bool, err error) {
	head, err := home.store.Get(a.ctx, home.head.Key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, errInterfered
	case err != nil:
		return false, err
	case head.State != stateImporting && a.uncertain():
		return true, home.adopt(a.ctx, head)
	case head.Revision != in.at:
		return false, errInterfered
	}
	if home.known == nil || home.head.Revision != in.at {
		return false, home.adopt(a.ctx, head)
	}
	return false, nil
}

// finish plans that the pool is whole, with these records.
func (in *importing) finish(a *attempt, records []*holding) error {
	return in.plan(a, records, stateActive)
}

// plan plans the head of the pool, in the state that it is to have, with these records.
func (in *importing) plan(a *attempt, records []*holding, head string) error {
	withheld, err := in.withheld(a)
	if err != nil {
		return err
	}
	if err := in.pool.home.takesHistory(in.Spec); err != nil {
		return err
	}
	r, err := newRules(in.Spec, withheld, Renumbering{})
	if err == nil && in.Parent == "" {
		err = r.requireRoom()
	}
	if err != nil {
		return err
	}
	s, err := newState(r, in.parentage().clone(), in.pool.options.Random)
	if err != nil {
		return err
	}
	d := a.draft(in.pool)
	d.next, d.head, d.created = s, head, in.Created
	if d.created.IsZero() {
		d.created = a.now
	}
	for _, h := range records {
		d.writes = append(d.writes, write{op: store.Put, holding: h})
	}
	if head != stateActive {
		return nil
	}
	return in.fill(a, s)
}

// fill takes in the state what the snapshot says, and puts the pool into its network.
func (in *importing) fill(a *attempt, s *state) error {
	var all outside
	for _, h := range in.held {
		if twice := s.hold(h); len(twice) > 0 {
			return invalid("%v of the owner %q is held by another owner too", twice, h.Owner)
		}
		all.add(s.rules, h)
	}
	s.space.Keep()
	for _, addr := range in.Next {
		s.space.SetCursor(addr)
	}
	if in.Parent != "" || in.Spec.Network == "" {
		return nil
	}
	n, err := a.network(in.pool, in.Spec.Network)
	if err != nil {
		return err
	}
	return a.admit(in.pool, n, in.Spec.ranges(), all.of(in.Spec.ranges()))
}

// withheld is what the pool may not hand out: what is external in its network, or what its parent may not hand out.
func (in *importing) withheld(a *attempt) ([]netipx.IPRange, error) {
	switch {
	case in.Parent != "":
		return in.withheldByParent(a)
	case in.Spec.Network == "":
		return nil, nil
	}
	n, err := a.network(in.pool, in.Spec.Network)
	if err != nil {
		return nil, err
	}
	return n.externalIn(in.Spec.ranges()), nil
}

// withheldByParent returns an error unless the parent has granted what the pool has, and is in the same network. The
// attempt guards the parent against changes.
func (in *importing) withheldByParent(a *attempt) ([]netipx.IPRange, error) {
	from, err := a.open(in.pool, in.Parent)
	if errors.Is(err, ErrNoPool) {
		return nil, invalid("the parent %q of the pool %q does not exist", in.Parent, in.pool.name)
	}
	if err != nil {
		return nil, err
	}
	from.touch = true
	rules := from.state().rules
	if in.Spec.Network != rules.Network {
		return nil, invalid("the pool is to be in the network %q, its parent %q is in %q",
			in.Spec.Network, in.Parent, rules.Network)
	}
	for _, g := range in.Grants {
		h, _, err := from.pool.home.holding(a.ctx, g.Owner, true)
		if err != nil {
			return nil, err
		}
		if !h.live() || h.Child != in.pool.name || !slices.Equal(h.Prefixes, g.Prefixes) {
			return nil, invalid("the parent %q has not granted %v to %q for the pool %q",
				in.Parent, g.Prefixes, g.Owner, in.pool.name)
		}
	}
	granted := in.parentage().granted()
	for _, h := range in.held {
		if over := cidr.Difference(setOfPrefixes(h.Prefixes), granted); len(over.Ranges()) > 0 {
			return nil, invalid("%v of the owner %q is none that the parent %q has granted",
				cidr.FormatSet(over), h.Owner, in.Parent)
		}
	}
	return cidr.Difference(granted, rules.allowedSet()).Ranges(), nil
}

// deleteUnfinished deletes a pool of which the import has not come to its end.
func (p *Pool) deleteUnfinished(ctx context.Context) error {
	in, home := &importing{Snapshot: &Snapshot{}, pool: p}, p.home.(*stored)
	head, err := home.store.Get(ctx, home.head.Key)
	if err == nil {
		err = refuseNewerHead(head)
	}
	if err != nil {
		return err
	}
	home.head, in.at = head, head.Revision
	if err := in.clear(ctx, home); err != nil {
		return err
	}
	return exclusively(ctx, func(a *attempt) error {
		if _, err := in.resume(a, home); err != nil {
			return err
		}
		a.draft(p).gone = true
		return nil
	}, p)
}

// check finds what the head of a pool of that name must not have.
func (s *Snapshot) check(name string) error {
	if err := s.checkParent(name); err != nil {
		return err
	}
	if err := s.checkNext(); err != nil {
		return err
	}
	record := store.Record{Key: headKey(name), Created: s.Created}
	if err := record.Validate(); err != nil {
		return invalid("%v", err)
	}
	return nil
}

// checkNext checks the cursors.
func (s *Snapshot) checkNext() error {
	seen, has := map[Family]bool{}, s.Spec.AllFamilies()
	for _, addr := range s.Next {
		family := FamilyOf(addr)
		switch {
		case !addr.IsValid() || addr.Zone() != "" || addr.Is4In6():
			return invalid("the next address %v is not valid, want one without zone that is not IPv4-mapped", addr)
		case !slices.Contains(has, family):
			return invalid("the next address %v is of a family that the pool does not have", addr)
		case seen[family]:
			return invalid("the next address %v is the second one of its family, want one", addr)
		}
		seen[family] = true
	}
	return nil
}

// checkParent checks what can be told of the parent without looking at it.
func (s *Snapshot) checkParent(name string) error {
	if s.Parent == "" && len(s.Grants) == 0 {
		return nil
	}
	if err := validateName("parent's name", s.Parent); err != nil {
		return err
	}
	if s.Parent == name {
		return invalid("the pool %q is its own parent", name)
	}
	for i, g := range s.Grants {
		if err := validateOwner(g.Owner); err != nil {
			return err
		}
		if s.parentage().grantOf(g.Owner) != i {
			return invalid("the owner %q has two grants of the parent %q", g.Owner, s.Parent)
		}
	}
	if len(s.Grants) == 0 {
		return invalid("the parent %q has granted nothing, want at least one grant", s.Parent)
	}
	return s.parentage().admits(s.Spec)
}

// holdings are what the snapshot says, checked as far as that is possible without a pool.
func (s *Snapshot) holdings() ([]*holding, error) {
	held := make([]*holding, 0, len(s.Allocations)+len(s.Kept)+len(s.Cooling))
	owners, shares := map[string]bool{}, sharing{}
	// Of what one owner has released, the last is what it gets back; the rest is aside.
	cooling := slices.SortedStableFunc(slices.Values(s.Cooling), func(a, b Allocation) int {
		return cmp.Or(cmp.Compare(b.Generation, a.Generation), b.Expires.Compare(a.Expires))
	})
	for i, list := range [][]Allocation{s.Allocations, s.Kept, cooling} {
		for _, a := range list {
			h := &holding{Allocation: a.clone(), cooling: i > 0}
			h.Generation, h.Kept, h.Beside = 0, i == 1, nil
			h.stray = h.use() == space.Cooling && (owners[a.Owner] || a.Declined)
			if !h.stray && owners[a.Owner] {
				return nil, invalid("the owner %q has two allocations", a.Owner)
			}
			owners[a.Owner] = owners[a.Owner] || !h.stray
			if err := h.check(); err != nil {
				return nil, err
			}
			shares.add(h)
			held = append(held, h)
		}
	}
	for share := range shares.all() {
		held = append(held, share)
	}
	return held, shares.check()
}

// check finds what no record may hold.
func (h *holding) check() error {
	claim := Claim{Owner: h.Owner, Scope: h.Scope, Share: h.Share, Labels: h.Labels}
	if err := claim.checkOwnerAndRest(); err != nil {
		return err
	}
	if h.Child != "" {
		if err := validateName("name of the pool that was delegated out", h.Child); err != nil {
			return err
		}
		if h.cooling || !h.Expires.IsZero() {
			return invalid("the pool %q was delegated from a lease of %q, want a permanent allocation", h.Child, h.Owner)
		}
	}
	if h.Share != "" && (h.cooling || h.Reserved || h.Child != "") {
		return invalid("what %q has is shared by the key %q, and cools down, is reserved or delegated", h.Owner, h.Share)
	}
	if h.Declined && !h.cooling {
		return invalid("what %q holds is marked as declined, want that only for what cools down", h.Owner)
	}
	if len(h.Prefixes) == 0 {
		return invalid("the owner %q has an allocation without prefixes", h.Owner)
	}
	if h.use() == space.Cooling && (h.Expires.IsZero() || h.Reserved) {
		return invalid("what %q has released cools down for ever, want a time, or a reservation", h.Owner)
	}
	if h.Kept && !h.Reserved || h.Declined && h.Expires.IsZero() {
		return invalid("what is kept for %q is not reserved, or declined for ever", h.Owner)
	}
	for _, prefix := range h.Prefixes {
		r := Request{Exact: prefix}
		if !prefix.IsValid() {
			return invalid("a prefix of the owner %q is not valid", h.Owner)
		}
		if err := r.check(); err != nil {
			return err
		}
	}
	record, err := h.record("pool")
	if err != nil {
		return err
	}
	if err := record.Validate(); err != nil {
		return invalid("what the owner %q has: %v", h.Owner, err)
	}
	return nil
}

// apart refuses prefixes that overlap.
func apart(held []*holding) error {
	var all []netip.Prefix
	for _, h := range held {
		if h.shares() {
			continue // the share has them
		}
		all = append(all, h.Prefixes...)
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits()) })
	for i := 1; i < len(all); i++ {
		if all[i-1].Overlaps(all[i]) { // the larger ones come first, and prefixes overlap only if one contains the other
			return invalid("%v and %v are both held, and overlap", all[i-1], all[i])
		}
	}
	return nil
}
