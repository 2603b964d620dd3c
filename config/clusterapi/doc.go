// Package clusterapi reads the pools of the Cluster API in-cluster IPAM provider, as people write them in YAML or JSON,
// into specs of this library's pools.
//
// It knows the kinds of the group ipam.cluster.x-k8s.io that make pools: [KindNamespaced] and [KindGlobal] in v1alpha1
// and v1alpha2, whose pools hand out addresses, and [KindPrefix] and [KindGlobalPrefix] in v1alpha2, whose pools hand
// out IPv6 prefixes. It accepts what the provider accepts, and the pool hands out the same addresses, except:
//
//   - An unknown field is an error, as it is by default for kubectl; the API server alone would drop it.
//   - Addresses that are IPv4-mapped or have a zone are errors.
//   - A boolean is true or false. The words yes and on, which are booleans in old YAML, are errors.
//   - A pool without an address to hand out is an error.
//   - A subnet of length 31 or 32, or 127 or 128 for IPv6, reserves nothing (RFC 3021, RFC 6164). The provider
//     withholds the first address there too, and for IPv4 the last.
//   - A grace period begins with the release, not with the deletion of a claim, and the last owner can get its address
//     back before it ends.
//
// # More than the provider has
//
// In v1alpha2 a spec may have four more fields, which are in the definitions of examples/clusterapi:
//
//	network: blue                          # pools of one network must not overlap
//	externalAddresses: [192.0.2.200-192.0.2.250]  # what others hand out in the network, such as a DHCP server
//	drain: true                            # the pool may give up addresses that are held
//	dualStackPool: machines-v6             # where a claim gets its address of the other family; not for prefixes
//
// # Version v1alpha1
//
// Its subnet, start, end, prefix and addresses are read as the provider converts them to v1alpha2. With a subnet, a
// missing start means its second address, a missing end its last but one (for IPv6 too), and a missing prefix its
// length. Start and end make one range, which is added to the addresses. They need not lie in the subnet, and the
// prefix need not be its length. A start or an end alone, without a subnet, has no effect.
//
// In a subnet of one or two addresses, a missing start means the first address and a missing end the last. The provider
// refuses such a pool.
package clusterapi
