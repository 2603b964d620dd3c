package whereabouts

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/internal/cni"
	"github.com/ipalloc/ipalloc/config/internal/tree"
	"github.com/ipalloc/ipalloc/pool"
)

// pluginType is how ipam.type names Whereabouts.
const pluginType = "whereabouts"

// Config is a configuration of Whereabouts.
//
// The zero Config is not useful. A Config may be copied; the copy shares its slices. It may be used concurrently.
type Config struct {
	// Name is the name of the network of CNI, or of the NetworkAttachmentDefinition if that has none; empty if there is
	// none either. It does not matter for addresses.
	Name string
	// Namespace is that of a NetworkAttachmentDefinition, "default" if it names none; empty for other forms.
	Namespace string
	// CNIVersion is the version of CNI that the network asks for; empty if it says none.
	CNIVersion string
	// Type is ipam.type, the name of the plugin.
	Type string
	// NetworkName is network_name, any text. Configurations with the same network_name, or none, share their addresses;
	// others are independent.
	NetworkName string
	// OverlappingRanges is enable_overlapping_ranges: if true, no address is given twice in ranges that overlap.
	// Default: true.
	OverlappingRanges bool
	// Ranges are the ranges, at least one: that of the section ipam itself first, then those of ipRanges. A container
	// gets one address from each.
	Ranges []Range
	// NodeSliceBits is node_slice_size: the prefix length, in bits, of the block of the first range that each node
	// gets. 0 means that nodes get no blocks.
	NodeSliceBits int
	// Gateway is the gateway for each address, even one of another family; the zero Addr if there is none. It may lie
	// outside all ranges.
	Gateway netip.Addr
	// Addresses are further addresses that each container gets, unchanged.
	Addresses []Address
	// Requested are the addresses that args.cni.ips and runtimeConfig.ips ask for, without their lengths. Whereabouts
	// ignores them.
	Requested []netip.Addr
	// Routes and DNS are returned by the plugin in its result.
	Routes []config.Route
	DNS    config.DNS
	// ReconcilerSchedule is reconciler_cron_expression, which is not checked; empty if there is none.
	ReconcilerSchedule string
	// ConfigurationPath is a file with defaults for the section ipam, which is not read; empty if there is none.
	ConfigurationPath string
	// Ignored are the paths of fields in the section ipam that Whereabouts ignores: misspelled fields, exclusions of
	// another family than their range, and fields that other fields override.
	Ignored []string
}

// Range is a range of addresses. The zero Range is not valid.
type Range struct {
	// Subnet is the network, without host bits. Its prefix length goes with each address.
	Subnet netip.Prefix
	// Addresses are those from range_start to range_end. A missing bound means the first or last usable address of the
	// subnet; with enable_l3 all addresses are usable. The pool does not hand out reserved or excluded addresses, or
	// the gateway.
	Addresses netipx.IPRange
	// Spec is the spec of a pool for the range alone. It is valid.
	Spec pool.Spec
}

// Set returns what the range hands out: Addresses without those that are reserved, excluded or the gateway. It is never
// empty. Cost: O(n log n) for n exclusions.
func (r Range) Set() *netipx.IPSet { return r.Spec.Set(pool.FamilyOf(r.Subnet.Addr())) }

// Address is an address that a configuration gives to each container. The zero Address is not valid.
type Address struct {
	// Address is the address with the prefix length of its subnet; host bits are kept.
	Address netip.Prefix
	// Gateway is the gateway that goes with it; the zero Addr if there is none.
	Gateway netip.Addr
}

// Spec returns the spec of one pool for all ranges, which may overlap. It is valid. It has only ranges: the addresses
// that the ranges of the configuration hand out. It has no subnets, since those may overlap. Cost: O(n log n) for n
// ranges and exclusions.
func (c Config) Spec() pool.Spec {
	all := pool.FamilySpec{AllocateReserved: true}
	spec := pool.Spec{IPv4: all, IPv6: all}
	for _, r := range c.Ranges {
		spec.Ranges = append(spec.Ranges, r.Set().Ranges()...)
	}
	return spec
}

// Requests returns the requests of a claim for one address of each range, in the order of the ranges. Cost: as for
// Spec.
func (c Config) Requests() []pool.Request {
	requests := make([]pool.Request, len(c.Ranges))
	for i, r := range c.Ranges {
		requests[i] = pool.Request{Within: r.Set()}
	}
	return requests
}

// ReadFile reads the configuration in the file at path, as [Parse] does. It must be a regular file. Errors name the
// file, and each [*config.FieldError] its line.
func ReadFile(path string) (Config, error) { return tree.ReadFile(path, tree.JSON, Read) }

// Parse reads one configuration in JSON. From a list of plugins it takes the first whose ipam.type is whereabouts, else
// the first with a section ipam.
//
// The error joins a [*config.FieldError] for each fault; the Config is then the zero Config.
func Parse(data []byte) (Config, error) { return Read(tree.JSON(data)) }

// Read reads one configuration as [Parse] does, in a text that package manifest has read, which may be YAML:
//
//	c, err := manifest.Parse(data, whereabouts.Read)
func Read(text tree.Documents) (Config, error) {
	var report tree.Report
	network, ok := cni.Read(text, pluginType, &report)
	if !ok {
		return Config{}, report.Err()
	}
	c := Config{Name: network.Name, Namespace: network.Namespace, CNIVersion: network.Version}
	c.readRest(network.IPAM)
	args, runtime := cni.WantedAddresses(network.Plugin)
	c.Requested = cni.Addrs(append(args, runtime...)...)
	c.readRanges(network.IPAM)
	c.readSliceSize(network.IPAM.Field("node_slice_size"))
	if err := report.Err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// readRest reads all but the ranges.
func (c *Config) readRest(ipam tree.Object) {
	c.Type = ipam.Field("type").TextOr("")
	c.NetworkName = ipam.Field("network_name").TextOr("")
	c.OverlappingRanges = ipam.Field("enable_overlapping_ranges").Flag(true)
	c.Gateway = cni.AddrOrNone(ipam.Field("gateway"))
	c.Routes = cni.Routes(ipam.Field("routes"))
	c.DNS = cni.DNS(ipam.Field("dns"))
	c.ReconcilerSchedule = ipam.Field("reconciler_cron_expression").TextOr("")
	c.ConfigurationPath = ipam.Field("configuration_path").TextOr("")
	for _, item := range ipam.Field("addresses").Items() {
		if o, ok := item.FoldedObject(); ok {
			address, _ := o.Field("address").HostPrefix()
			c.Addresses = append(c.Addresses, Address{address, cni.AddrOrNone(o.Field("gateway"))})
		}
	}
	c.Ignored = ipam.Unknown("type", "network_name", "enable_overlapping_ranges", "gateway", "routes", "dns",
		"reconciler_cron_expression", "configuration_path", "addresses", "ipRanges", "node_slice_size",
		"range", "range_start", "range_end", "exclude", "enable_l3",
		// What follows is about how Whereabouts works, not about addresses.
		"exclude_gateway", "optimistic_ipam", "datastore", "kubernetes", "log_file", "log_level", "sleep_for_race",
		"leader_lease_duration", "leader_renew_deadline", "leader_retry_period",
		"etcd_host", "etcd_username", "etcd_password", "etcd_key_file", "etcd_cert_file", "etcd_ca_cert_file")
}

// readRanges reads the range of the section ipam itself, and those of ipRanges.
func (c *Config) readRanges(ipam tree.Object) {
	l3, errors := ipam.Field("enable_l3").Flag(false), ipam.Errors()
	if ipam.Field("range").Missing() {
		c.ignore(ipam, "range_start", "range_end", "exclude")
	} else {
		c.readRange(ipam, l3)
	}
	list := ipam.Field("ipRanges")
	for _, item := range list.Items() {
		o, ok := item.FoldedObject()
		if !ok {
			continue
		}
		c.Ignored = append(c.Ignored, o.Unknown("range", "range_start", "range_end", "exclude", "enable_l3")...)
		c.readRange(o, l3 || o.Field("enable_l3").Flag(false))
	}
	if len(c.Ranges) == 0 && ipam.Errors() == errors {
		ipam.Field("range").Refuse("there is no range", `one such as "192.0.2.0/24", or ipRanges`)
	}
}

// ignore notes the fields of these names that are there.
func (c *Config) ignore(o tree.Object, names ...string) {
	for _, name := range names {
		if v := o.Field(name); !v.Missing() {
			c.Ignored = append(c.Ignored, v.Path())
		}
	}
}

// readRange reads a range, whose fields stand in the object.
func (c *Config) readRange(o tree.Object, l3 bool) {
	errors := o.Errors()
	r, ok := c.readBounds(o, l3)
	if !ok {
		return
	}
	reserved := pool.FamilySpec{AllocateReserved: l3}
	r.Spec = pool.Spec{Ranges: []netipx.IPRange{r.Addresses}, IPv4: reserved, IPv6: reserved}
	subnet := pool.Subnet{Prefix: r.Subnet}
	if r.Subnet.Contains(c.Gateway) {
		subnet.Gateway = c.Gateway
	}
	r.Spec.Subnets = []pool.Subnet{subnet}
	for _, item := range o.Field("exclude").Items() {
		excluded, ok := readExclusion(item)
		switch {
		case !ok:
		case excluded.From().BitLen() != r.Subnet.Addr().BitLen():
			c.Ignored = append(c.Ignored, item.Path())
		default:
			r.Spec.Exclude = append(r.Spec.Exclude, excluded)
		}
	}
	if o.Errors() != errors {
		return
	}
	if v := o.Field("range"); len(r.Set().Ranges()) == 0 {
		v.Refuse("leaves nothing to hand out: each address is excluded, the gateway, or reserved for the subnet",
			"one more address at least")
	} else if v.CheckSpec(r.Spec) {
		c.Ranges = append(c.Ranges, r)
	}
}

// readBounds reads the subnet and the addresses of a range. It is false if a part of it is refused.
func (c *Config) readBounds(o tree.Object, l3 bool) (Range, bool) {
	v := o.Field("range")
	text, ok := v.Text()
	if !ok {
		return Range{}, false
	}
	if strings.Contains(text, "-") {
		addresses, subnet, ok := v.SubnetRange()
		if ok && !subnet.IsValid() {
			v.Refuse("has no length", fmt.Sprintf(`the length of its subnet at the end, as in "%v/24"`, addresses))
			return Range{}, false
		}
		c.ignore(o, "range_start", "range_end")
		return Range{Subnet: subnet, Addresses: addresses}, ok
	}
	subnet, ok := v.MaskedPrefix()
	if !ok {
		return Range{}, false
	}
	all := cidr.Usable(subnet)
	if l3 {
		all = netipx.RangeOfPrefix(subnet)
	}
	errors := v.Errors()
	from := readBound(o.Field("range_start"), subnet, all.From())
	to := readBound(o.Field("range_end"), subnet, all.To())
	if v.Errors() == errors && to.Less(from) {
		o.Field("range_end").Refuse(fmt.Sprintf("makes the range %v-%v, which is empty", from, to),
			"a range_start that is not after range_end")
	}
	return Range{Subnet: subnet, Addresses: netipx.IPRangeFrom(from, to)}, v.Errors() == errors
}

// readBound reads an address of the subnet, or is what a missing one stands for.
func readBound(v tree.Value, subnet netip.Prefix, missing netip.Addr) netip.Addr {
	if v.Missing() {
		return missing
	}
	addr, ok := v.Addr()
	if ok && !subnet.Contains(addr) {
		v.Refuse(fmt.Sprintf("is not in the range %v", subnet), "an address of it")
	}
	return addr
}

// readExclusion reads a CIDR or an address.
func readExclusion(v tree.Value) (netipx.IPRange, bool) {
	excluded, ok := v.Range()
	if ok && strings.Contains(v.TextOr(""), "-") {
		v.Refuse("is a range", "a CIDR or an address")
	}
	return excluded, ok
}

// readSliceSize reads the length of the nodes' blocks, which may have a slash before it.
func (c *Config) readSliceSize(v tree.Value) {
	text, ok := "", false
	if !v.Missing() {
		text, ok = v.Text()
	}
	if !ok {
		return
	}
	low, high := 1, pool.IPv6.Width()
	if len(c.Ranges) > 0 {
		low, high = c.Ranges[0].Subnet.Bits(), c.Ranges[0].Subnet.Addr().BitLen()
	}
	bits, err := strconv.ParseUint(strings.TrimPrefix(text, "/"), 10, 8)
	if err != nil || bits == 0 || int(bits) < low || int(bits) > high {
		v.Refuse("is not a length of blocks of the first range", fmt.Sprintf(`"/%d" to "/%d"`, max(low, 1), high))
		return
	}
	c.NodeSliceBits = int(bits)
}
