// Package ipalloc is the root of a library that hands out IP addresses and prefixes. It has no code of its own;
// import what you need:
//
//   - [github.com/ipalloc/ipalloc/pool]: pools, from which owners claim addresses. A claim is granted whole or not at
//     all, and an owner that claims again gets the same answer, even after a crash or from another process. Start here.
//   - [github.com/ipalloc/ipalloc/allocator]: which addresses of a set are free, and the lowest free address or aligned
//     prefix, without I/O. It is for programs whose own objects are the source of truth.
//   - [github.com/ipalloc/ipalloc/cidr]: text to ranges and sets, exact counts past 2^64, the n-th address, set
//     algebra.
//   - [github.com/ipalloc/ipalloc/store]: the contract between a pool and the store that keeps it, and a store in
//     memory. Each driver is a module of its own, such as github.com/ipalloc/ipalloc/store/bolt for one file.
//
// The module github.com/ipalloc/ipalloc/config turns the configurations of other systems into specs of pools.
package ipalloc
