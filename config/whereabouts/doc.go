// Package whereabouts reads configurations of Whereabouts, the IPAM plugin of CNI for whole clusters, into the specs of
// pools and the requests of a claim.
//
// It reads what a plugin gets on its standard input, a list of plugins, and a NetworkAttachmentDefinition. What
// Whereabouts accepts, it accepts, with the same meaning, but for this:
//
//   - An address or a CIDR that is not one is an error everywhere; so are IPv4 addresses with leading zeros, addresses
//     that are IPv4-mapped, and fields that stand twice.
//   - A range_start or range_end outside of its range, which Whereabouts ignores, is an error. So is a range that is
//     empty or has nothing left to hand out.
//   - The gateway is never handed out. Whereabouts hands it out unless it is excluded.
//   - The last address of an IPv6 subnet is handed out, and IPv6 ranges have no bound of size.
//   - The node_slice_size must fit the first range.
//
// Of a CIDR the host bits are masked, as in Whereabouts: 192.0.2.225/28 means all of 192.0.2.224/28.
//
// Fields that Whereabouts ignores are ignored here too; [Config] lists those of the section ipam. What ipam.type says
// is not checked, so that a plugin of another name can take over a configuration. The file that configuration_path
// names, which may hold defaults for the section ipam, is not read.
//
// # Overlapping ranges and networks
//
// Whereabouts has a pool for each range, and by default gives no address twice in ranges that overlap, if their
// configurations have the same network_name, or none. The same is true here if all of them share one pool, whose spec
// has the ranges of all: [Config.Spec] has those of one configuration, and the Ranges of several such specs may be
// appended. [Config.Requests] keeps each claim within the ranges of its own configuration. Without
// enable_overlapping_ranges, each [Range] has a pool of its own, with the spec of the range.
package whereabouts
