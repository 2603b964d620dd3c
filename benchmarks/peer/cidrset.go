package peer

import (
	"context"
	"net/netip"

	"k8s.io/kubernetes/pkg/controller/nodeipam/ipam/cidrset"
)

func nodeCIDRs() Peer {
	return Peer{
		Name: "Kubernetes cidrset", Module: "k8s.io/kubernetes", Package: "controller/nodeipam/ipam/cidrset", Order: Next,
		Note:     "prefixes of one length; updates Prometheus metrics at each call; IPv6: at most 65,536 of them",
		NewSpace: newCIDRSet,
	}
}

type cidrSet struct {
	*cidrset.CidrSet
	bits int
}

func newCIDRSet(s Shape) (Space, error) {
	if s.Single() || s.Bits == 0 {
		return nil, cannot("only prefixes of one length")
	}
	set, err := cidrset.NewCIDRSet(ipNet(s.Prefix), s.Bits)
	return cidrSet{set, s.Bits}, err
}

func (c cidrSet) Take(int) (netip.Prefix, error) {
	n, err := c.AllocateNext()
	if err != nil {
		return netip.Prefix{}, err
	}
	return fromIP(n.IP, c.bits)
}

func (c cidrSet) Release(p netip.Prefix) error { return c.CidrSet.Release(ipNet(p)) }

func (c cidrSet) Fill(ctx context.Context, held []netip.Prefix) error {
	return Each(ctx, held, func(p netip.Prefix) error { return c.Occupy(ipNet(p)) })
}
