package world

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/pool"
)

// Sight is what was seen of a call where a pool has a choice.
type Sight struct {
	Prefixes []netip.Prefix     // what was granted
	Left     func(*Record) bool // whether a record is still there after it; nil if it does not matter
}

func familyOf(r pool.Request) pool.Family {
	switch {
	case r.Family != 0:
		return r.Family
	case r.Exact.IsValid():
		return pool.FamilyOf(r.Exact.Addr())
	case r.Within != nil:
		return pool.FamilyOf(r.Within.Ranges()[0].From())
	case r.Prefer.IsValid():
		return pool.FamilyOf(r.Prefer)
	}
	return 0
}

// asksTwice reports whether two requests ask for one exact prefix. Such a claim is refused before anything is looked
// at.
func asksTwice(c pool.Claim) bool {
	for i, r := range c.Requests {
		twice := slices.ContainsFunc(c.Requests[:i], func(other pool.Request) bool { return other.Exact == r.Exact })
		if r.Exact.IsValid() && twice {
			return true
		}
	}
	return false
}

// wants lists what a claim asks for under a policy: each with its family and length.
func (m *Pool) wants(c pool.Claim, policy pool.FamilyPolicy) ([]pool.Request, error) {
	families := m.Families()
	if policy == pool.RequireDualStack && len(families) < 2 {
		return nil, pool.ErrFamily
	}
	single := policy == "" || policy == pool.SingleStack
	if single {
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
		if !single && !named {
			wants = append(wants, pool.Request{Family: f})
		}
	}
	for i, w := range wants {
		switch {
		case !slices.Contains(m.Families(), w.Family):
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

// meets reports whether what is held is what the claim asks for. If the pool does not have a family of it any more, it
// goes by those that are held.
func (m *Pool) meets(c pool.Claim, held []netip.Prefix) bool {
	if m.meetsNow(c, held) {
		return true
	}
	earlier, gone := *m, false
	for _, p := range held {
		f := pool.FamilyOf(p.Addr())
		gone = gone || !slices.Contains(m.Families(), f)
		if !slices.Contains(earlier.had, f) {
			earlier.had = append(slices.Clone(earlier.had), f)
		}
	}
	return gone && earlier.meetsNow(c, held)
}

func (m *Pool) meetsNow(c pool.Claim, held []netip.Prefix) bool {
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

// Allocate is what [pool.Pool.Allocate] does: the world after it, and what the owner has then, of generation 0 if it is
// granted now.
func (w *World) Allocate(name string, c pool.Claim, seen Sight) (*World, *Record, error) {
	after, r, err := w.Pools[name].allocate(w.Now, c, "", false, seen)
	if err != nil {
		return nil, nil, err
	}
	return w.with(after), r, nil
}

// Reserve is what [pool.Pool.Reserve] does, as Allocate is.
func (w *World) Reserve(name string, c pool.Claim, seen Sight) (*World, *Record, error) {
	after, r, err := w.Pools[name].allocate(w.Now, c, "", true, seen)
	if err != nil {
		return nil, nil, err
	}
	return w.with(after), r, nil
}

// allocate is Allocate or Reserve in one pool. With a child it is for Delegate.
func (m *Pool) allocate(
	now time.Time, c pool.Claim, child string, reserve bool, seen Sight,
) (*Pool, *Record, error) {
	if reserve && c.TTL != 0 || (reserve || child != "") && c.Share != "" {
		return nil, nil, pool.ErrInvalid
	}
	if asksTwice(c) {
		return nil, nil, pool.ErrInvalid
	}
	after, r := m.clone(), m.Find(c.Owner)
	live := r != nil && !r.Cooling
	reserved := r != nil && r.Reserved
	if m.Spec.Scope != "" && c.Scope != m.Spec.Scope || (live || reserved) && c.Scope != r.Scope {
		return nil, nil, pool.ErrScope
	}
	if child != "" && m.Moving != (pool.Renumbering{}) {
		return nil, nil, pool.ErrInUse
	}
	if live && !r.Expired(now) {
		return m.again(now, c, child, reserve, r)
	}
	if reserved && m.allows(r.addrs()) {
		switch _, err := m.wants(c, c.Policy); {
		case c.Share != "" && err == nil:
			return nil, nil, pool.ErrHeld
		case c.Share != "":
			return nil, nil, err
		case m.meets(c, r.Prefixes) && reserve:
			return after, r, nil
		case m.meets(c, r.Prefixes) && r.Declined && !r.Expired(now):
			return nil, nil, pool.ErrTaken
		case m.meets(c, r.Prefixes):
		case err != nil:
			return nil, nil, err
		default:
			return nil, nil, pool.ErrHeld
		}
	}
	switch wants, err := m.wants(c, c.Policy); {
	case err != nil:
		return nil, nil, err
	case m.Spec.Cordoned:
		return nil, nil, pool.ErrCordoned
	case !m.grantsAll(wants):
		return nil, nil, pool.ErrInvalid
	}
	granted := &Record{Allocation: pool.Allocation{
		Owner: c.Owner, Created: now, Scope: c.Scope, Share: c.Share, Labels: maps.Clone(c.Labels), Child: child,
	}}
	if c.TTL != 0 {
		granted.Expires = now.Add(c.TTL)
	}
	if reserve {
		granted.Reserved, granted.Kept, granted.Cooling = true, true, true
	}
	others := slices.DeleteFunc(m.sharing(c.Scope, c.Share), func(other *Record) bool { return other.Owner == c.Owner })
	had := r != nil && m.meets(c, r.Prefixes) && m.allows(r.addrs()) &&
		(r.Share == c.Share || r.Share == "" && len(others) == 0)
	switch {
	case r == nil:
	case had: // nobody has had it since, but for those that share it
		granted.Prefixes = r.Prefixes
		granted.Reserved = reserve || reserved
		if reserved && len(c.Labels) == 0 {
			granted.Labels = r.Labels
		}
		taken := after.add(granted, r)
		if err := after.keepQuotas(now, r, taken, seen); err != nil {
			return nil, nil, err
		}
		return after, taken, nil
	case r.Expired(now), reserved:
		after.remove(r)
	default:
		aside := *r
		aside.Aside = true
		after.add(&aside, r)
	}
	if len(others) > 0 {
		switch granted.Prefixes = others[0].Prefixes; {
		case !m.meets(c, granted.Prefixes):
			return nil, nil, pool.ErrShared
		case !m.allows(granted.addrs()):
			return nil, nil, pool.ErrNotInPool
		}
		after.add(granted, nil)
		if err := after.keepQuotas(now, nil, granted, seen); err != nil {
			return nil, nil, err
		}
		return after, granted, nil
	}
	var err error
	before := after.clone()
	if granted.Prefixes, err = after.grant(now, c, seen); err == nil {
		after.add(granted, nil)
		if err := after.keepQuotas(now, nil, granted, seen); err != nil {
			return nil, nil, err
		}
		return after, granted, nil
	}
	full := errors.Is(err, pool.ErrExhausted) || errors.Is(err, pool.ErrTaken)
	if old := before.ownAside(c); old != nil && full {
		granted.Prefixes = old.Prefixes
		before.add(granted, old)
		if err := before.keepQuotas(now, nil, granted, seen); err != nil {
			return nil, nil, err
		}
		return before, granted, nil
	}
	return nil, nil, err
}

// grantsAll reports whether claims may ask for the lengths of all wants.
func (m *Pool) grantsAll(wants []pool.Request) bool {
	return !slices.ContainsFunc(wants, func(w pool.Request) bool { return !m.grants(w.Family, w.Bits) })
}

// ownAside is what the claim asks for of what its owner released and has put aside since; of several, the last one.
func (m *Pool) ownAside(c pool.Claim) (found *Record) {
	for _, r := range m.Records {
		if r.Aside && !r.Declined && r.Owner == c.Owner && m.meets(c, r.Prefixes) && m.allows(r.addrs()) {
			later := found == nil || r.Expires.After(found.Expires)
			if later || r.Expires.Equal(found.Expires) && found.Prefixes[0].Addr().Less(r.Prefixes[0].Addr()) {
				found = r
			}
		}
	}
	return found
}

// again is for an owner that holds r.
func (m *Pool) again(
	now time.Time, c pool.Claim, child string, reserve bool, r *Record,
) (*Pool, *Record, error) {
	if !m.meets(c, r.Prefixes) && (len(r.Beside) == 0 || !m.meets(c, m.newOf(r.Prefixes))) || r.Share != c.Share {
		if _, err := m.wants(c, c.Policy); err != nil {
			return nil, nil, err
		}
		return nil, nil, pool.ErrHeld
	}
	kept := *r
	kept.Missing = time.Time{} // who asks is there
	switch until := now.Add(c.TTL); {
	case reserve:
		kept.Reserved = true
	case c.TTL == 0:
		kept.Expires = time.Time{}
	case !kept.Expires.IsZero() && kept.Expires.Before(until):
		kept.Expires = until
	}
	if child != "" && r.Child != "" && r.Child != child {
		return nil, nil, pool.ErrHeld
	}
	kept.Child = cmp.Or(child, r.Child)
	after := m.clone()
	return after, after.add(&kept, r), nil
}

// grant takes what the claim asks for, if need be from those whose time is over: the earliest first, until it is
// enough.
func (m *Pool) grant(now time.Time, c pool.Claim, seen Sight) ([]netip.Prefix, error) {
	wants, err := m.wants(c, c.Policy)
	if err != nil {
		return nil, err
	}
	if preferred := m.takePreferred(now, c.Owner, wants, seen); preferred != nil {
		return preferred, nil
	}
	got, err := m.take(wants, nil, seen)
	var last *Record
	for _, old := range m.ended(now, seen) {
		full := errors.Is(err, pool.ErrExhausted) || errors.Is(err, pool.ErrTaken)
		// Of those that ended at once, any may have been the last that was needed.
		together := last != nil && old.Expires.Equal(last.Expires) && seen.Left != nil && !seen.Left(old)
		if useful(wants, old) && (full || together) {
			m.remove(old)
			last = old
			got, err = m.take(wants, nil, seen)
		}
	}
	return got, err
}

// ended are the records whose time is over, the earliest first. Of those that ended at once, the ones that were seen to
// go come first.
func (m *Pool) ended(now time.Time, seen Sight) []*Record {
	var ended []*Record
	for _, r := range m.Records {
		if r.Expired(now) && r.Child == "" && !r.Reserved {
			ended = append(ended, r)
		}
	}
	slices.SortStableFunc(ended, func(a, b *Record) int {
		if byTime := a.Expires.Compare(b.Expires); byTime != 0 || seen.Left == nil || seen.Left(a) == seen.Left(b) {
			return byTime
		}
		if seen.Left(b) {
			return -1
		}
		return 1
	})
	return ended
}

// useful reports whether some request could use what the record leaves, as far as it says where.
func useful(wants []pool.Request, r *Record) bool {
	for _, w := range wants {
		for _, a := range r.addrs() {
			here := (!w.Exact.IsValid() || w.Exact.Contains(a)) && (w.Within == nil || w.Within.Contains(a))
			if pool.FamilyOf(a) == w.Family && here {
				return true
			}
		}
	}
	return false
}

// Tied reports whether several records of a pool ended at once, so that any of them may go first.
func (m *Pool) Tied(now time.Time) bool {
	ended := m.ended(now, Sight{})
	for i := 1; i < len(ended); i++ {
		if ended[i].Expires.Equal(ended[i-1].Expires) {
			return true
		}
	}
	return false
}
