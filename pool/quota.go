package pool

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

const (
	// MaxQuotas is the largest number of quotas in a spec.
	MaxQuotas = 1024
	// MaxQuotaValues is the largest number of different scopes and values of labels that a pool counts at a time.
	MaxQuotaValues = 4096
)

// Quota bounds how many addresses the owners of one scope, or with one value of a label, hold in a pool together: a
// tenant, a namespace, a port of a switch. What is reserved counts as held; see [Pool.Reserve]. What cools down does
// not, nor does a lease that has ended, once another claim needs its place.
//
// Set either Addresses or Percent. If several quotas are about one claim, it must keep all of them. The zero Quota is
// not valid. It is a value; it may be copied and compared.
type Quota struct {
	// Label is the name of the label that counts, see [Claim.Labels]. Empty means the scope; see [Claim.Scope].
	Label string
	// Value is that of the label, or the scope. Empty means each value by itself. Claims without the label, or without
	// a scope, do not count.
	Value string
	// Family is the family that is bounded. The zero Family means each by itself.
	Family Family
	// Addresses is how many may be held. A prefix counts with all its addresses.
	Addresses cidr.Count
	// Percent is how many of those that the pool hands out of the family may be held, 1 to 100, rounded down.
	Percent int
}

// QuotaUse is how much of its quotas a scope or a value of a label uses of one family. It is a value; it may be copied
// and compared.
type QuotaUse struct {
	// Label and Value say whose it is, as in [Quota]. Value is never empty.
	Label, Value string
	Family       Family
	// Held is how many addresses count. Most is how many may, by the least of the quotas. Held is larger if the quota was
	// lowered since.
	Held, Most cidr.Count
}

// most is how many addresses may be held of a family of which the pool hands out so many.
func (q Quota) most(size cidr.Count) cidr.Count {
	if q.Percent == 0 {
		return q.Addresses
	}
	const whole = 100
	hundredths, rest := size.Div(cidr.CountOf(whole))
	most := cidr.CountOf(rest.Uint64() * uint64(q.Percent) / whole)
	for range q.Percent {
		most = most.Add(hundredths)
	}
	return most
}

// validateQuotas checks the quotas of a spec.
func (s Spec) validateQuotas() error {
	if len(s.Quotas) > MaxQuotas {
		return invalid("the pool has %d quotas, the most is %d", len(s.Quotas), MaxQuotas)
	}
	seen := map[Quota]bool{}
	for _, q := range s.Quotas {
		if err := q.validate(); err != nil {
			return err
		}
		about := Quota{Label: q.Label, Value: q.Value, Family: q.Family}
		if seen[about] {
			return invalid("two quotas are about %v", q.of())
		}
		seen[about] = true
	}
	return nil
}

func (q Quota) validate() error {
	switch {
	case !utf8.ValidString(q.Label) || !utf8.ValidString(q.Value):
		return invalid("the quota of %v is not UTF-8", q.of())
	case len(q.Label)+len(q.Value) > MaxLabelBytes:
		return invalid("the quota of %.40v… has %d bytes of label and value, the most is %d",
			q.of(), len(q.Label)+len(q.Value), MaxLabelBytes)
	case q.Family != 0 && q.Family != IPv4 && q.Family != IPv6:
		return invalid("the quota of %v is for %v, want IPv4, IPv6 or none", q.of(), q.Family)
	case q.Percent < 0 || q.Percent > 100:
		return invalid("the quota of %v is %d percent, want 1 to 100", q.of(), q.Percent)
	case (q.Percent == 0) == q.Addresses.IsZero():
		return invalid("the quota of %v has %v addresses and %d percent, want one of the two", q.of(), q.Addresses, q.Percent)
	}
	return nil
}

// of says what the quota is about.
func (q Quota) of() string {
	what := fmt.Sprintf("the label %q", q.Label)
	if q.Label == "" {
		what = "the scope"
	}
	if q.Value == "" {
		return what
	}
	return fmt.Sprintf("%s = %q", what, q.Value)
}

// counted are those whose addresses a pool counts, because some quota is about them.
type counted struct {
	labels []string                // that any quota names, each once
	quotas map[space.Whose][]Quota // by what they are about; with an empty value, each value by itself
}

// countedBy returns whom quotas count; nil if there are none.
func countedBy(quotas []Quota) *counted {
	if len(quotas) == 0 {
		return nil
	}
	c := &counted{quotas: map[space.Whose][]Quota{}}
	for _, q := range quotas {
		if !slices.Contains(c.labels, q.Label) {
			c.labels = append(c.labels, q.Label)
		}
		w := space.Whose{Label: q.Label, Value: q.Value}
		c.quotas[w] = append(c.quotas[w], q)
	}
	return c
}

// eachValue is about each value of a label by itself.
func eachValue(label string) space.Whose { return space.Whose{Label: label} }

// counts reports whether the addresses of those are counted.
func (c *counted) counts(w space.Whose) bool {
	return w.Value != "" && (len(c.quotas[eachValue(w.Label)]) > 0 || len(c.quotas[w]) > 0)
}

// equal reports whether both count the same.
func (c *counted) equal(other *counted) bool {
	if c == nil || other == nil {
		return c == other
	}
	same := func(a, b *counted) bool {
		for w := range a.quotas {
			if each := w.Value == ""; each && len(b.quotas[w]) == 0 || !each && !b.counts(w) {
				return false
			}
		}
		return true
	}
	return same(c, other) && same(other, c)
}

// of calls do for each of those whose addresses those of h are.
func (c *counted) of(h *holding, do func(space.Whose)) {
	if c == nil || h == nil || h.shared || h.cooling && !h.Kept {
		return
	}
	for _, label := range c.labels {
		value := h.Labels[label]
		if label == "" {
			value = h.Scope
		}
		if w := (space.Whose{Label: label, Value: value}); c.counts(w) {
			do(w)
		}
	}
}

// has reports whether the addresses of h are those of w.
func (c *counted) has(h *holding, w space.Whose) (is bool) {
	c.of(h, func(other space.Whose) { is = is || other == w })
	return is
}

// own counts what h holds, or no longer.
func (c *counted) own(s *space.Space, h *holding, owned bool) {
	c.of(h, func(w space.Whose) {
		for _, p := range h.Prefixes {
			s.Own(w, p, owned)
		}
	})
}

// mostOf returns how many addresses of the family those may hold, of a pool that hands out so many; false if no quota
// says so.
func (c *counted) mostOf(w space.Whose, family Family, size cidr.Count) (most cidr.Count, bounded bool) {
	for _, quotas := range [][]Quota{c.quotas[w], c.quotas[eachValue(w.Label)]} {
		for _, q := range quotas {
			if q.Family != 0 && q.Family != family {
				continue
			}
			if n := q.most(size); !bounded || n.Cmp(most) < 0 {
				most, bounded = n, true
			}
		}
	}
	return most, bounded
}

// keepQuotas returns an error if what is granted in the place of h is more than a quota allows. Leases of the same
// scope or value that have ended are freed before. What was reserved has counted already, if it was for the same.
func (v *view) keepQuotas(t *task, h, granted *holding, out *outcome) (err error) {
	v.rules.counted.of(granted, func(w space.Whose) {
		if h != nil && h.Reserved && granted.Reserved && v.rules.counted.has(h, w) {
			return
		}
		for _, f := range families {
			if err == nil && slices.ContainsFunc(granted.Prefixes, f.isOf) {
				err = v.keepQuota(t, w, f, out)
			}
		}
		if err == nil && v.space.Owners() > MaxQuotaValues {
			err = &quotaError{whose: w, many: true}
		}
	})
	return err
}

func (v *view) keepQuota(t *task, w space.Whose, f Family, out *outcome) error {
	most, bounded := v.rules.counted.mostOf(w, f, v.rules.sizes[f.index()])
	over := func() bool { return v.space.OwnedBy(w, f.inSpace()).Cmp(most) > 0 }
	if !bounded || !over() {
		return nil
	}
	refusal := &quotaError{whose: w, family: f, most: most}
	counts := func(h *holding) bool {
		return v.rules.counted.has(h, w) && slices.ContainsFunc(h.Prefixes, f.isOf)
	}
	for h, err := range v.around.ending() {
		switch {
		case err != nil:
			return err
		case !counts(h) || h.Owner == t.owner || anyOf(out.writes, h.recordName()):
			continue
		case !h.due(v.around.now()):
			refusal.next = h.Expires
		default:
			if _, err := v.endFor(h, out); err != nil {
				return err
			}
		}
		if !over() {
			out.verdict = verdictDone
			return nil
		}
		if !refusal.next.IsZero() {
			break
		}
	}
	refusal.held = v.space.OwnedBy(w, f.inSpace())
	return refusal
}

// quotaUses are the uses of quotas, given the counts of the pool and those by owner.
func quotaUses(quotas []Quota, stats []Stats, owned []space.Owned) []QuotaUse {
	if len(quotas) == 0 {
		return nil
	}
	all, c := slices.Clone(owned), countedBy(quotas)
	for _, q := range quotas {
		w := space.Whose{Label: q.Label, Value: q.Value}
		known := slices.ContainsFunc(all, func(o space.Owned) bool { return o.Whose == w })
		if q.Value != "" && !known {
			all = append(all, space.Owned{Whose: w})
		}
	}
	space.SortOwned(all)
	var uses []QuotaUse
	for _, o := range all {
		for _, s := range stats {
			if most, bounded := c.mostOf(o.Whose, s.Family, s.Total.Sub(s.Reserved)); bounded {
				held := o.V4
				if s.Family == IPv6 {
					held = o.V6
				}
				uses = append(uses, QuotaUse{o.Label, o.Value, s.Family, held, most})
			}
		}
	}
	return uses
}

// asQuotaError adds to e what the cause says of a quota, if it is about one.
func (e *Error) asQuotaError() {
	var quota *quotaError
	if errors.As(e.Err, &quota) && !quota.many {
		e.Next = quota.next
		e.Family = quota.family
		e.Quota = QuotaUse{quota.whose.Label, quota.whose.Value, quota.family, quota.held, quota.most}
	}
}
