package hostlocal

import (
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/internal/cni"
	"github.com/ipalloc/ipalloc/config/internal/tree"
	"github.com/ipalloc/ipalloc/pool"
)

// pluginType is how ipam.type names host-local.
const pluginType = "host-local"

// DefaultDataDir is the folder of host-local's files if the configuration names none.
const DefaultDataDir = "/var/lib/cni/networks"

// Config is a configuration of host-local.
//
// The zero Config is not useful. A Config may be copied; the copy shares its slices. It may be used concurrently.
type Config struct {
	// Name is the name of the network; empty if there is none. host-local keeps one set of files for each name, so give
	// the pool this name.
	Name string
	// Namespace is that of a NetworkAttachmentDefinition, "default" if it names none; empty for other forms.
	Namespace string
	// CNIVersion is the version of CNI that the network asks for; empty if it says none.
	CNIVersion string
	// Type is ipam.type, the name of the plugin.
	Type string
	// Sets are the sets of ranges, at least one. A container gets one address from each. The order is:
	// runtimeConfig.ipRanges, the range in the section ipam itself, ipam.ranges.
	Sets []RangeSet
	// Requested are the addresses that args.cni.ips and runtimeConfig.ips ask for, without their lengths. Addresses in
	// the variable CNI_ARGS are not part of a configuration.
	Requested []netip.Addr
	// Routes are the routes that the plugin returns in its result.
	Routes []config.Route
	// ResolvConf is a file like /etc/resolv.conf, whose content the plugin returns in its result; empty if there is none.
	ResolvConf string
	// DataDir is the folder in which host-local keeps its files, [DefaultDataDir] if the configuration names none.
	DataDir string
	// Ignored are the paths of fields in the section ipam that host-local ignores, such as misspelled ones.
	Ignored []string
	// Spec is the spec of one pool for all sets. It is valid, and hands out the next address after the last, as
	// host-local does. If several sets are of one family, they share one last address.
	Spec pool.Spec
}

// RangeSet is a set of alternative ranges of one family. They do not overlap each other, or ranges of another set.
type RangeSet []Range

// Range is a part of a subnet. The zero Range is not valid.
type Range struct {
	// Subnet is the network, without host bits.
	Subnet netip.Prefix
	// Addresses are those from rangeStart to rangeEnd. A missing rangeStart means the first usable address of the
	// subnet, a missing rangeEnd the last. The pool does not hand out reserved addresses and gateways among them.
	Addresses netipx.IPRange
	// Gateway is the gateway for an address of the range. If the configuration names none, it is the second address of
	// the subnet, or the zero Addr if the subnet has only one or two addresses. It may lie outside the subnet.
	Gateway netip.Addr
}

// Of returns the range of the set that contains addr, and false if there is none. Cost: O(ranges).
func (s RangeSet) Of(addr netip.Addr) (Range, bool) {
	for _, r := range s {
		if r.Addresses.Contains(addr) {
			return r, true
		}
	}
	return Range{}, false
}

// ReadFile reads the configuration in the file at path, as [Parse] does. It must be a regular file. Errors name the
// file, and each [*config.FieldError] its line.
func ReadFile(path string) (Config, error) { return tree.ReadFile(path, tree.JSON, Read) }

// Parse reads one configuration in JSON. From a list of plugins it takes the first whose ipam.type is host-local, else
// the first with a section ipam.
//
// The error joins a [*config.FieldError] for each fault; the Config is then the zero Config.
func Parse(data []byte) (Config, error) { return Read(tree.JSON(data)) }

// Read reads one configuration as [Parse] does, in a text that package manifest has read, which may be YAML:
//
//	c, err := manifest.Parse(data, hostlocal.Read)
func Read(text tree.Documents) (Config, error) {
	var report tree.Report
	network, ok := cni.Read(text, pluginType, &report)
	if !ok {
		return Config{}, report.Err()
	}
	c := Config{Name: network.Name, Namespace: network.Namespace, CNIVersion: network.Version}
	c.readRest(network)
	r := rangeReader{config: &c}
	r.readSets(network)
	if report.Count() == 0 {
		r.makeSpec(network.IPAM.Value)
	}
	if err := report.Err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// readRest reads all but the ranges.
func (c *Config) readRest(n cni.Network) {
	c.Type = n.IPAM.Field("type").TextOr("")
	c.Routes = cni.Routes(n.IPAM.Field("routes"))
	c.ResolvConf = n.IPAM.Field("resolvConf").TextOr("")
	c.DataDir = n.IPAM.Field("dataDir").TextOr(DefaultDataDir)
	c.Ignored = n.IPAM.Unknown("type", "routes", "resolvConf", "dataDir", "ranges", "rangeFromFile",
		"subnet", "rangeStart", "rangeEnd", "gateway")
	args, runtime := cni.WantedAddresses(n.Plugin)
	c.Requested = cni.Addrs(append(args, runtime...)...)
}

// Requests returns the requests of a claim for one address of each set, in the order of the sets. If a set contains
// wanted addresses, such as those of Requested, its request is for the first of these exactly.
//
// If a wanted address is in no set, or its set has another wanted address, the error wraps [pool.ErrInvalid]. Cost:
// O(ranges · wanted).
func (c Config) Requests(wanted ...netip.Addr) ([]pool.Request, error) {
	left := slices.Clone(wanted)
	requests := make([]pool.Request, len(c.Sets))
	for i, set := range c.Sets {
		requests[i] = pool.Request{Within: set.addresses()}
		at := slices.IndexFunc(left, func(addr netip.Addr) bool { _, ok := set.Of(addr); return ok })
		if at < 0 {
			continue
		}
		exact := left[at]
		requests[i] = pool.ExactAddr(exact)
		left = slices.DeleteFunc(left, func(addr netip.Addr) bool { return addr == exact })
	}
	if len(left) > 0 {
		return nil, fmt.Errorf("%w: the wanted address %v is in no set, or its set has another wanted address",
			pool.ErrInvalid, left[0])
	}
	return requests, nil
}

// families are those of the sets.
func (c *Config) families() []pool.Family {
	var families []pool.Family
	for _, set := range c.Sets {
		if len(set) > 0 {
			families = append(families, familyOf(set[0]))
		}
	}
	return families
}
