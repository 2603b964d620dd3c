package network

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/pool"
)

// Network is what a configuration asks for a container. It may be copied; the copy shares its slices.
type Network struct {
	Header
	// Pools are the pools that a container gets addresses of.
	Pools []Pool
	// Slots are the addresses of a container, in the order of the result.
	Slots []Slot
	// Routes, DNS and ResolvConf go into the result; ResolvConf is a file that says what DNS else would.
	Routes     []config.Route
	DNS        config.DNS
	ResolvConf string
}

// Pool is a pool and what the configuration needs of it. The pool may have more, for other configurations.
type Pool struct {
	Name string
	// Spec has the ranges of this configuration. Its gateways are an exclusive band. For a slice of a node they are the
	// blocks that the slices are cut of.
	Spec pool.Spec
	// SliceBits is the length of the slices that nodes get of the pool; 0 if containers get addresses of it directly.
	SliceBits int
}

// Slot is one address of a container.
type Slot struct {
	// Pool is the index of its pool.
	Pool int
	// Request is for the address.
	Request pool.Request
	// Nets say what goes with an address.
	Nets []Net
}

// Net is a range of addresses, the length of their subnet in bits, and their gateway; the zero Addr if there is none.
type Net struct {
	Range   netipx.IPRange
	Bits    int
	Gateway netip.Addr
}

// Of returns the net of an address, and false if there is none.
func (s Slot) Of(addr netip.Addr) (Net, bool) {
	i := slices.IndexFunc(s.Nets, func(n Net) bool { return n.Range.Contains(addr) })
	if i < 0 {
		return Net{}, false
	}
	return s.Nets[i], true
}

// GatewayBand is the band of the gateways, which no container gets unasked.
const GatewayBand = "gateways"

// Read reads the configuration that a plugin gets on its standard input, and what CNI_ARGS say.
func Read(data []byte, args Args) (Network, error) {
	h, err := ReadHeader(data)
	if err != nil {
		return Network{}, err
	}
	n := Network{Header: h}
	switch h.Kind {
	case HostLocal:
		err = n.readHostLocal(data, args)
	case Static:
		err = n.readStatic(data, args)
	default:
		err = n.readWhereabouts(data, args)
	}
	return n, refused(err)
}

// refused is CNI's error for what a reader of configurations found wrong.
func refused(err error) error {
	fields := config.FieldErrors(err)
	if len(fields) == 0 {
		return err
	}
	var messages []string
	for _, f := range fields {
		messages = append(messages, f.Error())
	}
	return types.NewError(types.ErrInvalidNetworkConfig, "invalid network configuration", strings.Join(messages, "; "))
}

// newSpec returns the spec of a pool of some sets. Subnets do not matter to it: the sets have no reserved addresses.
func newSpec(gateways []netip.Addr, sets ...*netipx.IPSet) pool.Spec {
	all := pool.FamilySpec{AllocateReserved: true}
	spec := pool.Spec{IPv4: all, IPv6: all}
	for _, set := range sets {
		spec.Ranges = append(spec.Ranges, set.Ranges()...)
	}
	var band []netipx.IPRange
	for _, gateway := range gateways {
		band = append(band, netipx.IPRangeFrom(gateway, gateway))
	}
	return withGateways(spec, band)
}

// withGateways gives the spec the band of these gateways, which are then among its ranges.
func withGateways(spec pool.Spec, gateways []netipx.IPRange) pool.Spec {
	if len(gateways) == 0 {
		return spec
	}
	gateways = cidr.SetOf(gateways...).Ranges()
	spec.Ranges = append(spec.Ranges, gateways...)
	spec.Bands = []pool.Band{{Name: GatewayBand, Ranges: gateways, Exclusive: true}}
	return spec
}

// Gateways returns the gateways in the spec of a pool.
func Gateways(spec pool.Spec) *netipx.IPSet {
	for _, band := range spec.Bands {
		if band.Name == GatewayBand {
			return cidr.SetOf(band.Ranges...)
		}
	}
	return cidr.SetOf()
}

// Covers reports whether a pool with the spec has all that another spec asks for.
func Covers(spec, other pool.Spec) bool { return spec.Equal(Grown(spec, other)) }

// Grown returns the spec with the ranges and gateways of another one too. Nothing is taken away from it: a pool whose
// configurations differ has the ranges of all of them.
func Grown(spec, other pool.Spec) pool.Spec {
	families := spec.AllFamilies()
	for _, family := range other.AllFamilies() {
		if !slices.Contains(families, family) {
			families = append(families, family)
		}
	}
	ranges := cidr.Union(cidr.SetOf(spec.Ranges...), cidr.SetOf(other.Ranges...))
	gateways := cidr.Union(Gateways(spec), Gateways(other))
	spec.Families, spec.Ranges, spec.Bands = families, ranges.Ranges(), nil
	return withGateways(spec, gateways.Ranges())
}

// wanted is an address that a container asks for, and the key by which it does.
type wanted struct {
	addr netip.Addr
	key  string
}

// wantedOf are the addresses that a configuration and CNI_ARGS ask for, those of CNI_ARGS first.
func wantedOf(args Args, requested []netip.Addr) []wanted {
	var all []wanted
	for _, prefix := range args.IPs {
		all = append(all, wanted{prefix.Addr(), "CNI_ARGS IP"})
	}
	for _, addr := range requested {
		all = append(all, wanted{addr, "args.cni.ips or runtimeConfig.ips"})
	}
	return all
}

// ask makes the slots ask for wanted addresses: each for the first one that its ranges have.
func (n *Network) ask(all []wanted) error {
	for i := range n.Slots {
		slot := &n.Slots[i]
		at := slices.IndexFunc(all, func(w wanted) bool { _, ok := slot.Of(w.addr); return ok })
		if at < 0 || slot.Request.Exact.IsValid() {
			continue
		}
		w := all[at]
		if !slot.Request.Within.Contains(w.addr) {
			return invalid(w.key, "%v cannot be had: it is a gateway, excluded, or reserved for its subnet", w.addr)
		}
		slot.Request = pool.ExactAddr(w.addr)
		all = slices.DeleteFunc(all, func(other wanted) bool { return other.addr == w.addr })
	}
	if len(all) > 0 {
		return invalid(all[0].key, "%v is in no range, or its set has another address that is asked for", all[0].addr)
	}
	return nil
}

// Claims returns the claim of a container in each of the pools, in the order of the pools.
func (n *Network) Claims(base pool.Claim) []pool.Claim {
	claims := make([]pool.Claim, len(n.Pools))
	for i := range claims {
		claims[i] = base
	}
	for _, slot := range n.Slots {
		claims[slot.Pool].Requests = append(claims[slot.Pool].Requests, slot.Request)
	}
	return claims
}

// errUnknownScheme is returned for a URL of a store that the program has no driver for.
var errUnknownScheme = errors.New("unknown scheme")

// RefuseStore returns CNI's error for a URL of a store that the program cannot open.
func RefuseStore(u *url.URL, known []string) error {
	return invalid(storeKey, "%v: %q is none of those of this program: %s",
		errUnknownScheme, u.Scheme, strings.Join(known, ", "))
}

// RefuseStoreURL returns CNI's error for a URL of a store that breaks a rule.
func RefuseStoreURL(u *url.URL, err error) error {
	return invalid(storeKey, "%s: %v", fmt.Sprintf("%q", u.Redacted()), err)
}
