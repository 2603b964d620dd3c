package network

import (
	"fmt"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/config/static"
	"github.com/ipalloc/ipalloc/pool"
)

// readStatic makes the addresses part of the pool of the network, the one that host-local's configurations have too: so
// that no container gets a fixed address of another one.
func (n *Network) readStatic(data []byte, args Args) error {
	if len(args.Bare) > 0 {
		return wrongArgs(fmt.Sprintf("CNI_ARGS IP: %s has no length, such as 192.0.2.7/24", strings.Join(args.Bare, ", ")))
	}
	c, err := static.ParseWith(data, static.Args{Addresses: args.IPs, Gateways: args.Gateways})
	if err != nil {
		return err
	}
	n.Routes, n.DNS = c.Routes, c.DNS
	for i, request := range c.Requests() {
		addr := c.Addresses[i].Address.Addr()
		n.Slots = append(n.Slots, Slot{Request: request, Nets: []Net{{
			Range: netipx.IPRangeFrom(addr, addr), Bits: c.Addresses[i].Address.Bits(), Gateway: c.Addresses[i].Gateway,
		}}})
	}
	spec := c.Spec()
	spec.Strategy = pool.NextFree
	n.Pools = []Pool{{Name: n.Name, Spec: spec}}
	return nil
}
