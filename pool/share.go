package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// What several owners hold together has a record of its own, the share. It has the prefixes, which no other record has,
// so the store's guard against overlaps holds for it as for any other, and it lists its owners, the sharers. Each of
// these has an ordinary record without prefixes, with its own lease and labels, that names the share; what they hold
// stands in its data. A share begins with its first owner and ends with the last: from then on that holds the prefixes
// alone, and gives them back as any other owner does.
//
// MetalLB and Cilium let services of one key have several addresses, as ports or requests have it. Here a key has one
// grant, so that who names it knows what it gets. As in Cilium, whose services of other namespaces share only if they
// say so, a key is of one scope.
//
// One commit writes the record of an owner that comes or goes and that of the share. Both are of the pool, so that the
// head guards them.

// MaxSharers is the largest number of owners that share what they hold.
const MaxSharers = 256

// shareMark begins the names of shares, and of no owner.
const shareMark = `share "`

// shareName is the name of the record of a share.
func shareName(scope, key string) string { return fmt.Sprintf("share %q %q", scope, key) }

// validateShare checks the share key of a claim.
func (c *Claim) validateShare() error {
	if c.Share == "" {
		return nil
	}
	if err := validateName("share key", c.Share); err != nil {
		return err
	}
	if n := len(shareName(c.Scope, c.Share)); n > store.MaxNameBytes {
		return invalid("the share key %.20q… and its scope are %d bytes long in quotes, the most is %d",
			c.Share, n, store.MaxNameBytes)
	}
	return nil
}

// notShared returns an error if the claim names a share key, which is not for such a claim.
func (c *Claim) notShared(what string) error {
	if c.Share == "" {
		return nil
	}
	return invalid("%s is for one owner; the claim of %q has the share key %q", what, c.Owner, c.Share)
}

// shares reports whether the owner holds h by a share key.
func (h *holding) shares() bool { return h.live() && h.Share != "" }

// shareOf returns the share that h names; nil if there is none.
func (v *view) shareOf(h *holding, out *outcome) (*holding, error) {
	name := shareName(h.Scope, h.Share)
	for _, w := range slices.Backward(out.writes) {
		if !w.holding.shared || w.holding.Owner != name {
			continue
		}
		if w.op == store.Delete {
			return nil, nil //nolint:nilnil // there is none
		}
		return w.holding, nil
	}
	share, err := v.around.named(name)
	if err == nil && share != nil && !share.shared {
		err = fmt.Errorf("%w: the record %q is that of an owner", ErrCorrupt, name)
	}
	return share, err
}

// found plans that the owner of h, which holds its prefixes alone, shares them from now on, if it named a share key.
func (v *view) found(h *holding, out *outcome) {
	if h.Share == "" {
		return
	}
	v.put(out, nil, newShare(h))
}

// newShare returns what the owner of h shares, with that owner only.
func newShare(h *holding) *holding {
	return &holding{
		Allocation: Allocation{
			Owner: shareName(h.Scope, h.Share), Prefixes: slices.Clone(h.Prefixes), Created: h.Created, Scope: h.Scope,
			Share: h.Share,
		},
		shared: true, sharers: []string{h.Owner},
	}
}

// leave plans that the owner of h does not share any more. It reports whether it was the last, and holds the prefixes
// alone now.
func (v *view) leave(h *holding, out *outcome) (last bool, err error) {
	share, err := v.shareOf(h, out)
	switch {
	case err != nil:
		return false, err
	case share == nil || !slices.Contains(share.sharers, h.Owner):
		return false, errorf("%w: the record of the share key %q does not list %q", ErrCorrupt, h.Share, h.Owner)
	case len(share.sharers) == 1:
		v.remove(out, share)
		return true, nil
	}
	rest := share.copy()
	rest.sharers = slices.DeleteFunc(slices.Clone(share.sharers), func(owner string) bool { return owner == h.Owner })
	v.put(out, share, rest)
	return false, nil
}

// giveBack frees what h holds or has held, unless others share it.
func (v *view) giveBack(h *holding, out *outcome) error {
	if h.shares() {
		if last, err := v.leave(h, out); err != nil || !last {
			return err
		}
	}
	return v.free(h)
}

// share plans what an owner gets that names the key of a share which has other owners, or that goes on with its own. It
// reports false if the claim is one like any other. h is what the owner has, and back whether it may have that again.
func (v *view) share(t *task, h, granted *holding, back bool, out *outcome) (done bool, err error) {
	if h.shares() && back && h.Share == t.claim.Share {
		return true, v.give(t, h, granted.with(h), out)
	}
	if t.claim.Share == "" {
		return false, nil
	}
	share, err := v.shareOf(granted, out)
	if err != nil || share == nil || slices.Equal(share.sharers, []string{t.owner}) {
		return false, err
	}
	if h != nil {
		if err := v.vacate(h, out); err != nil {
			return false, err
		}
	}
	return true, v.join(t, h, granted, out)
}

// join plans that the owner holds what others share.
func (v *view) join(t *task, h, granted *holding, out *outcome) error {
	if err := v.makeRoom(granted, out); err != nil {
		return err
	}
	share, err := v.shareOf(granted, out)
	if err != nil {
		return err
	}
	if _, err := t.claim.resolve(v.rules, t.claim.Policy, nil); err != nil {
		return err
	}
	switch {
	case !v.isMet(t.claim, share.Prefixes):
		return errorf("%w: the key %q has %v, and the claim asks for something else", ErrShared, share.Share, share.Prefixes)
	case !v.covers(share.Prefixes):
		return errorf("%w: the key %q has %v, which is out of range", ErrNotInPool, share.Share, share.Prefixes)
	case len(share.sharers) >= MaxSharers:
		return errorf("%w: the key %q has %d owners, the most is that", ErrShared, share.Share, MaxSharers)
	}
	granted.Prefixes = slices.Clone(share.Prefixes)
	more := share.copy()
	more.sharers = append(slices.Clone(share.sharers), t.owner)
	v.put(out, share, more)
	return v.give(t, h, granted, out)
}

// makeRoom ends the first lease whose time is over of those that share what granted is to share, if no other owner can.
func (v *view) makeRoom(granted *holding, out *outcome) error {
	share, err := v.shareOf(granted, out)
	if err != nil || len(share.sharers) < MaxSharers {
		return err
	}
	for h, err := range v.around.ending() {
		switch {
		case err != nil:
			return err
		case !h.due(v.around.now()):
			return nil
		case !h.shares() || h.Share != granted.Share || h.Scope != granted.Scope || !slices.Contains(share.sharers, h.Owner):
			continue
		}
		if freed, err := v.endFor(h, out); freed || err != nil {
			return err
		}
	}
	return nil
}

// named implements [surroundings].
func (r *around) named(name string) (*holding, error) {
	if h, ok := r.draft.planned(name); ok {
		return h, nil
	}
	home := r.draft.pool.home
	h, looked, err := home.holding(r.attempt.ctx, name, false)
	if h == nil && err == nil && !looked {
		h, _, err = home.holding(r.attempt.ctx, name, true)
	}
	return r.draft.state().rules.current(h), err
}

// sharing returns the first pool of a part that has what the share key of the claim names; none if there is none.
func (a *attempt) sharing(part *part) ([]*Pool, error) {
	c := part.steps[0].claim
	if c == nil || c.Share == "" {
		return nil, nil
	}
	for i, p := range part.pools {
		r := around{attempt: a, draft: a.draft(p)}
		if share, err := r.named(shareName(c.Scope, c.Share)); share != nil || err != nil {
			return part.pools[i : i+1], err
		}
	}
	return nil, nil
}

// merged are the writes, in which each record comes once: those of shares may come several times.
func (d *draft) merged() []write {
	if !slices.ContainsFunc(d.writes, func(w write) bool { return w.holding.shared }) {
		return d.writes
	}
	copied := draft{writes: slices.Clone(d.writes)}
	copied.merge(0)
	return copied.writes
}

// holder returns what is held at the address, if one owner holds it.
func (p *Pool) holder(ctx context.Context, addr netip.Addr) (*holding, error) {
	for range p.options.Attempts {
		h, err := p.home.find(ctx, addr)
		if err != nil || !h.shared {
			return h, err
		}
		if len(h.sharers) != 1 {
			return nil, errorf("%w: the key %q has %d owners; name one of them", ErrShared, h.Share, len(h.sharers))
		}
		share := h.Owner
		h, err = p.home.get(ctx, h.sharers[0])
		if err == nil && h.shares() && shareName(h.Scope, h.Share) == share {
			return h, nil
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		} // else it has left meanwhile
	}
	return nil, ErrBusy
}

// holderNow is holder, which has failed, by records as they are to be while the pool is being renumbered: those that do
// not say so yet are found by the address on the other side.
func (p *Pool) holderNow(ctx context.Context, addr netip.Addr, failed error) (*holding, error) {
	info, err := p.home.info(ctx)
	if err != nil {
		return nil, err
	}
	n := info.Renumbering
	switch twin := n.twin(addr); {
	case !twin.IsValid():
		return nil, failed
	case n.Finishing && n.From.Contains(addr):
		return nil, ErrNotFound
	case errors.Is(failed, ErrShared):
		return nil, failed
	default:
		return p.holder(ctx, twin)
	}
}

// Holders returns who holds an address: one allocation, or those of all owners that share it, in the order in which
// they came to share it. An owner that comes or goes meanwhile may or may not be included. A zone is ignored.
//
// Errors: [ErrNotFound] if nobody holds it; those of the store. Cost: that of [Pool.Get] by address and, if the address
// is shared, one read for each owner. It may be called concurrently.
func (p *Pool) Holders(ctx context.Context, addr netip.Addr) ([]Allocation, error) {
	all, err := p.holders(ctx, addr)
	return all, p.failedFor("holders", Held{Addr: addr}, err)
}

func (p *Pool) holders(ctx context.Context, addr netip.Addr) (all []Allocation, err error) {
	for h, err := range holdersAt(ctx, p.home, addr) {
		if err != nil {
			return nil, err
		}
		all = append(all, h.Allocation.clone())
	}
	if len(all) == 0 {
		return nil, ErrNotFound
	}
	return all, nil
}

// holdersAt iterates over what owners hold that includes the address: one, or all that share it.
func holdersAt(ctx context.Context, in home, addr netip.Addr) iter.Seq2[*holding, error] {
	return func(yield func(*holding, error) bool) {
		addr := addr.WithZone("")
		h, err := in.find(ctx, addr)
		if err != nil || !h.shared {
			if !errors.Is(err, ErrNotFound) && (err != nil || h.live()) {
				yield(h, err)
			}
			return
		}
		for _, owner := range h.sharers {
			h, err := in.get(ctx, owner)
			if errors.Is(err, ErrNotFound) || err == nil && !(h.live() && h.contains(addr)) {
				continue // it has left meanwhile
			}
			if !yield(h, err) || err != nil {
				return
			}
		}
	}
}

// sharing are the shares of a pool as the records of the sharers have them, whatever its own records of shares say.
type sharing struct {
	sharers map[string][]*holding // by the name of the share
	listed  map[string]*holding   // the records of shares
}

// add takes in a record, and reports whether it is about a share.
func (s *sharing) add(h *holding) bool {
	if s.sharers == nil {
		s.sharers, s.listed = map[string][]*holding{}, map[string]*holding{}
	}
	switch {
	case h.shared:
		s.listed[h.Owner] = h
	case h.shares():
		name := shareName(h.Scope, h.Share)
		s.sharers[name] = append(s.sharers[name], h)
	}
	return h.shared || h.shares()
}

// share returns what the record of that name should be, and the sharers that hold something else.
func (s *sharing) share(name string) (share *holding, odd []*holding) {
	byTime := func(a, b *holding) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Owner, b.Owner)) }
	sharers := slices.SortedFunc(slices.Values(s.sharers[name]), byTime)
	share = newShare(sharers[0])
	for _, h := range sharers[1:] {
		share.sharers = append(share.sharers, h.Owner)
		if !slices.Equal(h.Prefixes, share.Prefixes) {
			odd = append(odd, h)
		}
	}
	return share, odd
}

// all iterates over what the records of shares should be, in the order of their names, with the sharers that hold
// something else.
func (s *sharing) all() iter.Seq2[*holding, []*holding] {
	return func(yield func(*holding, []*holding) bool) {
		for _, name := range slices.Sorted(maps.Keys(s.sharers)) {
			if !yield(s.share(name)) {
				return
			}
		}
	}
}

// repairs are the writes that make the records of shares what they should be, and what is wrong with these.
func (s *sharing) repairs() (writes []write, wrong []string) {
	for share, odd := range s.all() {
		listed := s.listed[share.Owner]
		if !share.isAs(listed) {
			writes = append(writes, write{op: store.Put, holding: share, old: listed})
			wrong = append(wrong, fmt.Sprintf("%s: its record does not have the owners %q", share.Owner, brief(share.sharers)))
		}
		for _, h := range odd {
			wrong = append(wrong, fmt.Sprintf("%s: %q holds %v of it, want %v",
				share.Owner, brief(h.Owner), brief(h.Prefixes), brief(share.Prefixes)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.listed)) {
		if s.sharers[name] == nil {
			writes = append(writes, write{op: store.Delete, holding: s.listed[name], old: s.listed[name]})
			wrong = append(wrong, name+": its record has owners that do not share it")
		}
	}
	return writes, wrong
}

// isAs reports whether both records of a share say the same, but for the order of the owners.
func (h *holding) isAs(other *holding) bool {
	return other != nil && h.Scope == other.Scope && h.Share == other.Share && slices.Equal(h.Prefixes, other.Prefixes) &&
		slices.Equal(slices.Sorted(slices.Values(h.sharers)), slices.Sorted(slices.Values(other.sharers)))
}

// hold takes in a state what is shared. It returns the prefixes of which something was taken already.
func (s *sharing) hold(in *state) (twice []Allocation) {
	for share, odd := range s.all() {
		for _, prefix := range in.hold(share) {
			twice = append(twice, share.only(prefix))
		}
		for _, h := range odd {
			for _, prefix := range h.Prefixes {
				in.space.Hold(prefix, space.Held)
			}
		}
	}
	return twice
}

// check returns an error unless all sharers of each share hold the same, and are not too many.
func (s *sharing) check() error {
	for share, odd := range s.all() {
		switch {
		case len(odd) > 0:
			return invalid("%q shares %v by the key %q, others share %v",
				odd[0].Owner, odd[0].Prefixes, share.Share, share.Prefixes)
		case len(share.sharers) > MaxSharers:
			return invalid("%d owners share by the key %q, the most is %d", len(share.sharers), share.Share, MaxSharers)
		}
	}
	return nil
}

// isShareName reports whether the name is that of a share, and of no owner.
func isShareName(name string) bool { return strings.HasPrefix(name, shareMark) }
