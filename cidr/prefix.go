package cidr

import (
	"iter"
	"net/netip"

	"go4.org/netipx"
)

// PrefixSize returns the number of addresses in p, which is 0 for an invalid prefix. Cost: O(1).
func PrefixSize(p netip.Prefix) Count {
	if !p.IsValid() {
		return Count{}
	}
	return Pow2(p.Addr().BitLen() - p.Bits())
}

// Usable returns the range of the addresses of p that hosts may have:
//
//   - of an IPv4 prefix, all except the first, the network address, and the last, the broadcast address (RFC 1122
//     3.2.1.3, RFC 919);
//   - of an IPv6 prefix, all except the first, the subnet-router anycast address (RFC 4291 2.6.1);
//   - of a /31 (RFC 3021), /32, /127 (RFC 6164) or /128, all.
//
// The result is the zero range if p is invalid. [Reserved] returns the other addresses. A prefix of IPv4-mapped IPv6
// addresses is treated as IPv6. Cost: O(1).
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

// Reserved returns the addresses of p that are not in the range that [Usable] returns, in order. Those are the network
// address and the broadcast address of an IPv4 prefix, and the subnet-router anycast address of an IPv6 prefix. There
// are none for a /31, /32, /127 or /128, and for an invalid prefix. Cost: O(1).
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

// Split returns an iterator over the subnets of p with the length bits, in order. There are 2^(bits-p.Bits()) of them.
// It yields none if p is invalid, if bits is less than p.Bits(), or if bits is more than 32 for IPv4 or 128 for IPv6.
// The iterator can be used more than once. Cost: O(1) for each subnet.
func Split(p netip.Prefix, bits int) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		subnet, ok := Subnet(p, bits, Count{})
		for ok && yield(subnet) {
			subnet = netip.PrefixFrom(netipx.PrefixLastIP(subnet).Next(), bits)
			ok = p.Contains(subnet.Addr())
		}
	}
}

// Subnet returns the subnet of p with the length bits that has the index n, counting from 0, in the order of [Split].
// The result is false if Split yields n subnets or fewer. [SubnetIndex] is its inverse. Cost: O(1).
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

// SubnetIndex returns the index of subnet, counting from 0, among the subnets of p with its length, in the order of
// [Split]. The result is false if subnet is not in p, or if either is invalid. [Subnet] is its inverse. Cost: O(1).
func SubnetIndex(p, subnet netip.Prefix) (Count, bool) {
	if !p.IsValid() || !subnet.IsValid() || subnet.Bits() < p.Bits() || !p.Contains(subnet.Addr()) {
		return Count{}, false
	}
	offset := distance(p.Masked().Addr(), subnet.Addr())
	return offset.Rsh(subnet.Addr().BitLen() - subnet.Bits()), true
}

// Prefixes returns an iterator over the fewest prefixes that cover r exactly, in order: at most 62 for IPv4 and 254 for
// IPv6. It yields none if r is invalid. The iterator can be used more than once. Cost: O(prefixes), for all of them
// before the first is yielded.
func Prefixes(r netipx.IPRange) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		for _, p := range r.Prefixes() {
			if !yield(p) {
				return
			}
		}
	}
}
