package clusterapi

import (
	"github.com/ipalloc/ipalloc/config/internal/tree"
	"github.com/ipalloc/ipalloc/pool"
)

// readNetwork reads what the provider does not have: how the pool stands to other pools, and to what it has handed out.
func (p *Pool) readNetwork(spec tree.Object, family pool.Family) {
	p.Spec.Network = spec.Field("network").TextOr("")
	p.Drain = spec.Field("drain").Flag(false)
	external := readEntries(spec.Field("externalAddresses"))
	for _, e := range external {
		e.CheckFamily(e.addresses.From(), family, "the pool")
	}
	if len(external) > 0 {
		p.External = merge(external)
	}
}
