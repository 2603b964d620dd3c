// Package static reads configurations of static, the CNI plugin for fixed addresses, into the spec of a pool and the
// requests of a claim.
//
// It reads the configuration that a plugin gets on its standard input, a list of plugins as in /etc/cni/net.d, or a
// NetworkAttachmentDefinition. It accepts what static accepts, with the same meaning, except:
//
//   - IPv4-mapped addresses, IPv4 addresses with leading zeros, and duplicate fields are errors.
//   - It is an error if there are no addresses, if one is there twice, or if one is its own gateway.
//   - A gateway must be of the family of its address.
//
// static keeps no record, so any number of containers can have one address. A pool with [Config.Spec] records who has
// which address, so that the second container gets an error.
//
// Fields that static ignores are ignored here too; [Config] lists those of the section ipam. The value of ipam.type is
// not checked, so a plugin with another name can take over a configuration.
package static
