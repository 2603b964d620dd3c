package pool

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// familySets are what follows from a spec for one family.
type familySets struct {
	ranges   set          // of the pool, or all of its subnets
	exclude  set          // never to be handed out
	allowed  set          // to be handed out: the ranges, less all that is withheld
	gateways []netip.Addr // in order
	reserved []netip.Addr // by subnets, in order
}

// setsOf computes what follows from the spec for the family. Ranges that are not valid are left out. Cost: O(n log n)
// for n ranges, exclusions and subnets.
func (s Spec) setsOf(family Family) familySets {
	ranges := ofFamily(s.ranges(), family)
	f := familySets{ranges: setOf(ranges), exclude: setOf(ofFamily(s.Exclude, family))}
	for _, subnet := range s.Subnets {
		if subnet.Gateway.IsValid() && FamilyOf(subnet.Gateway) == family {
			f.gateways = append(f.gateways, subnet.Gateway)
		}
	}
	if !s.of(family).AllocateReserved && s.Bits(family) == family.Width() {
		for _, subnet := range s.subnetPrefixes(family, ranges) {
			f.reserved = append(f.reserved, cidr.Reserved(subnet)...)
		}
	}
	f.gateways, f.reserved = inOrder(f.gateways), inOrder(f.reserved)
	f.allowed = f.ranges
	for _, never := range []set{f.exclude, setOfAddrs(f.gateways), setOfAddrs(f.reserved), {mapped}} {
		f.allowed = f.allowed.minus(never)
	}
	return f
}

// inOrder sorts addresses, and returns each once.
func inOrder(addrs []netip.Addr) []netip.Addr {
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// setOfAddrs returns the set of addresses that are in order.
func setOfAddrs(addrs []netip.Addr) set {
	s := make(set, 0, len(addrs))
	for _, addr := range addrs {
		s = s.join(netipx.IPRangeFrom(addr, addr))
	}
	return s
}

// subnetPrefixes are the named subnets of the family or, if there are none, those of its ranges that are exactly a
// prefix and not part of another range.
func (s Spec) subnetPrefixes(family Family, ranges []netipx.IPRange) []netip.Prefix {
	var named, implied []netip.Prefix
	for _, subnet := range s.Subnets {
		if FamilyOf(subnet.Prefix.Addr()) == family {
			named = append(named, subnet.Prefix)
		}
	}
	if named != nil {
		return named
	}
	for _, r := range outerRanges(ranges) {
		if p, ok := r.Prefix(); ok {
			implied = append(implied, p)
		}
	}
	return implied
}

// outerRanges returns the ranges of one family that are not part of another one, in order, each once.
func outerRanges(ranges []netipx.IPRange) []netipx.IPRange {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b netipx.IPRange) int {
		return cmp.Or(byFrom(a, b), b.To().Compare(a.To()))
	})
	var outer []netipx.IPRange
	for _, r := range sorted {
		if len(outer) == 0 || outer[len(outer)-1].To().Less(r.To()) {
			outer = append(outer, r)
		}
	}
	return outer
}

// ofFamily returns the valid ranges of a family.
func ofFamily(ranges []netipx.IPRange, family Family) []netipx.IPRange {
	of := make([]netipx.IPRange, 0, len(ranges))
	for _, r := range ranges {
		if r.IsValid() && FamilyOf(r.From()) == family {
			of = append(of, r)
		}
	}
	return of
}

// whyNot says why p, which is of the family, is not handed out. Cost: O(log ranges).
func (f *familySets) whyNot(p netip.Prefix) string {
	r := netipx.RangeOfPrefix(p)
	switch {
	case !f.ranges.contains(r):
		return "it is outside of the ranges"
	case f.exclude.overlaps(r):
		return "it is excluded"
	case mapped.Overlaps(r):
		return "it has IPv4-mapped IPv6 addresses"
	}
	if gateway, found := firstIn(f.gateways, p); found {
		return fmt.Sprintf("%v is a gateway", gateway)
	}
	if addr, found := firstIn(f.reserved, p); found {
		return fmt.Sprintf("%v is reserved as the first or last address of its subnet", addr)
	}
	return "it is withheld"
}
