// Package allocator keeps which addresses of a set are free, and hands out the lowest one, or the lowest aligned prefix of any
// length, at a cost that does not depend on how large, how full or how fragmented the set is.
//
// It is the part of this library that does no I/O. A controller whose own objects are the source of truth marks what these
// hold and asks for the next free one:
//
//	a, err := allocator.New(set)        // all of it free
//	err = a.Take(p)                     // for each prefix that an object holds
//	p, err := a.TakeFirst(32)           // the lowest free address
//	err = a.Release(p)                  // free again
//
// Owners, rules, persistence and several processes are the business of package pool, which uses this one.
//
// # Lengths
//
// A prefix is the unit. An address is a /32 or a /128, a node's CIDR a /24, and one allocator hands out any lengths mixed. What was
// taken as one prefix may be released in parts, and the other way round. A prefix always starts at a multiple of its size.
//
// # Structure
//
// Addresses are six bits at a time: a word of 64 bits has one bit an address, a page has 64 words, and above are nodes with 64
// slots each. A word, page or slot that is all free or all taken is one bit in the node above it, and a node with nothing to tell
// but where its only child is stands nowhere. Each node knows the largest free block beneath it, so that finding one is a walk
// down that never turns back. So an operation costs O(levels), which is at most 6 for IPv4 and 22 for IPv6 and in practice 2 to 4;
// packed space costs next to nothing, fragmented space about a bit an address, and an isolated address of a sparse IPv6
// subnet about 80 bytes.
//
// The words stand in one slice with free lists by size, rather than each in a bitset of its own: a page needs a few of them, of a
// fixed number of bits, and finds its first free one through the node's masks.
package allocator
