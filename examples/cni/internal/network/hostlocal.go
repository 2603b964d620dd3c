package network

import (
	"net/netip"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/config/hostlocal"
	"github.com/ipalloc/ipalloc/pool"
)

// readHostLocal makes one pool of all sets, by the name of the network.
func (n *Network) readHostLocal(data []byte, args Args) error {
	c, err := hostlocal.Parse(data)
	if err != nil {
		return err
	}
	n.Routes, n.ResolvConf = c.Routes, c.ResolvConf
	free := cidr.Union(c.Spec.Set(pool.IPv4), c.Spec.Set(pool.IPv6))
	var gateways []netip.Addr
	for _, set := range c.Sets {
		var slot Slot
		for _, r := range set {
			slot.Nets = append(slot.Nets, Net{Range: r.Addresses, Bits: r.Subnet.Bits(), Gateway: r.Gateway})
			if r.Gateway.IsValid() {
				gateways = append(gateways, r.Gateway)
			}
		}
		slot.Request.Within = cidr.Intersection(free, slot.all())
		n.Slots = append(n.Slots, slot)
	}
	spec := newSpec(gateways, free)
	spec.Strategy = pool.NextFree
	n.Pools = []Pool{{Name: n.Name, Spec: spec}}
	return n.ask(wantedOf(args, c.Requested))
}
