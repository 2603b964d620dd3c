package world

import (
	"time"

	"github.com/ipalloc/ipalloc/pool"
)

// What becomes of what is held: release, cooldown, renewal, reaping, reconciliation.

// Release is what [pool.Pool.Release] does: the world after it, and what is released. A pool that was carved out of it
// goes with it.
func (w *World) Release(name, owner string) (*World, *Record, error) {
	after, r, err := w.Pools[name].release(w.Now, owner)
	if err != nil {
		return nil, nil, err
	}
	child := w.ChildOf(name, r)
	if child == nil {
		return w.with(after), r, nil
	}
	if len(child.Grants) > 1 {
		gone, no := w.Retract(child.Name, owner)
		if len(no) > 0 {
			return nil, nil, no[0]
		}
		return gone, r, nil
	}
	if len(child.Held()) > 0 {
		return nil, nil, pool.ErrInUse
	}
	return w.with(after).without(child.Name), r, nil
}

// ReleaseAll is what [pool.Pool.ReleaseAll] does: the world after it, and what is released.
func (w *World) ReleaseAll(name string, owners []string) (after *World, released []*Record, err error) {
	after = w
	for _, owner := range owners {
		next, r, err := after.Release(name, owner)
		if err != nil {
			return nil, nil, err
		}
		after, released = next, append(released, r)
	}
	return after, released, nil
}

// release is Release in one pool.
func (m *Pool) release(now time.Time, owner string) (*Pool, *Record, error) {
	r := m.Live(owner)
	if r == nil {
		return nil, nil, pool.ErrNotFound
	}
	after := m.clone()
	after.remove(r)
	if m.Spec.Cooldown > 0 && !r.Expired(now) && m.allowsSome(r.addrs()) {
		cooling := &Record{Allocation: r.Allocation, Cooling: true}
		cooling.Expires, cooling.Child = now.Add(m.Spec.Cooldown), ""
		after.add(cooling, nil)
	}
	return after, r, nil
}

// Renew is what [pool.Pool.Renew] does: the world after it, and what the owner has then.
func (w *World) Renew(name, owner string, ttl time.Duration) (*World, *Record, error) {
	after, r, err := w.Pools[name].renew(w.Now, owner, ttl)
	if err != nil {
		return nil, nil, err
	}
	return w.with(after), r, nil
}

func (m *Pool) renew(now time.Time, owner string, ttl time.Duration) (*Pool, *Record, error) {
	r := m.Live(owner)
	if r == nil {
		return nil, nil, pool.ErrNotFound
	}
	renewed := *r
	renewed.Missing = time.Time{}
	if until := now.Add(ttl); !r.Expires.IsZero() && until.After(r.Expires) {
		renewed.Expires = until
	}
	after := m.clone()
	return after, after.add(&renewed, r), nil
}

// Reap is what [pool.Pool.Reap] does, and how many records it frees.
func (w *World) Reap(name string) (*World, int) {
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
		if r.Expires.After(now) && (next.IsZero() || r.Expires.Before(next)) {
			next = r.Expires
		}
	}
	return next
}

// Reconcile is what [pool.Pool.Reconcile] does, given who is live.
func (w *World) Reconcile(
	name string, live map[string]bool, since int64, grace time.Duration,
) (*World, pool.Reconciliation) {
	m, now := w.Pools[name], w.Now
	after := m.clone()
	var found pool.Reconciliation
	for _, r := range m.Records {
		marked := *r
		switch {
		case r.Cooling || r.Child != "":
		case since != 0 && r.Generation > since:
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
			after, _, _ = after.release(now, r.Owner)
		}
	}
	return w.with(after), found
}
