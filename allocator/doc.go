// Package allocator keeps which addresses of a set are free, and hands out the lowest one, or the lowest aligned prefix
// of any length, at a cost that does not depend on how large, how full or how fragmented the set is.
//
// It is the part of this library that does no I/O. A controller whose own objects are the source of truth marks what
// these hold and asks for the next free one:
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
// A prefix is the unit. An address is a /32 or a /128, a node's CIDR a /24, and one allocator hands out
// any lengths mixed. A prefix that was taken whole may be released in parts, and the other way round. A
// prefix always starts at a multiple of its size.
//
// # Cost
//
// An operation walks down a tree of bitmaps with 64 slots a node, in which a stretch that is all free or all
// taken is one bit. That is 2 to 4 nodes in practice, at most 6 for IPv4 and 22 for IPv6. Each node knows
// the largest free block beneath it, so the walk never turns back. Packed space costs next to nothing,
// fragmented space about a bit an address, and an isolated address of a sparse IPv6 subnet about 80 bytes.
// In steady state nothing is allocated on the heap.
//
// The words of the bitmaps stand in one slice, with free lists by size, rather than each page in a bitset of its own:
// that saves a pointer and a header a page, and the first free bit is found through the masks of the node above.
package allocator
