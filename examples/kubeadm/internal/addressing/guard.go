package addressing

import (
	"context"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// guardNodes declares the addresses of the nodes themselves as external, so that no pod CIDR and no Service has one of
// them. What is in use already stays in use. If the nodes are all that the cluster has, those of others are forgotten.
func (p *Pools) guardNodes(ctx context.Context, all bool) error {
	if len(p.cluster.Nodes) == 0 {
		return nil
	}
	before, err := p.external(ctx)
	if err != nil {
		return err
	}
	var ranges []netipx.IPRange
	for _, n := range p.cluster.Nodes {
		for _, ip := range n.IPs {
			ranges = append(ranges, netipx.IPRangeFrom(ip, ip))
		}
	}
	external := cidr.SetOf(ranges...)
	if !all {
		external = cidr.Union(external, before)
	}
	external = cidr.Difference(external, p.inUse())
	if external.Equal(before) {
		return nil
	}
	return pool.SetExternal(ctx, p.store, Network, external.Ranges(), false, nil)
}

// external returns what is external already.
func (p *Pools) external(ctx context.Context) (*netipx.IPSet, error) {
	for network, err := range pool.Networks(ctx, p.store) {
		if err != nil {
			return nil, err
		}
		if network.Name == Network {
			return cidr.SetOf(network.External...), nil
		}
	}
	return cidr.SetOf(), nil
}

// inUse returns what Nodes and Services have, according to themselves or to the pools.
func (p *Pools) inUse() *netipx.IPSet {
	var ranges []netipx.IPRange
	for _, prefix := range p.held {
		ranges = append(ranges, netipx.RangeOfPrefix(prefix))
	}
	for _, w := range slices.Concat(p.nodes, p.services) {
		for _, request := range w.claim.Requests {
			ranges = append(ranges, netipx.RangeOfPrefix(request.Exact)) // of no address if it asks for any
		}
	}
	return cidr.SetOf(ranges...)
}
