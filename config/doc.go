// Package config has the types that the readers of other systems' configurations share. The readers are its
// subpackages:
//
//   - [github.com/ipalloc/ipalloc/config/clusterapi]: pools of the Cluster API in-cluster IPAM provider.
//   - [github.com/ipalloc/ipalloc/config/hostlocal]: the CNI plugin host-local.
//   - [github.com/ipalloc/ipalloc/config/static]: the CNI plugin static.
//   - [github.com/ipalloc/ipalloc/config/whereabouts]: the CNI plugin Whereabouts.
//   - [github.com/ipalloc/ipalloc/config/manifest]: the three before it, in YAML.
//
// Each has a function Parse for bytes and a function ReadFile for a file. Both return the specs of pools, and whatever
// else a program needs to do that system's job, or an error that reports everything that is wrong.
//
// # What holds for all readers
//
// A configuration has at most [MaxBytes] bytes. The readers keep no state, do not change their arguments, and may be
// called concurrently. Parse reads no files; the caller reads any file that a configuration names. Parse takes O(bytes)
// of memory, and O(bytes) of time plus the time to check the spec, which is most of it for hundreds of subnets.
//
// An error joins a [*FieldError] for each fault. If there is no error, [github.com/ipalloc/ipalloc/pool.New] accepts
// the specs.
//
// The package comment of each reader lists where it differs from the system. In all of them an address must not have a
// zone or leading zeros, or be IPv4-mapped; a duplicate field is an error; and a subnet of length 31 or 32 (127 or 128
// for IPv6) reserves no addresses.
package config

// MaxBytes is the largest size of a configuration, in bytes: 1 MiB.
const MaxBytes = 1 << 20
