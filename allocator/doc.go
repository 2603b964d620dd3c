// Package allocator keeps track of which addresses of a set are free, and hands out the lowest free address or the
// lowest free prefix of a length. The cost does not depend on how large, how full or how fragmented the set is.
//
// The package does no I/O. It is for a program that already has a record of what is in use, such as a controller with
// objects in an API server. The program marks what its objects hold, and asks for the next free address or prefix:
//
//	a, err := allocator.New(set)     // every address is free
//	n, err := a.Occupy(r)            // mark a range that an object holds, whatever of it is marked already
//	p, err := a.TakeFirst(32)        // take the lowest free address
//	err = a.Release(p)               // free it again
//
// Package pool builds on this one. It adds owners, rules, persistence, and access by several processes.
//
// # Prefixes
//
// The unit is a prefix: an address is a /32 or a /128, and the network of a node may be a /24. One allocator hands out
// prefixes of any mix of lengths. A prefix always starts at a multiple of its size. A prefix that was taken whole may
// be released in parts, and prefixes that were taken one by one may be released as one.
//
// # Cost
//
// The addresses are in a tree of bitmaps. A node has 64 slots, and a slot that is entirely free or entirely taken is
// one bit. An operation walks down one path of the tree: at most 6 nodes for IPv4 and 22 for IPv6, and 2 to 4 in
// practice. Each node knows the size of the largest free block below it, so a search never turns back.
//
// Packed space takes almost no memory, fragmented space takes about one bit for each address, and an isolated address
// in a sparse IPv6 subnet takes about 80 bytes. In steady state, operations allocate nothing on the heap.
package allocator
