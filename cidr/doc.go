// Package cidr parses IP addresses, prefixes and ranges, counts addresses exactly, and computes with sets of them. It
// uses the types of [net/netip] and [go4.org/netipx], and adds [Count] for numbers of addresses, which may exceed 64
// bits.
//
// # Text
//
// A text has one of four forms: an address, a CIDR, a range, or a range with the length of the subnet that contains it:
//
//	192.0.2.7
//	192.0.2.0/24
//	192.0.2.10-192.0.2.20
//	192.0.2.10-192.0.2.20/24
//
// IPv6 has the same forms, as in 2001:db8::10-2001:db8::ffff/64.
//
// [ParseAddr], [ParsePrefix], [ParseRange], [ParseRanges] and [ParseSet] parse texts strictly, by the rules listed
// under [Parser]. A Parser can relax two of the rules. The error for a text that breaks a rule is a [*ParseError],
// which names the rule. [FormatRange] and [FormatSet] do the reverse: they return text that parses as the same value.
//
// # Sets
//
// [SetOf] makes a set, and [Union], [Difference], [Intersection] and [Overlaps] compute with sets. [Size] counts the
// addresses of a set. [Nth] returns the address at an index, and [Index] the index of an address. Addresses are ordered
// as by [netip.Addr.Compare]: IPv4 before IPv6, and by number within a family.
//
// # Prefixes
//
// [Usable] returns the addresses of a prefix that hosts may have, and [Reserved] the others. [Split] divides a prefix
// into subnets, [Subnet] returns the subnet at an index, and [SubnetIndex] the index of a subnet. [Prefixes] covers a
// range with prefixes.
//
// # Conventions
//
// No function panics. A nil set is empty, and a returned set is never nil. An invalid address, range or prefix contains
// no address. The host bits of a prefix argument are ignored.
//
// An IPv4-mapped IPv6 address (in ::ffff:0:0/96) is an IPv6 address, as in package netip, and is never converted to
// IPv4. As text it is an error. An address with a zone is in no set, and ranges, prefixes and sets have no zones.
//
// All functions are safe for concurrent use. They keep no state and do not change their arguments.
package cidr
