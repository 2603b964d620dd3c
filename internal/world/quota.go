package world

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// How much owners may hold together.

// valueOf is the scope of a record, or its value of a label.
func valueOf(r *Record, label string) string {
	if label == "" {
		return r.Scope
	}
	return r.Labels[label]
}

// isAbout reports whether a quota is about a value of its label.
func isAbout(q pool.Quota, value string) bool {
	return value != "" && (q.Value == "" || q.Value == value)
}

// held is how many addresses of a family those hold, or have reserved, that have a value of a label.
func (m *Pool) held(label, value string, f pool.Family) (n uint64) {
	for _, r := range m.Records {
		if r.Cooling && !r.Kept || valueOf(r, label) != value {
			continue
		}
		for _, a := range r.addrs() {
			count(&n, pool.FamilyOf(a) == f)
		}
	}
	return n
}

// most is how many addresses of a family a quota allows.
func (m *Pool) most(q pool.Quota, f pool.Family) uint64 {
	if q.Percent == 0 {
		return q.Addresses.Uint64()
	}
	var all uint64
	for _, a := range AddrsOf(m.Universe[f]) {
		count(&all, m.Allowed[a])
	}
	return all * uint64(q.Percent) / 100
}

// keepQuotas ends leases whose time is over, the earliest first, until a new record keeps all quotas, but for those
// that the reservation in whose place it comes has counted for. It returns an error if it does not keep one even so.
func (m *Pool) keepQuotas(now time.Time, had, granted *Record, seen Sight) error {
	first := map[string]int{} // labels come in the order in which the quotas name them first
	for i, q := range slices.Backward(m.Spec.Quotas) {
		first[q.Label] = i
	}
	quotas := slices.SortedStableFunc(slices.Values(m.Spec.Quotas), func(a, b pool.Quota) int {
		return first[a.Label] - first[b.Label]
	})
	for _, q := range quotas {
		value := valueOf(granted, q.Label)
		for _, f := range []pool.Family{pool.IPv4, pool.IPv6} {
			of := func(r *Record) bool {
				return slices.ContainsFunc(r.Prefixes, func(p netip.Prefix) bool { return pool.FamilyOf(p.Addr()) == f })
			}
			counted := had != nil && had.Reserved && valueOf(had, q.Label) == value
			if counted || !isAbout(q, value) || q.Family != 0 && q.Family != f || !of(granted) {
				continue
			}
			for _, r := range m.ended(now, seen) {
				if m.held(q.Label, value, f) > m.most(q, f) && !r.Cooling && valueOf(r, q.Label) == value && of(r) &&
					r.Owner != granted.Owner {
					m.remove(r)
				}
			}
			if m.held(q.Label, value, f) > m.most(q, f) {
				return pool.ErrQuota
			}
		}
	}
	return nil
}

// quotas are how much of the quotas is used.
func (m *Pool) quotas() (uses []pool.QuotaUse) {
	type about struct{ label, value string }
	seen := map[about]bool{}
	for _, q := range m.Spec.Quotas {
		if q.Value != "" {
			seen[about{q.Label, q.Value}] = true
			continue
		}
		for _, r := range m.Records {
			if value := valueOf(r, q.Label); value != "" && (!r.Cooling || r.Kept) {
				seen[about{q.Label, value}] = true
			}
		}
	}
	for each := range seen {
		for _, s := range m.Stats() {
			use := pool.QuotaUse{Label: each.label, Value: each.value, Family: s.Family}
			bounded, most := false, uint64(0)
			for _, q := range m.Spec.Quotas {
				if q.Label == each.label && isAbout(q, each.value) && (q.Family == 0 || q.Family == s.Family) {
					if n := m.most(q, s.Family); !bounded || n < most {
						bounded, most = true, n
					}
				}
			}
			if bounded {
				use.Held, use.Most = cidr.CountOf(m.held(each.label, each.value, s.Family)), cidr.CountOf(most)
				uses = append(uses, use)
			}
		}
	}
	slices.SortStableFunc(uses, func(a, b pool.QuotaUse) int {
		return strings.Compare(a.Label+"\x00"+a.Value, b.Label+"\x00"+b.Value)
	})
	return uses
}
