package world

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/pool"
)

// What becomes of what is held: release, cooldown, renewal, expiring, reconciliation.

// named returns what a Held names; nil and an error if that is nothing, or nil and none if it is optional.
func (m *Pool) named(held pool.Held) (*Record, error) {
	return m.namedSuch(held, func(r *Record) bool { return !r.Cooling })
}

// namedSuch is that among the records for which such is true.
func (m *Pool) namedSuch(held pool.Held, such func(*Record) bool) (*Record, error) {
	r := m.Find(held.Owner)
	if held.Owner == "" {
		r = m.Taken()[m.tracked(held.Addr)]
		if r != nil && len(m.sharing(r.Scope, r.Share)) > 1 {
			return nil, pool.ErrShared
		}
	}
	if r != nil && (r.Aside || !such(r)) {
		r = nil
	}
	var err error
	switch {
	case r == nil:
		err = pool.ErrNotFound
	case held.Addr.IsValid() && !slices.Contains(r.addrs(), held.Addr) &&
		!slices.Contains(addrsOfAll(r.Beside), held.Addr):
		err = pool.ErrNotFound
	case held.Generation != 0 && held.Generation != r.Generation:
		err = pool.ErrGeneration
	default:
		return r, nil
	}
	if held.Optional {
		return nil, nil //nolint:nilnil // nothing is held, and that is all right
	}
	return nil, err
}

// Release is what [pool.Pool.Release] does: the world after it, and what is released; nil for nothing. A pool that was
// delegated out of it goes with it.
func (w *World) Release(name string, held pool.Held) (*World, *Record, error) {
	return w.leave(name, held, 0, nil)
}

// Decline is what [pool.Pool.Decline] does: the world after it, and what its owner has lost; nil for nothing.
func (w *World) Decline(name string, held pool.Held, quarantine time.Duration) (*World, *Record, error) {
	return w.leave(name, held, quarantine, nil)
}

// leave is Release or, with a quarantine, Decline. Of what is released the prefixes that are kept do not cool down.
func (w *World) leave(
	name string, held pool.Held, quarantine time.Duration, kept []netip.Prefix,
) (*World, *Record, error) {
	m := w.Pools[name]
	if m == nil && held.Optional { // it may have gone with its parent's grant
		return w, nil, nil
	}
	r, err := m.named(held)
	if r == nil || err != nil {
		return w, nil, err
	}
	after := w.with(m.release(w.Now, r, held.Addr, quarantine, kept))
	child := w.ChildOf(name, r)
	if child == nil {
		return after, r, nil
	}
	if len(child.Grants) > 1 {
		shrunk, no := w.Retract(child.Name, r.Owner)
		if len(no) > 0 {
			return nil, nil, no[0]
		}
		return shrunk.with(after.Pools[name]), r, nil
	}
	if len(child.Held()) > 0 {
		return nil, nil, pool.ErrInUse
	}
	return after.without(child.Name), r, nil
}

// release takes a record out of the pool, as far as it does not cool down. Of what is declined the prefix with the
// address is in quarantine, or all of it if that is not valid.
func (m *Pool) release(
	now time.Time, r *Record, declined netip.Addr, quarantine time.Duration, kept []netip.Prefix,
) *Pool {
	after := m.clone()
	after.remove(r)
	if len(after.sharing(r.Scope, r.Share)) > 0 {
		return after // the others still hold it
	}
	declined = m.tracked(declined)
	if r.Reserved && m.allowsSome(r.addrs()) {
		kept := &Record{Allocation: r.Allocation, Cooling: true}
		kept.Kept, kept.Child, kept.Expires = true, "", time.Time{}
		if kept.Declined = quarantine > 0; kept.Declined {
			kept.Expires = now.Add(quarantine)
		} else if m.Spec.Cooldown > 0 && !r.Expired(now) {
			kept.Expires = now.Add(m.Spec.Cooldown)
		}
		after.add(kept, nil)
		return after
	}
	cools := m.Spec.Cooldown > 0 && !r.Expired(now) && m.allowsSome(r.addrs())
	cooling := &Record{Allocation: r.Allocation, Cooling: true}
	cooling.Prefixes, cooling.Expires, cooling.Child, cooling.Reserved = nil, now.Add(m.Spec.Cooldown), "", false
	cooling.Share = ""
	apart := &Record{Allocation: cooling.Allocation, Cooling: true, Aside: true}
	apart.Expires, apart.Declined = now.Add(quarantine), true
	for _, p := range r.Prefixes {
		isDeclined := quarantine > 0 && (!declined.IsValid() || p.Contains(declined))
		switch {
		case isDeclined && m.allowsSome(AddrsOf(p)):
			apart.Prefixes = append(apart.Prefixes, p)
		case cools && !slices.Contains(kept, p):
			cooling.Prefixes = append(cooling.Prefixes, p)
		}
	}
	for _, left := range []*Record{cooling, apart} {
		if len(left.Prefixes) > 0 {
			after.add(left, nil)
		}
	}
	return after
}

// Unreserve is what [pool.Pool.Unreserve] does: the world after it, and what was reserved; nil for nothing.
func (w *World) Unreserve(name string, held pool.Held) (*World, *Record, error) {
	m := w.Pools[name]
	r, err := m.namedSuch(held, func(r *Record) bool { return r.Reserved })
	if r == nil || err != nil {
		return w, nil, err
	}
	plain := *r
	plain.Reserved, plain.Kept, plain.Aside = false, false, r.Declined
	after := m.clone()
	if withheld := !r.Expires.IsZero() && !r.Expired(w.Now) && m.allowsSome(r.addrs()); r.Kept && !withheld {
		after.remove(r)
	} else {
		after.add(&plain, r)
	}
	return w.with(after), r, nil
}

// freed is the pool without what the owner holds.
func (m *Pool) freed(now time.Time, owner string) *Pool {
	r := m.Live(owner)
	if r == nil {
		return m
	}
	return m.release(now, r, netip.Addr{}, 0, nil)
}

// Renew is what [pool.Pool.Renew] does: the world after it, and what the owner has then.
func (w *World) Renew(name string, held pool.Held, ttl time.Duration) (*World, *Record, error) {
	after, r, err := w.Pools[name].renew(w.Now, held, ttl)
	if err != nil {
		return nil, nil, err
	}
	return w.with(after), r, nil
}

func (m *Pool) renew(now time.Time, held pool.Held, ttl time.Duration) (*Pool, *Record, error) {
	r, err := m.named(held)
	if r == nil || err != nil {
		return m, nil, err
	}
	renewed := *r
	renewed.Missing = time.Time{}
	if until := now.Add(ttl); !r.Expires.IsZero() && until.After(r.Expires) {
		renewed.Expires = until
	}
	after := m.clone()
	return after, after.add(&renewed, r), nil
}

// Expire is what [pool.Pool.Expire] does, and how many records it frees.
func (w *World) Expire(name string) (*World, int) {
	m := w.Pools[name]
	after, ended := m.clone(), m.ended(w.Now, Sight{})
	for _, r := range ended {
		after.remove(r)
	}
	return w.with(after), len(ended)
}

// Next is when the first lease or cooldown of a pool ends; zero if none does.
func (m *Pool) Next(now time.Time) time.Time {
	var next time.Time
	for _, r := range m.Records {
		if !r.Reserved && r.Expires.After(now) && (next.IsZero() || r.Expires.Before(next)) {
			next = r.Expires
		}
	}
	return next
}

// Reconcile is what [pool.Pool.Reconcile] does, given who is live. What was seen to be released is in the order in
// which that was done: of those that share an address, the last one may have it back while it cools down.
func (w *World) Reconcile(
	name string, live map[string]bool, since int64, grace time.Duration, seen []pool.Allocation,
) (*World, pool.Reconciliation) {
	m, now := w.Pools[name], w.Now
	after, records := m.clone(), slices.Clone(m.Records)
	place := func(r *Record) int {
		return slices.IndexFunc(seen, func(a pool.Allocation) bool { return a.Owner == r.Owner })
	}
	slices.SortStableFunc(records, func(a, b *Record) int { return place(a) - place(b) })
	var found pool.Reconciliation
	for _, r := range records {
		marked := *r
		switch {
		case r.Cooling || r.Child != "":
		case r.Generation > since:
			found.Newer++
		case live[r.Owner]:
			found.Live++
			if !r.Missing.IsZero() {
				found.Back = append(found.Back, r.Allocation)
				marked.Missing = time.Time{}
				after.add(&marked, r)
			}
		case grace > 0 && r.Missing.IsZero():
			found.Missing = append(found.Missing, r.Allocation)
			marked.Missing = now
			after.add(&marked, r)
		case grace > 0 && now.Sub(r.Missing) < grace:
			found.Missing = append(found.Missing, r.Allocation)
		default:
			found.Released = append(found.Released, r.Allocation)
			after = after.release(now, r, netip.Addr{}, 0, nil)
		}
	}
	return w.with(after), found
}
