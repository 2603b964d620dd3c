package cidr

import (
	"iter"
	"net/netip"

	"go4.org/netipx"
)

// SetOf returns the set of all addresses in ranges. The ranges may overlap, and may be of both families. Invalid ranges
// are ignored. Cost: O(n log n) for n ranges.
func SetOf(ranges ...netipx.IPRange) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, r := range ranges {
		if r.IsValid() {
			b.AddRange(r)
		}
	}
	return build(&b)
}

// Union returns the set of the addresses that are in a, in b, or in both. Cost: O(n log n) for n ranges in both sets.
func Union(a, b *netipx.IPSet) *netipx.IPSet {
	var sum netipx.IPSetBuilder
	sum.AddSet(a)
	sum.AddSet(b)
	return build(&sum)
}

// Difference returns the set of the addresses that are in a but not in b. Cost: O(n log n) for n ranges in both sets.
func Difference(a, b *netipx.IPSet) *netipx.IPSet {
	var rest netipx.IPSetBuilder
	rest.AddSet(a)
	rest.RemoveSet(b)
	return build(&rest)
}

// Intersection returns the set of the addresses that are in both a and b. Cost: O(n log n) for n ranges in both sets.
func Intersection(a, b *netipx.IPSet) *netipx.IPSet {
	var both netipx.IPSetBuilder
	for r := range common(a, b) {
		both.AddRange(r)
	}
	return build(&both)
}

// Overlaps reports whether a and b have any address in common. Cost: O(n) for n ranges in both sets.
func Overlaps(a, b *netipx.IPSet) bool {
	for range common(a, b) {
		return true
	}
	return false
}

// common returns an iterator over the ranges of the addresses that are in both a and b, in order.
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

// Size returns the number of addresses in s, of both families together. Cost: O(n) for n ranges.
func Size(s *netipx.IPSet) Count {
	var sum Count
	for _, r := range rangesOf(s) {
		sum = sum.Add(RangeSize(r))
	}
	return sum
}

// RangeSize returns the number of addresses in r, including both bounds, which is 0 for an invalid range. Cost: O(1).
func RangeSize(r netipx.IPRange) Count {
	if !r.IsValid() {
		return Count{}
	}
	return distance(r.From(), r.To()).Add(CountOf(1))
}

// Nth returns the address of s with the index n, counting from 0, with IPv4 before IPv6. The result is false if n is
// [Size](s) or more. [Index] is its inverse. Cost: O(m) for m ranges, of any size.
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

// Index returns the index of addr among the addresses of s, counting from 0, with IPv4 before IPv6. The result is false
// if addr is not in s; an invalid address and an address with a zone never are. [Nth] is its inverse. Cost: O(m) for m
// ranges, of any size.
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

// rangesOf returns the ranges of s in order. No two of them overlap or touch.
func rangesOf(s *netipx.IPSet) []netipx.IPRange {
	if s == nil {
		return nil
	}
	return s.Ranges()
}

// build returns the set of a builder. The builder has no error, since it was given only valid ranges.
func build(b *netipx.IPSetBuilder) *netipx.IPSet {
	s, _ := b.IPSet()
	return s
}
