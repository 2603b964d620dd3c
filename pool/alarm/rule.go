package alarm

import (
	"fmt"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// Rule says when an alarm is raised and when it is cleared. The zero Rule is not valid; see [Used] and [Free]. A Rule
// is a value; it may be copied and compared.
type Rule struct {
	kind             kind
	raiseAt, clearAt uint64
	family           pool.Family
}

type kind uint8

const (
	used kind = iota + 1
	free
)

// Used is about how much of a family's addresses is used, in percent of those that the pool can hand out: all but the
// reserved ones. Addresses that cool down count as used. The alarm is raised when it is raiseAt percent or more, and
// cleared when it is clearAt percent or less. It must hold that 0 ≤ clearAt < raiseAt ≤ 100. Percentages are exact,
// however large the pool is.
func Used(raiseAt, clearAt int) Rule {
	return Rule{kind: used, raiseAt: uint64(raiseAt), clearAt: uint64(clearAt)}
}

// Free is about how many addresses of a family are free. The alarm is raised when fewer than raiseAt are, and cleared
// when clearAt or more are. It must hold that 0 < raiseAt ≤ clearAt.
func Free(raiseAt, clearAt uint64) Rule { return Rule{kind: free, raiseAt: raiseAt, clearAt: clearAt} }

// In returns the rule for only one family. Without it a rule applies to both.
func (r Rule) In(family pool.Family) Rule {
	r.family = family
	return r
}

// String returns, for example, "used 90 % (cleared at 80 %)" or "fewer than 16 free in IPv4 (cleared at 64)".
func (r Rule) String() string {
	in := ""
	if r.family != 0 {
		in = " in " + r.family.String()
	}
	if r.kind == free {
		return fmt.Sprintf("fewer than %d free%s (cleared at %d)", r.raiseAt, in, r.clearAt)
	}
	return fmt.Sprintf("used %d %%%s (cleared at %d %%)", r.raiseAt, in, r.clearAt)
}

// validate returns an error that wraps [pool.ErrInvalid] if the levels make no sense.
func (r Rule) validate() error {
	switch {
	case r.family != 0 && r.family != pool.IPv4 && r.family != pool.IPv6:
		return fmt.Errorf("%w: the rule's family is %v, want IPv4, IPv6 or none", pool.ErrInvalid, r.family)
	case r.kind == used && (r.clearAt >= r.raiseAt || r.raiseAt > 100):
		return fmt.Errorf("%w: Used(%d, %d): want 0 <= clearAt < raiseAt <= 100",
			pool.ErrInvalid, int64(r.raiseAt), int64(r.clearAt))
	case r.kind == free && (r.raiseAt == 0 || r.clearAt < r.raiseAt):
		return fmt.Errorf("%w: Free(%d, %d): want 0 < raiseAt <= clearAt", pool.ErrInvalid, r.raiseAt, r.clearAt)
	case r.kind == 0:
		return fmt.Errorf("%w: the zero Rule, want Used or Free", pool.ErrInvalid)
	}
	return nil
}

// raised reports whether the alarm is raised with these counts, if it was so before or not.
func (r Rule) raised(s pool.Stats, before bool) bool {
	size := s.Total.Sub(s.Reserved)
	switch {
	case size.IsZero():
		return false
	case r.kind == free && before:
		return s.Free.Cmp(cidr.CountOf(r.clearAt)) < 0
	case r.kind == free:
		return s.Free.Cmp(cidr.CountOf(r.raiseAt)) < 0
	case before:
		return comparePercent(s.Free, size, 100-r.clearAt) < 0
	default:
		return comparePercent(s.Free, size, 100-r.raiseAt) <= 0
	}
}

// comparePercent compares part with a percentage of whole: it returns the sign of 100·part - percent·whole.
func comparePercent(part, whole cidr.Count, percent uint64) int {
	return times(part, 100).Cmp(times(whole, percent))
}

// times returns n·c. With at most 2^129 addresses and 100 percent it does not saturate.
func times(c cidr.Count, n uint64) (product cidr.Count) {
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			product = product.Add(c)
		}
		c = c.Lsh(1)
	}
	return product
}
