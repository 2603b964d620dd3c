// Package ipalloc is the root of a library that hands out IP addresses and prefixes. It holds
// no code; import what you need:
//
//   - [github.com/ipalloc/ipalloc/pool]: pools of addresses, held by owners. Claims are granted whole or not at all,
//     and the same owner gets the same answer, also after a crash and from another process. Start here.
//   - [github.com/ipalloc/ipalloc/allocator]: which addresses of a set are free, and the lowest free one or aligned
//     prefix, with no I/O. For programs whose own objects are the source of truth.
//   - [github.com/ipalloc/ipalloc/cidr]: text to ranges and sets, exact counts past 2^64, the
//     n-th address, set algebra.
//   - [github.com/ipalloc/ipalloc/store]: the contract between a pool and the place where it is kept, and a store in
//     memory. Drivers are modules of their own, such as github.com/ipalloc/ipalloc/store/bolt for one file.
//
// The module github.com/ipalloc/ipalloc/config reads the configurations of other systems into specs of pools.
package ipalloc
