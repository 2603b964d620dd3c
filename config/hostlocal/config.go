package hostlocal

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

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
func ReadFile(path string) (Config, error) { return tree.ReadFile(path, Parse) }

// Parse reads one configuration. From a list of plugins it takes the first whose ipam.type is host-local, else the
// first with a section ipam.
//
// The error joins a [*config.FieldError] for each fault; the Config is then the zero Config.
func Parse(data []byte) (Config, error) {
	var report tree.Report
	network, ok := cni.Read(data, pluginType, &report)
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
	for _, path := range [][]string{{"args", "cni", "ips"}, {"runtimeConfig", "ips"}} {
		for _, item := range descend(n.Plugin, path).Items() {
			if addr, ok := readRequested(item); ok {
				c.Requested = append(c.Requested, addr)
			}
		}
	}
}

// descend is the value at a path of fields, each of which may be missing.
func descend(o tree.Object, path []string) tree.Value {
	v := o.Field(path[0])
	if len(path) == 1 || v.Missing() {
		return v
	}
	inner, ok := v.FoldedObject()
	if !ok {
		return tree.Value{}
	}
	return descend(inner, path[1:])
}

// readRequested reads an address, which may have a length.
func readRequested(v tree.Value) (netip.Addr, bool) {
	text, ok := v.Text()
	switch {
	case !ok:
		return netip.Addr{}, false
	case strings.Contains(text, "/"):
		prefix, ok := v.HostPrefix()
		return prefix.Addr(), ok
	}
	return v.Addr()
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

// checkVersion refuses several addresses of a family before CNI 0.3.0, whose result has no place for them.
func (c *Config) checkVersion(v tree.Value) {
	counts := map[pool.Family]int{}
	for _, set := range c.Sets {
		if len(set) > 0 {
			counts[pool.FamilyOf(set[0].Subnet.Addr())]++
		}
	}
	if counts[pool.IPv4] < 2 && counts[pool.IPv6] < 2 || sinceCNI03(c.CNIVersion) {
		return
	}
	v.Refuse(fmt.Sprintf("has several sets of one family, which CNI %s does not support", tree.Quote(c.CNIVersion)),
		`a cniVersion of at least "0.3.0"`)
}

// sinceCNI03 reports whether the version is 0.3.0 or a later one. None at all means 0.1.0.
func sinceCNI03(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	first, err := strconv.Atoi(major)
	if err != nil {
		return false
	}
	second, err := strconv.Atoi(minor)
	return first > 0 || err == nil && second >= 3
}
