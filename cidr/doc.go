// Package cidr turns the text of IP ranges into ranges and sets, counts their addresses exactly, and
// computes with them. It works on the types of [net/netip] and [go4.org/netipx] and adds none of its own
// but [Count], the size of a set.
//
// # Text
//
// One text is an address, a CIDR, two bounds "a-b", or two bounds with the length of the subnet that
// holds them, "a-b/len":
//
//	192.0.2.7
//	192.0.2.0/24
//	192.0.2.10-192.0.2.20
//	192.0.2.10-192.0.2.20/24
//	2001:db8::10-2001:db8::ffff/64
//
// [ParseAddr], [ParsePrefix], [ParseRange] and [ParseSet] read it, and state its rules under [Parser],
// which can also mask the host bits of a CIDR. What breaks a rule is refused with a [*ParseError] that
// says which. [FormatRange] and [FormatSet] write the text that reads back as the same value.
//
// # Sets
//
// [SetOf], [Union], [Difference], [Intersection] and [Overlaps] compute with sets. [Size] counts the
// addresses of one, [Nth] finds the address at an index, and [Index] the index of an address. The order is
// that of [netip.Addr.Compare]: IPv4 before IPv6, and by number within a family.
//
// # Prefixes
//
// [Usable] and [Reserved] tell the addresses that hosts may have from those that the protocols keep.
// [Split] and [Subnet] cut a prefix into subnets, and [Prefixes] covers a range with prefixes.
//
// # What holds everywhere
//
// No function panics, whatever it is given. A nil set is an empty one; sets that are returned are never
// nil. An invalid address, range or prefix holds no address. Prefixes need not be masked: their host bits
// are ignored. An IPv4-mapped IPv6 address (::ffff:0:0/96) that comes as a value is the IPv6 address that
// it is and is never unmapped; as text it is refused. An address with a zone is in no set; ranges,
// prefixes and sets carry no zones.
//
// All functions may be called concurrently: they keep no state and change no argument.
package cidr
