// Package hostlocal reads configurations of host-local, the IPAM plugin of CNI, into the spec of a pool and the
// requests of a claim.
//
// It reads the configuration that a plugin gets on its standard input, a list of plugins as in /etc/cni/net.d, or a
// NetworkAttachmentDefinition. It accepts what host-local accepts, with the same meaning, except:
//
//   - IPv4-mapped addresses, IPv4 addresses with leading zeros, and duplicate fields are errors.
//   - A gateway of another family than its subnet is an error, and so are two subnets that overlap but are not the
//     same.
//   - A range without addresses is an error, and so is a set without an address to hand out.
//   - The first address of a subnet, and the last of an IPv4 subnet, are not handed out, even if a range has them.
//     host-local hands them out if rangeStart or rangeEnd names them.
//   - No range hands out a gateway, whether or not it is the range's own.
//   - All addresses of a subnet of length 31 or 32 (127 or 128 for IPv6) are usable; host-local refuses such a subnet.
//     It has no gateway unless the configuration names one.
//   - An owner that asks again gets what it holds; host-local returns an error.
//
// Fields that host-local ignores are ignored here too; [Config] lists those of the section ipam. The value of ipam.type
// is not checked, so a plugin with another name can take over a configuration.
package hostlocal
