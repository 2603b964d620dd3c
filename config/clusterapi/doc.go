// Package clusterapi reads the pools of the Cluster API in-cluster IPAM provider, as people write them in YAML or JSON,
// into specs of this library's pools.
//
// It knows the kinds of the group ipam.cluster.x-k8s.io that make pools: [KindNamespaced] and [KindGlobal] in v1alpha1
// and v1alpha2, whose pools hand out addresses, and [KindPrefix] and [KindGlobalPrefix] in v1alpha2, whose pools hand
// out IPv6 prefixes. What the provider accepts, this package accepts, and the pool hands out the same addresses. It
// differs in this:
//
//   - A field that does not exist is an error, as it is for kubectl unless that is told otherwise; the API server alone
//     would drop it.
//   - Addresses that are IPv4-mapped or have a zone are errors.
//   - A boolean is true or false. The words yes and on, which are booleans in old YAML, are errors.
//   - A pool that has nothing left to hand out is an error.
//   - A subnet of length 31 or 32, or 127 or 128 for IPv6, reserves nothing (RFC 3021, RFC 6164). There too the
//     provider withholds the first address, and for IPv4 the last.
//   - The end of a grace period is counted from the release, not from the deletion of a claim, and the last owner may
//     have its address back before.
//
// # Version v1alpha1
//
// Its subnet, start, end, prefix and addresses are read as the provider converts them to v1alpha2. With a subnet, a
// missing start is the second address of it, a missing end the last but one, also for IPv6, and a missing prefix its
// length. Start and end make one range, which is added to the addresses, and need not lie in the subnet; nor need the
// prefix be its length. A start or an end alone, without a subnet, means nothing.
//
// In a subnet of one or two addresses, a missing start is the first address and a missing end the last one. The
// provider refuses such a pool.
package clusterapi
