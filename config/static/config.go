package static

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

// pluginType is how ipam.type names static.
const pluginType = "static"

// Config is a configuration of static.
//
// The zero Config is not useful. A Config may be copied; the copy shares its slices. It may be used concurrently.
type Config struct {
	// Name is the name of the network; empty if there is none.
	Name string
	// Namespace is that of a NetworkAttachmentDefinition, "default" if it names none; empty for other forms.
	Namespace string
	// CNIVersion is the version of CNI that the network asks for; empty if it says none.
	CNIVersion string
	// Type is ipam.type, the name of the plugin.
	Type string
	// Addresses are what a container gets, in this order: those of runtimeConfig.ips if there are any, else those of
	// args.cni.ips, else those of ipam.addresses with those of CNI_ARGS.
	Addresses []Address
	// Routes and DNS are returned by the plugin in its result.
	Routes []config.Route
	DNS    config.DNS
	// Ignored are the paths of fields in the section ipam that static ignores, such as misspelled ones.
	Ignored []string
}

// Address is an address for a container. The zero Address is not valid.
type Address struct {
	// Address is the address with the prefix length of its subnet.
	Address netip.Prefix
	// Gateway is the gateway that goes with it; the zero Addr if there is none.
	Gateway netip.Addr
}

// Args are what the variable CNI_ARGS adds to a configuration: IP and GATEWAY, which may each be a list. The zero Args
// add nothing. Args may be copied; the copy shares the slices.
type Args struct {
	// Addresses are further addresses, with the lengths of their subnets.
	Addresses []netip.Prefix
	// Gateways are gateways of all addresses whose subnets contain them.
	Gateways []netip.Addr
}

// ReadFile reads the configuration in the file at path, as [Parse] does. It must be a regular file. Errors name the
// file, and each [*config.FieldError] its line.
func ReadFile(path string) (Config, error) { return tree.ReadFile(path, tree.JSON, Read) }

// Parse reads one configuration in JSON, for a container without CNI_ARGS. From a list of plugins it takes the first
// whose ipam.type is static, else the first with a section ipam.
//
// The error joins a [*config.FieldError] for each fault; the Config is then the zero Config.
func Parse(data []byte) (Config, error) { return ParseWith(data, Args{}) }

// ParseWith is Parse for a container with CNI_ARGS.
func ParseWith(data []byte, args Args) (Config, error) { return read(tree.JSON(data), args) }

// Read reads one configuration as [Parse] does, in a text that package manifest has read, which may be YAML:
//
//	c, err := manifest.Parse(data, static.Read)
func Read(text tree.Documents) (Config, error) { return read(text, Args{}) }

func read(text tree.Documents, args Args) (Config, error) {
	var report tree.Report
	network, ok := cni.Read(text, pluginType, &report)
	if !ok {
		return Config{}, report.Err()
	}
	ipam := network.IPAM
	c := Config{
		Name: network.Name, Namespace: network.Namespace, CNIVersion: network.Version,
		Type:   ipam.Field("type").TextOr(""),
		Routes: cni.Routes(ipam.Field("routes")), DNS: cni.DNS(ipam.Field("dns")),
		Ignored: ipam.Unknown("type", "addresses", "routes", "dns"),
	}
	c.readAddresses(network, args)
	if err := report.Err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// placed is an address and where it stands.
type placed struct {
	Address
	value tree.Value
}

func (c *Config) readAddresses(n cni.Network, args Args) {
	list := n.IPAM.Field("addresses")
	errors := list.Errors()
	found := readList(list)
	for _, addr := range args.Addresses {
		found = append(found, placed{Address{Address: addr}, list})
	}
	for i := range found {
		for _, gateway := range args.Gateways {
			if found[i].Address.Address.Masked().Contains(gateway) {
				found[i].Gateway = gateway
			}
		}
	}
	wanted, runtime := cni.WantedAddresses(n.Plugin)
	for _, instead := range [][]cni.Wanted{wanted, runtime} {
		if len(instead) > 0 {
			found = readWanted(instead)
		}
	}
	if len(found) == 0 && list.Errors() == errors {
		list.Refuse("there are no addresses", `at least one, such as [{"address": "192.0.2.7/24"}]`)
	}
	c.check(found, list)
}

func readList(list tree.Value) []placed {
	var found []placed
	for _, item := range list.Items() {
		o, ok := item.FoldedObject()
		if !ok {
			continue
		}
		v := o.Field("address")
		address, ok := v.HostPrefix()
		gateway := cni.AddrOrNone(o.Field("gateway"))
		if !ok || gateway.IsValid() && !o.Field("gateway").CheckFamily(gateway, familyOf(address), "its address") {
			continue
		}
		found = append(found, placed{Address{address, gateway}, v})
	}
	return found
}

func readWanted(wanted []cni.Wanted) []placed {
	var found []placed
	for _, w := range wanted {
		if !w.HasLength {
			w.Value.Refuse("has no length", `an address with the length of its subnet, such as "192.0.2.7/24"`)
			continue
		}
		found = append(found, placed{Address{Address: w.Prefix}, w.Value})
	}
	return found
}

func familyOf(address netip.Prefix) pool.Family { return pool.FamilyOf(address.Addr()) }

// check takes the addresses that break no rule.
func (c *Config) check(found []placed, list tree.Value) {
	var families []pool.Family
	seen := map[netip.Addr]bool{}
	for _, one := range found {
		addr := one.Address.Address.Addr()
		switch {
		case seen[addr]:
			one.value.Refuse(fmt.Sprintf("has %v, which is there twice", addr), "it once")
		case addr == one.Gateway:
			one.value.Refuse(fmt.Sprintf("has %v, which is its own gateway", addr), "another gateway, or none")
		}
		seen[addr] = true
		families = append(families, familyOf(one.Address.Address))
		c.Addresses = append(c.Addresses, one.Address)
	}
	cni.CheckVersion(list, c.CNIVersion, "addresses", families...)
}

// Spec returns the spec of a pool of the addresses. It is valid. It has no subnets, since the addresses may lie in any.
// Cost: O(addresses).
func (c Config) Spec() pool.Spec {
	all := pool.FamilySpec{AllocateReserved: true}
	spec := pool.Spec{IPv4: all, IPv6: all}
	for _, a := range c.Addresses {
		spec.Ranges = append(spec.Ranges, netipx.IPRangeFrom(a.Address.Addr(), a.Address.Addr()))
		if family := familyOf(a.Address); !slices.Contains(spec.Families, family) {
			spec.Families = append(spec.Families, family)
		}
	}
	return spec
}

// Requests returns the requests of a claim for all the addresses, in their order. Cost: O(addresses).
func (c Config) Requests() []pool.Request {
	requests := make([]pool.Request, len(c.Addresses))
	for i, a := range c.Addresses {
		requests[i] = pool.ExactAddr(a.Address.Addr())
	}
	return requests
}
