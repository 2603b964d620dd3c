// Package whereabouts reads configurations of Whereabouts, the IPAM plugin of CNI for whole clusters, into the specs of
// pools and the requests of a claim.
//
// It reads the configuration that a plugin gets on its standard input, a list of plugins, or a
// NetworkAttachmentDefinition. It accepts what Whereabouts accepts, with the same meaning, except:
//
//   - An invalid address or CIDR is an error in every field; so are IPv4 addresses with leading zeros, IPv4-mapped
//     addresses, and duplicate fields.
//   - A range_start or range_end outside its range is an error; Whereabouts ignores it. A range without an address to
//     hand out is an error too.
//   - The gateway is never handed out; Whereabouts hands it out unless it is excluded.
//   - The last address of an IPv6 subnet is handed out, and the size of IPv6 ranges is not limited.
//   - The node_slice_size must fit the first range.
//
// As in Whereabouts, the host bits of a CIDR are masked: 192.0.2.225/28 means all of 192.0.2.224/28.
//
// Fields that Whereabouts ignores are ignored here too; [Config] lists those of the section ipam. The value of
// ipam.type is not checked, so a plugin with another name can take over a configuration. The file that
// configuration_path names, which may hold defaults for the section ipam, is not read.
//
// # Overlapping ranges and networks
//
// Whereabouts has a pool for each range. By default, if configurations have the same network_name or none, it gives no
// address twice even if their ranges overlap. To get the same here, let all of them share one pool, whose spec has the
// ranges of all: [Config.Spec] has those of one configuration, and the Ranges of several such specs may be appended.
// [Config.Requests] keeps each claim within the ranges of its own configuration. Without enable_overlapping_ranges,
// make a pool for each [Range], with the spec of the range.
package whereabouts
