package pool_test

import (
	"time"

	"github.com/ipalloc/ipalloc/pool"
)

// What becomes of what is held: release, cooldown, renewal, reaping, reconciliation.

// release is what Release does, but for a pool that was carved out.
func (m *model) release(owner string) (*model, *record, error) {
	r := m.live(owner)
	if r == nil {
		return nil, nil, pool.ErrNotFound
	}
	after := m.clone()
	after.remove(r)
	if m.spec.Cooldown > 0 && !r.Expired(m.world.now) && m.someInPool(r.addrs()) {
		cooling := &record{Allocation: r.Allocation, cooling: true}
		cooling.Expires, cooling.Child = m.world.now.Add(m.spec.Cooldown), ""
		after.add(cooling, nil)
	}
	return after, r, nil
}

// renew is what Renew does.
func (m *model) renew(owner string, ttl time.Duration) (*model, *record, error) {
	r := m.live(owner)
	if r == nil {
		return nil, nil, pool.ErrNotFound
	}
	renewed := *r
	renewed.missing = time.Time{}
	if until := m.world.now.Add(ttl); !r.Expires.IsZero() && until.After(r.Expires) {
		renewed.Expires = until
	}
	after := m.clone()
	return after, after.add(&renewed, r), nil
}

// reap is what Reap does, and how many records it frees.
func (m *model) reap() (*model, int) {
	after, ended := m.clone(), m.ended(sight{})
	for _, r := range ended {
		after.remove(r)
	}
	return after, len(ended)
}

// next is when the first lease or cooldown ends; zero if none does.
func (m *model) next() time.Time {
	var next time.Time
	for _, r := range m.records {
		if r.Expires.After(m.world.now) && (next.IsZero() || r.Expires.Before(next)) {
			next = r.Expires
		}
	}
	return next
}

// reconcile is what Reconcile does, given who is live.
func (m *model) reconcile(live map[string]bool, since int64, grace time.Duration) (*model, pool.Reconciliation) {
	after := m.clone()
	var found pool.Reconciliation
	for _, r := range m.records {
		marked := *r
		switch {
		case r.cooling || r.Child != "":
		case since != 0 && r.Generation > since:
			found.Newer++
		case live[r.Owner]:
			found.Live++
			if !r.missing.IsZero() {
				found.Back = append(found.Back, r.Allocation)
				marked.missing = time.Time{}
				after.add(&marked, r)
			}
		case grace > 0 && r.missing.IsZero():
			found.Missing = append(found.Missing, r.Allocation)
			marked.missing = m.world.now
			after.add(&marked, r)
		case grace > 0 && m.world.now.Sub(r.missing) < grace:
			found.Missing = append(found.Missing, r.Allocation)
		default:
			found.Released = append(found.Released, r.Allocation)
			after, _, _ = after.release(r.Owner)
		}
	}
	return after, found
}
