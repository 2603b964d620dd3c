package cidr

import (
	"iter"
	"net/netip"

	"go4.org/netipx"
)

// SetOf returns the set of the addresses in ranges, which may overlap, touch and be of both families.
// Invalid ranges are ignored; without a valid one the set is empty. Cost: O(n log n) for n ranges.
func SetOf(ranges ...netipx.IPRange) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, r := range ranges {
		if r.IsValid() {
			b.AddRange(r)
		}
	}
	return build(&b)
}

// Union returns the set of the addresses that are in a or in b. Nil sets are empty. Cost: O(n log n) for n
// ranges in both.
func Union(a, b *netipx.IPSet) *netipx.IPSet {
	var sum netipx.IPSetBuilder
	sum.AddSet(a)
	sum.AddSet(b)
	return build(&sum)
}

// Difference returns the set of the addresses that are in a and not in b. Nil sets are empty. Cost:
// O(n log n) for n ranges in both.
func Difference(a, b *netipx.IPSet) *netipx.IPSet {
	var rest netipx.IPSetBuilder
	rest.AddSet(a)
	rest.RemoveSet(b)
	return build(&rest)
}

// Intersection returns the set of the addresses that are in a and in b. Nil sets are empty. Cost: O(n log n)
// for n ranges in both.
func Intersection(a, b *netipx.IPSet) *netipx.IPSet {
	var both netipx.IPSetBuilder
	for r := range common(a, b) {
		both.AddRange(r)
	}
	return build(&both)
}

// Overlaps reports whether any address is both in a and in b. A nil set is empty and overlaps none. Cost: O(n) for n
// ranges in both.
func Overlaps(a, b *netipx.IPSet) bool {
	for range common(a, b) {
		return true
	}
	return false
}

// common yields the ranges of the addresses that are in a and in b, in order.
func common(a, b *netipx.IPSet) iter.Seq[netipx.IPRange] {
	return func(yield func(netipx.IPRange) bool) {
		as, bs := rangesOf(a), rangesOf(b)
		for len(as) > 0 && len(bs) > 0 {
			from, to := as[0].From(), as[0].To()
			if from.Less(bs[0].From()) {
				from = bs[0].From()
			}
			if bs[0].To().Less(to) {
				to = bs[0].To()
				bs = bs[1:]
			} else {
				as = as[1:]
			}
			if !to.Less(from) && !yield(netipx.IPRangeFrom(from, to)) {
				return
			}
		}
	}
}

// Size returns the number of addresses in s, of both families; 0 for a nil set. Cost: O(n) for n ranges.
func Size(s *netipx.IPSet) Count {
	var sum Count
	for _, r := range rangesOf(s) {
		sum = sum.Add(RangeSize(r))
	}
	return sum
}

// RangeSize returns the number of addresses in r, bounds included; 0 for an invalid range. Cost: O(1).
func RangeSize(r netipx.IPRange) Count {
	if !r.IsValid() {
		return Count{}
	}
	return distance(r.From(), r.To()).Add(CountOf(1))
}

// Nth returns the address of s that has n addresses of s before it, IPv4 before IPv6. The first is at 0;
// from Size(s) on, and for a nil set, there is none and the result is false. [Index] is its inverse. Cost:
// O(m) for m ranges, whatever their size.
func Nth(s *netipx.IPSet, n Count) (netip.Addr, bool) {
	for _, r := range rangesOf(s) {
		size := RangeSize(r)
		if n.Cmp(size) < 0 {
			return advance(r.From(), n), true
		}
		n = n.Sub(size)
	}
	return netip.Addr{}, false
}

// Index returns how many addresses of s are before addr, IPv4 before IPv6. If addr is not in s, as an
// invalid address or one with a zone never is, the result is false. [Nth] is its inverse. Cost: O(m) for m
// ranges, whatever their size.
func Index(s *netipx.IPSet, addr netip.Addr) (Count, bool) {
	var before Count
	for _, r := range rangesOf(s) {
		if r.Contains(addr) {
			return before.Add(distance(r.From(), addr)), true
		}
		before = before.Add(RangeSize(r))
	}
	return Count{}, false
}

// rangesOf returns the ranges of s in order: none overlap, none touch.
func rangesOf(s *netipx.IPSet) []netipx.IPRange {
	if s == nil {
		return nil
	}
	return s.Ranges()
}

// build returns the set of a builder that was given only valid ranges and so has no error to report.
func build(b *netipx.IPSetBuilder) *netipx.IPSet {
	s, _ := b.IPSet()
	return s
}
