// Package hostlocal reads configurations of host-local, the IPAM plugin of CNI, into the spec of a pool and the
// requests of a claim.
//
// It reads what a plugin gets on its standard input, a list of plugins as in /etc/cni/net.d, and a
// NetworkAttachmentDefinition. All that host-local accepts, it accepts, with the same meaning, but for this:
//
//   - Addresses that are IPv4-mapped, IPv4 addresses with leading zeros, and fields that stand twice are errors.
//   - A gateway of another family than its subnet is an error, and so are two subnets that overlap but are not the
//     same.
//   - A range without addresses is an error, and so is a set that has nothing left to hand out.
//   - The first address of a subnet, and the last of an IPv4 subnet, are not handed out, even if a range has them.
//     host-local hands them out if rangeStart or rangeEnd says so.
//   - A gateway is not handed out by any range, not only by its own.
//   - A subnet of length 31 or 32, or 127 or 128 for IPv6, which host-local refuses, is wholly usable. It has no
//     gateway unless it names one.
//   - An owner that asks again gets what it holds. host-local returns an error.
//
// Fields that host-local ignores are ignored here too; [Config] lists those of the section ipam. What ipam.type says is
// not checked, so that a plugin of another name can take over a configuration.
package hostlocal
