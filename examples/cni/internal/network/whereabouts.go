package network

import (
	"net/netip"
	"net/url"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/config/whereabouts"
	"github.com/ipalloc/ipalloc/pool"
)

// SharedPool is the name of the pool of all configurations of Whereabouts with a network_name. Because they share it,
// their ranges may overlap, and no address is given twice. It is also the name of the network that the pool is in.
func SharedPool(networkName string) string { return "whereabouts/" + url.PathEscape(networkName) }

// SlicedPool is the name of the pool that the slices of nodes are cut of. It is in the network of the shared pool, so
// that the ranges of the two do not overlap.
func SlicedPool(networkName string) string { return SharedPool(networkName) + "/slices" }

// SlicePool is the name of the pool of a node's slices.
func SlicePool(sliced, node string) string { return sliced + "/" + url.PathEscape(node) }

// RangePools is the beginning of the names of pools for one range each, of configurations whose ranges do not share
// their addresses.
func RangePools(networkName string) string { return SharedPool(networkName) + "/range/" }

func (n *Network) readWhereabouts(data []byte, args Args) error {
	c, err := whereabouts.Parse(data)
	if err != nil {
		return err
	}
	n.Routes, n.DNS = c.Routes, c.DNS
	for i, r := range c.Ranges {
		set := r.Set()
		net := Net{Range: r.Addresses, Bits: r.Subnet.Bits()}
		var gateways []netip.Addr
		if c.Gateway.BitLen() == r.Subnet.Addr().BitLen() {
			net.Gateway, gateways = c.Gateway, []netip.Addr{c.Gateway}
		}
		of := Pool{Name: SharedPool(n.NetworkName), Spec: newSpec(gateways, set)}
		of.Spec.Network = SharedPool(n.NetworkName)
		switch {
		case i == 0 && c.NodeSliceBits != 0:
			of.Name, of.SliceBits = SlicedPool(n.NetworkName), c.NodeSliceBits
			of.Spec.Ranges, of.Spec.Bands = blocks(set, c.NodeSliceBits), nil
		case !c.OverlappingRanges:
			of.Name, of.Spec.Network = RangePools(n.NetworkName)+r.Subnet.String(), ""
		}
		n.Slots = append(n.Slots, Slot{Pool: n.addPool(of), Request: pool.Request{Within: set}, Nets: []Net{net}})
	}
	if err := n.ask(wantedOf(args, c.Requested)); err != nil {
		return err
	}
	n.addAddresses(c.Addresses)
	return nil
}

// addAddresses adds the addresses that a configuration of Whereabouts gives besides its ranges.
func (n *Network) addAddresses(addresses []whereabouts.Address) {
	for _, a := range addresses {
		addr := a.Address.Addr()
		only := netipx.IPRangeFrom(addr, addr)
		of := Pool{Name: SharedPool(n.NetworkName), Spec: newSpec(nil, cidr.SetOf(only))}
		of.Spec.Network = SharedPool(n.NetworkName)
		n.Slots = append(n.Slots, Slot{Pool: n.addPool(of), Request: pool.ExactAddr(addr),
			Nets: []Net{{Range: only, Bits: a.Address.Bits(), Gateway: a.Gateway}}})
	}
}

// addPool adds what is needed of a pool, and returns its index.
func (n *Network) addPool(p Pool) int {
	i := slices.IndexFunc(n.Pools, func(other Pool) bool { return other.Name == p.Name })
	if i < 0 {
		n.Pools = append(n.Pools, p)
		return len(n.Pools) - 1
	}
	n.Pools[i].Spec = Grown(n.Pools[i].Spec, p.Spec)
	return i
}

// blocks are the blocks of a length that have any address of the set.
func blocks(set *netipx.IPSet, bits int) []netipx.IPRange {
	var all []netipx.IPRange
	for _, r := range set.Ranges() {
		first, _ := r.From().Prefix(bits)
		last, _ := r.To().Prefix(bits)
		all = append(all, netipx.IPRangeFrom(first.Addr(), netipx.PrefixLastIP(last)))
	}
	return cidr.SetOf(all...).Ranges()
}

// all are the addresses of the slot's nets.
func (s Slot) all() *netipx.IPSet {
	var ranges []netipx.IPRange
	for _, net := range s.Nets {
		ranges = append(ranges, net.Range)
	}
	return cidr.SetOf(ranges...)
}
