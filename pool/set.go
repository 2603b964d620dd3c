package pool

import (
	"cmp"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// set is a set of addresses: valid ranges in order, IPv4 before IPv6, of which none overlap and none touch. It is never
// changed. In contrast to a [netipx.IPSet], it can be searched in O(log ranges), and looked at without a copy.
type set []netipx.IPRange

// setOf returns the set of the addresses in ranges, which are valid and may overlap. Cost: O(n log n) for n ranges, and
// O(n) if they are in order.
func setOf(ranges []netipx.IPRange) set {
	ordered := ranges
	if !slices.IsSortedFunc(ranges, byFrom) {
		ordered = slices.Clone(ranges)
		slices.SortFunc(ordered, byFrom)
	}
	merged := make(set, 0, len(ordered))
	for _, r := range ordered {
		merged = merged.join(r)
	}
	return merged
}

// join adds a range that does not start before the last one.
func (s set) join(r netipx.IPRange) set {
	if len(s) == 0 {
		return append(s, r)
	}
	last := &s[len(s)-1]
	switch {
	case r.To().Compare(last.To()) <= 0:
	case r.From().Compare(last.To()) <= 0 || last.To().Next() == r.From():
		*last = netipx.IPRangeFrom(last.From(), r.To())
	default:
		return append(s, r)
	}
	return s
}

// byFrom orders ranges by their first address.
func byFrom(a, b netipx.IPRange) int { return a.From().Compare(b.From()) }

// from returns the index of the first range that ends at addr or above.
func (s set) from(addr netip.Addr) int {
	i, _ := slices.BinarySearchFunc(s, addr, func(r netipx.IPRange, addr netip.Addr) int { return r.To().Compare(addr) })
	return i
}

// contains reports whether all of r is in the set. Cost: O(log ranges).
func (s set) contains(r netipx.IPRange) bool {
	i := s.from(r.From())
	return i < len(s) && s[i].Contains(r.From()) && s[i].Contains(r.To())
}

// overlaps reports whether any of r is in the set. Cost: O(log ranges).
func (s set) overlaps(r netipx.IPRange) bool {
	i := s.from(r.From())
	return i < len(s) && s[i].Overlaps(r)
}

// minus returns what is in s and not in other. Cost: O(ranges of both), and nothing if the one lies beside the other.
func (s set) minus(other set) set {
	if len(s) == 0 || len(other) == 0 || s[len(s)-1].To().Less(other[0].From()) ||
		other[len(other)-1].To().Less(s[0].From()) {
		return s
	}
	rest := make(set, 0, len(s)+len(other))
	for _, r := range s {
		for len(other) > 0 && other[0].To().Less(r.From()) {
			other = other[1:]
		}
		rest = appendRest(rest, r, other)
	}
	return rest
}

// appendRest appends what is in r and not in other, none of which is before r.
func appendRest(rest set, r netipx.IPRange, other set) set {
	from := r.From()
	for _, hole := range other {
		if r.To().Less(hole.From()) {
			break
		}
		if from.Less(hole.From()) {
			rest = append(rest, netipx.IPRangeFrom(from, hole.From().Prev()))
		}
		if !hole.To().Less(r.To()) {
			return rest
		}
		from = hole.To().Next()
	}
	return append(rest, netipx.IPRangeFrom(from, r.To()))
}

// and returns what is in both. Cost: O(ranges of the smaller one × log ranges of the larger one + ranges returned).
func (s set) and(other set) set {
	if len(other) < len(s) {
		s, other = other, s
	}
	common := make(set, 0, len(s))
	for _, r := range s {
		for _, o := range other[other.from(r.From()):] {
			if r.To().Less(o.From()) {
				break
			}
			common = append(common, netipx.IPRangeFrom(later(r.From(), o.From()), earlier(r.To(), o.To())))
		}
	}
	return common
}

// size is the number of addresses.
func (s set) size() cidr.Count {
	var sum cidr.Count
	for _, r := range s {
		sum = sum.Add(cidr.RangeSize(r))
	}
	return sum
}

// ipSet is the set as others know it. Cost: O(ranges).
func (s set) ipSet() *netipx.IPSet { return cidr.SetOf(s...) }

// hasRoom reports whether an aligned prefix of the length lies in the set. Cost: O(ranges).
func (s set) hasRoom(bits int) bool {
	return slices.ContainsFunc(s, func(r netipx.IPRange) bool {
		p := netip.PrefixFrom(r.From(), bits).Masked()
		if p.Addr() != r.From() { // the next one is the first that starts in the range
			next := netipx.PrefixLastIP(p).Next()
			if !next.IsValid() {
				return false
			}
			p = netip.PrefixFrom(next, bits)
		}
		return p.IsValid() && r.Contains(p.Addr()) && r.Contains(netipx.PrefixLastIP(p))
	})
}

func later(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return b
	}
	return a
}

func earlier(a, b netip.Addr) netip.Addr {
	if b.Less(a) {
		return b
	}
	return a
}

// firstIn returns the first of the addresses, which are in order, that lies in p; false if there is none.
// Cost: O(log addresses).
func firstIn(addrs []netip.Addr, p netip.Prefix) (netip.Addr, bool) {
	i, _ := slices.BinarySearchFunc(addrs, p.Addr(), netip.Addr.Compare)
	if i < len(addrs) && p.Contains(addrs[i]) {
		return addrs[i], true
	}
	return netip.Addr{}, false
}

// comparePrefixes orders prefixes by address, and larger ones before those that lie in them.
func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
