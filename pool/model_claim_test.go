package pool_test

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
)

// sight is what was seen of a call where a pool has a choice.
type sight struct {
	prefixes []netip.Prefix     // what was granted
	left     func(*record) bool // whether a record is still there after it; nil if it does not matter
}

func familyOf(r pool.Request) pool.Family {
	switch {
	case r.Family != 0:
		return r.Family
	case r.Exact.IsValid():
		return pool.FamilyOf(r.Exact.Addr())
	case r.Within != nil:
		return pool.FamilyOf(r.Within.Ranges()[0].From())
	}
	return 0
}

// wants lists what a claim asks for under a policy: each with its family and length.
func (m *model) wants(c pool.Claim, policy pool.FamilyPolicy) ([]pool.Request, error) {
	for i, r := range c.Requests {
		twice := slices.ContainsFunc(c.Requests[:i], func(other pool.Request) bool { return other.Exact == r.Exact })
		if r.Exact.IsValid() && twice {
			return nil, pool.ErrInvalid
		}
	}
	families := m.families()
	if policy == pool.RequireDualStack && len(families) < 2 {
		return nil, pool.ErrFamily
	}
	if policy == pool.SingleStack {
		families = families[:1]
	}
	requests := c.Requests
	if len(requests) == 0 {
		requests = []pool.Request{{}}
	}
	var wants []pool.Request
	for _, r := range requests {
		each := families
		if f := familyOf(r); f != 0 {
			each = []pool.Family{f}
		}
		for _, f := range each {
			want := r
			want.Family = f
			wants = append(wants, want)
		}
	}
	for _, f := range families {
		named := slices.ContainsFunc(wants, func(r pool.Request) bool { return r.Family == f })
		if policy != pool.SingleStack && !named {
			wants = append(wants, pool.Request{Family: f})
		}
	}
	for i, w := range wants {
		switch {
		case !slices.Contains(m.families(), w.Family):
			return nil, pool.ErrFamily
		case w.Band != "" && m.band(w.Band) == nil:
			return nil, pool.ErrInvalid
		case w.Exact.IsValid():
			wants[i].Bits = w.Exact.Bits()
		case w.Bits == 0:
			wants[i].Bits = m.bits(w.Family)
		}
	}
	return wants, nil
}

// meets tells whether what is held is what the claim asks for. If the pool does not have a family of it any more, it goes by those that
// are held.
func (m *model) meets(c pool.Claim, held []netip.Prefix) bool {
	if m.meetsNow(c, held) {
		return true
	}
	earlier, gone := *m, false
	for _, p := range held {
		f := pool.FamilyOf(p.Addr())
		gone = gone || !slices.Contains(m.families(), f)
		if !slices.Contains(earlier.had, f) {
			earlier.had = append(slices.Clone(earlier.had), f)
		}
	}
	return gone && earlier.meetsNow(c, held)
}

func (m *model) meetsNow(c pool.Claim, held []netip.Prefix) bool {
	policies := []pool.FamilyPolicy{c.Policy}
	if c.Policy == pool.PreferDualStack {
		policies = append(policies, pool.SingleStack)
	}
	for _, policy := range policies {
		wants, err := m.wants(c, policy)
		met := err == nil && len(wants) == len(held)
		for i := 0; met && i < len(wants); i++ {
			w, p := wants[i], held[i]
			met = pool.FamilyOf(p.Addr()) == w.Family && p.Bits() == w.Bits &&
				(!w.Exact.IsValid() || w.Exact == p) && (w.Within == nil || w.Within.ContainsPrefix(p))
		}
		if met {
			return true
		}
	}
	return false
}

// allocate is what Allocate does: what the owner has then, of generation 0 if it is granted now. With a child it is for Carve.
func (m *model) allocate(c pool.Claim, child string, seen sight) (*model, *record, error) {
	after, r := m.clone(), m.find(c.Owner)
	live := r != nil && !r.cooling
	if m.spec.Scope != "" && c.Scope != m.spec.Scope || live && c.Scope != r.Scope {
		return nil, nil, pool.ErrScope
	}
	if live && !r.Expired(m.world.now) {
		return m.again(c, child, r)
	}
	granted := &record{Allocation: pool.Allocation{Owner: c.Owner, Created: m.world.now, Scope: c.Scope, Labels: maps.Clone(c.Labels), Child: child}}
	if c.TTL != 0 {
		granted.Expires = m.world.now.Add(c.TTL)
	}
	switch {
	case r == nil:
	case m.meets(c, r.Prefixes) && m.inPool(r.addrs()): // nobody has had it since
		granted.Prefixes = r.Prefixes
		return after, after.add(granted, r), nil
	case r.Expired(m.world.now):
		after.remove(r)
	default:
		aside := *r
		aside.aside = true
		after.add(&aside, r)
	}
	var err error
	before := after.clone()
	if granted.Prefixes, err = after.grant(c, seen); err == nil {
		return after, after.add(granted, nil), nil
	}
	if old := before.ownAside(c, seen); old != nil && (errors.Is(err, pool.ErrExhausted) || errors.Is(err, pool.ErrTaken)) {
		granted.Prefixes = old.Prefixes
		return before, before.add(granted, old), nil
	}
	return nil, nil, err
}

// ownAside is what the claim asks for of what its owner released and has put aside since; of several, the one that was seen.
func (m *model) ownAside(c pool.Claim, seen sight) (found *record) {
	for _, r := range m.records {
		if r.aside && r.Owner == c.Owner && m.meets(c, r.Prefixes) && m.inPool(r.addrs()) {
			if found == nil || slices.Equal(seen.prefixes, r.Prefixes) {
				found = r
			}
		}
	}
	return found
}

// again is for an owner that holds r.
func (m *model) again(c pool.Claim, child string, r *record) (*model, *record, error) {
	if !m.meets(c, r.Prefixes) {
		if _, err := m.wants(c, c.Policy); err != nil {
			return nil, nil, err
		}
		return nil, nil, pool.ErrHeld
	}
	kept := *r
	kept.missing = time.Time{} // who asks is there
	if c.TTL == 0 {
		kept.Expires = time.Time{}
	}
	if child != "" && r.Child != "" && r.Child != child {
		return nil, nil, pool.ErrHeld
	}
	kept.Child = cmp.Or(child, r.Child)
	after := m.clone()
	return after, after.add(&kept, r), nil
}

// grant takes what the claim asks for, if need be from those whose time is over: the earliest first, until it is enough.
func (m *model) grant(c pool.Claim, seen sight) ([]netip.Prefix, error) {
	wants, err := m.wants(c, c.Policy)
	if err != nil {
		return nil, err
	}
	got, err := m.take(wants, seen)
	var last *record
	for _, old := range m.ended(seen) {
		full := errors.Is(err, pool.ErrExhausted) || errors.Is(err, pool.ErrTaken)
		// Of those that ended at once, any may have been the last that was needed.
		together := last != nil && old.Expires.Equal(last.Expires) && seen.left != nil && !seen.left(old)
		if useful(wants, old) && (full || together) {
			m.remove(old)
			last = old
			got, err = m.take(wants, seen)
		}
	}
	return got, err
}

// ended are the records whose time is over, the earliest first. Of those that ended at once, the ones that were seen to go come first.
func (m *model) ended(seen sight) []*record {
	var ended []*record
	for _, r := range m.records {
		if r.Expired(m.world.now) && r.Child == "" {
			ended = append(ended, r)
		}
	}
	slices.SortStableFunc(ended, func(a, b *record) int {
		if byTime := a.Expires.Compare(b.Expires); byTime != 0 || seen.left == nil || seen.left(a) == seen.left(b) {
			return byTime
		}
		if seen.left(b) {
			return -1
		}
		return 1
	})
	return ended
}

// useful tells whether some request could use what the record leaves, as far as it says where.
func useful(wants []pool.Request, r *record) bool {
	for _, w := range wants {
		for _, a := range r.addrs() {
			if pool.FamilyOf(a) == w.Family && (!w.Exact.IsValid() || w.Exact.Contains(a)) && (w.Within == nil || w.Within.Contains(a)) {
				return true
			}
		}
	}
	return false
}

// take finds a free prefix for each of the wants: first exact ones, then those within a set or a band, then the rest; of each the larger ones
// first.
func (m *model) take(wants []pool.Request, seen sight) ([]netip.Prefix, error) {
	order := make([]int, len(wants))
	for i := range wants {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		return cmp.Or(cmp.Compare(choice(wants[i]), choice(wants[j])), cmp.Compare(length(wants[i]), length(wants[j])))
	})
	taken, cursor, got := m.taken(), map[pool.Family]netip.Addr{}, make([]netip.Prefix, len(wants))
	for _, f := range []pool.Family{pool.IPv4, pool.IPv6} {
		cursor[f] = m.cursor[f]
	}
	for _, i := range order {
		w := wants[i]
		var free []netip.Prefix
		if w.Exact.IsValid() {
			if !m.inPool(addrsOf(w.Exact)) {
				return nil, pool.ErrNotInPool
			}
			if free = m.free(w, taken, everywhere); len(free) == 0 {
				return nil, pool.ErrTaken
			}
		}
		for _, tier := range m.tiers(w) {
			if len(free) == 0 {
				free = m.free(w, taken, tier)
			}
		}
		if len(free) == 0 {
			return nil, pool.ErrExhausted
		}
		got[i] = free[0]
		switch {
		case w.Exact.IsValid():
		case m.spec.Strategy == pool.RandomFree && i < len(seen.prefixes) && slices.Contains(free, seen.prefixes[i]):
			got[i] = seen.prefixes[i]
		case m.spec.Strategy == pool.NextFree:
			if next := slices.IndexFunc(free, func(p netip.Prefix) bool { return !p.Addr().Less(cursor[w.Family]) }); next > 0 {
				got[i] = free[next]
			}
			cursor[w.Family] = netipx.PrefixLastIP(got[i]).Next()
		}
		for _, a := range addrsOf(got[i]) {
			taken[a] = &record{}
		}
	}
	m.cursor = cursor
	return got, nil
}

func choice(w pool.Request) int {
	switch {
	case w.Exact.IsValid():
		return 0
	case w.Within != nil || w.Band != "":
		return 1
	}
	return 2
}

func length(w pool.Request) int {
	if w.Exact.IsValid() {
		return 0 // these stay in the order of the claim
	}
	return w.Bits
}

func everywhere(netip.Addr) bool { return true }

// tiers are the parts of the pool that a request tries, one after the other.
func (m *model) tiers(w pool.Request) []func(netip.Addr) bool {
	var bands, exclusive []netipx.IPRange
	for _, b := range m.spec.Bands {
		bands = append(bands, b.Ranges...)
		if b.Exclusive {
			exclusive = append(exclusive, b.Ranges...)
		}
	}
	return []func(netip.Addr) bool{
		func(a netip.Addr) bool { return w.Band != "" && inAny(m.band(w.Band).Ranges, a) },
		func(a netip.Addr) bool { return !inAny(bands, a) },
		func(a netip.Addr) bool { return !inAny(exclusive, a) },
	}
}

func (m *model) band(name string) *pool.Band {
	for _, b := range m.spec.Bands {
		if b.Name == name {
			return &b
		}
	}
	return nil
}

// free lists the prefixes that would do for a want in a part of the pool, the lowest first.
func (m *model) free(w pool.Request, taken map[netip.Addr]*record, tier func(netip.Addr) bool) []netip.Prefix {
	if w.Exact.IsValid() && m.isFree(w.Exact, taken, tier) {
		return []netip.Prefix{w.Exact}
	}
	if w.Exact.IsValid() || w.Bits < m.universe[w.Family].Bits() {
		return nil
	}
	var free []netip.Prefix
	for _, a := range addrsOf(m.universe[w.Family]) {
		p := netip.PrefixFrom(a, w.Bits)
		if p == p.Masked() && (w.Within == nil || w.Within.ContainsPrefix(p)) && m.isFree(p, taken, tier) {
			free = append(free, p)
		}
	}
	return free
}

func (m *model) isFree(p netip.Prefix, taken map[netip.Addr]*record, tier func(netip.Addr) bool) bool {
	return !slices.ContainsFunc(addrsOf(p), func(a netip.Addr) bool { return !m.allowed[a] || taken[a] != nil || !tier(a) })
}

// isFull tells whether another pool may grant what one refused with this error.
func isFull(err error) bool {
	return slices.ContainsFunc([]error{pool.ErrExhausted, pool.ErrTaken, pool.ErrNotInPool, pool.ErrFamily},
		func(full error) bool { return errors.Is(err, full) })
}

// together is what AllocateTogether does in pools by their names: the models after it, and for each part which pool answers with what.
func (w *world) together(claims []pool.Claim, pools [][]string, seen []sight) (after map[string]*model, chosen []string, got []*record, no refusals) {
	after, chosen, got = map[string]*model{}, make([]string, len(claims)), make([]*record, len(claims))
	for i, c := range claims {
		candidates := pools[i]
		holds := func(name string) bool { r := w.pools[name].live(c.Owner); return r != nil && !r.Expired(w.now) }
		if first := slices.IndexFunc(pools[i], holds); first >= 0 {
			candidates = candidates[first : first+1]
		}
		var refusal error
		for _, chosen[i] = range candidates {
			after[chosen[i]], got[i], refusal = w.pools[chosen[i]].allocate(c, "", seen[i])
			if refusal == nil || !isFull(refusal) {
				break
			}
		}
		if refusal != nil {
			no = append(no, refusal)
		}
	}
	return after, chosen, got, no
}
