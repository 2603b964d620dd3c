package cidr

import (
	"iter"
	"net/netip"

	"go4.org/netipx"
)

// PrefixSize returns the number of addresses in p; 0 for an invalid prefix. Cost: O(1).
func PrefixSize(p netip.Prefix) Count {
	if !p.IsValid() {
		return Count{}
	}
	return Pow2(p.Addr().BitLen() - p.Bits())
}

// Usable returns the range of the addresses of p that hosts may have. In an IPv4 prefix those are all but
// the network address, which is the first, and the broadcast address, which is the last (RFC 1122 3.2.1.3,
// RFC 919). In an IPv6 prefix they are all but the first, the subnet-router anycast address (RFC 4291
// 2.6.1). In a point-to-point link and in a single address, /31 and /32 (RFC 3021), /127 and /128 (RFC
// 6164), they are all. For an invalid prefix the range is the zero one. [Reserved] lists the others.
//
// An IPv4-mapped prefix counts as IPv6. Cost: O(1).
func Usable(p netip.Prefix) netipx.IPRange {
	all := netipx.RangeOfPrefix(p)
	switch {
	case !all.IsValid(), pointToPoint(p):
		return all
	case p.Addr().Is4():
		return netipx.IPRangeFrom(all.From().Next(), all.To().Prev())
	default:
		return netipx.IPRangeFrom(all.From().Next(), all.To())
	}
}

// Reserved returns the addresses of p that are not in [Usable], in order: network and broadcast of an IPv4
// prefix, the subnet-router anycast address of an IPv6 prefix, and none for /31, /32, /127, /128 and
// invalid prefixes. Cost: O(1).
func Reserved(p netip.Prefix) []netip.Addr {
	all := netipx.RangeOfPrefix(p)
	switch {
	case !all.IsValid(), pointToPoint(p):
		return nil
	case p.Addr().Is4():
		return []netip.Addr{all.From(), all.To()}
	default:
		return []netip.Addr{all.From()}
	}
}

// pointToPoint reports whether p is so long that it has no reserved addresses.
func pointToPoint(p netip.Prefix) bool { return p.Addr().BitLen()-p.Bits() <= 1 }

// Split yields the subnets of p that have the given length in bits, in order. There are 2^(bits-p.Bits())
// of them. It yields none if bits is less than p's length or more than the family's 32 or 128, or if p is
// invalid. The sequence can be used more than once, and takes constant time and memory a subnet.
func Split(p netip.Prefix, bits int) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		subnet, ok := Subnet(p, bits, Count{})
		for ok && yield(subnet) {
			subnet = netip.PrefixFrom(netipx.PrefixLastIP(subnet).Next(), bits)
			ok = p.Contains(subnet.Addr())
		}
	}
}

// Subnet returns the subnet of p that [Split] yields after n others, in constant time. The result is false if Split
// yields n subnets or fewer. [SubnetIndex] is its inverse.
func Subnet(p netip.Prefix, bits int, n Count) (netip.Prefix, bool) {
	if !p.IsValid() || bits < p.Bits() || bits > p.Addr().BitLen() {
		return netip.Prefix{}, false
	}
	if n.Cmp(Pow2(bits-p.Bits())) >= 0 {
		return netip.Prefix{}, false
	}
	offset := n.shl(p.Addr().BitLen() - bits)
	return netip.PrefixFrom(advance(p.Masked().Addr(), offset), bits), true
}

// SubnetIndex returns how many subnets of the same length as subnet are in p before it, in constant time. It is the
// inverse of [Subnet]. The result is false if subnet is not in p, or if one of them is invalid.
func SubnetIndex(p, subnet netip.Prefix) (Count, bool) {
	if !p.IsValid() || !subnet.IsValid() || subnet.Bits() < p.Bits() || !p.Contains(subnet.Addr()) {
		return Count{}, false
	}
	offset := distance(p.Masked().Addr(), subnet.Addr())
	return offset.Rsh(subnet.Addr().BitLen() - subnet.Bits()), true
}

// Prefixes yields the shortest list of prefixes that together cover r exactly, in order; none for an
// invalid range. There are at most 62 for IPv4 and 254 for IPv6. The sequence can be used more than once;
// each use computes the whole list when it starts, in O(its length).
func Prefixes(r netipx.IPRange) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		for _, p := range r.Prefixes() {
			if !yield(p) {
				return
			}
		}
	}
}
