// Package config holds what the readers of other systems' configurations share. The readers are its subpackages:
//
//   - [github.com/ipalloc/ipalloc/config/clusterapi]: pools of the Cluster API in-cluster IPAM provider.
//   - [github.com/ipalloc/ipalloc/config/hostlocal]: the CNI plugin host-local.
//   - [github.com/ipalloc/ipalloc/config/whereabouts]: the CNI plugin Whereabouts.
//
// Each has a function Parse for the bytes, and ReadFile for a file. Both return the specs of pools and what else a
// program needs to do the system's job, or an error that reports all that is wrong.
//
// # What holds for all readers
//
// A configuration has at most [MaxBytes] bytes. The readers keep no state, change none of their arguments, and may be
// called concurrently. Parse reads no files, so a file that a configuration names is left to the caller. Parse takes
// O(bytes) of memory, and O(bytes) of time beside what checking a spec takes; for hundreds of subnets that is the most.
//
// An error joins a [*FieldError] for each thing that is wrong. What a reader returns without an error makes a pool:
// [github.com/ipalloc/ipalloc/pool.New] accepts its specs.
//
// Where a system accepts what makes no sense, or what this library decides otherwise, the package comment of its reader
// says so. In all of them an address has no zone, no leading zeros and is not IPv4-mapped; a field that stands twice is
// an error; and a subnet of length 31 or 32 (127 or 128 for IPv6) reserves no addresses.
package config

// MaxBytes is the largest size of a configuration, in bytes: 1 MiB.
const MaxBytes = 1 << 20
