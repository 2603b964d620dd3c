package peer

import (
	"context"
	"net"
	"net/netip"

	core "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
)

func kubernetes() Peer {
	return Peer{
		Name: "Kubernetes", Module: "k8s.io/kubernetes",
		Package: "registry/core/service/ipallocator, its bitmap", Order: Random,
		Note: "never packed in its own use: random from the upper band of the range, then from the lower; no owners; " +
			"IPv6 is capped at 65,536 addresses. " +
			"Since 1.33 the API server uses one API object an address instead, which needs an API server",
		NewSpace: newKubernetes,
	}
}

type kubernetesSpace struct {
	*ipallocator.Range
	bits int
}

func newKubernetes(s Shape) (Space, error) {
	if !s.Single() {
		return nil, cannot("only single addresses")
	}
	if s.Prefix.Addr().Is6() && s.Prefix.Bits() < 112 {
		return nil, cannot("capped at 65,536 addresses of a prefix")
	}
	r, err := ipallocator.NewInMemory(ipNet(s.Prefix))
	return kubernetesSpace{r, s.Bits}, err
}

func (k kubernetesSpace) Take(int) (netip.Prefix, error) {
	ip, err := k.AllocateNext()
	if err != nil {
		return netip.Prefix{}, err
	}
	return fromIP(ip, k.bits)
}

func (k kubernetesSpace) Release(p netip.Prefix) error { return k.Range.Release(p.Addr().AsSlice()) }

func (k kubernetesSpace) Fill(ctx context.Context, held []netip.Prefix) error {
	return Each(ctx, held, func(p netip.Prefix) error { return k.Allocate(p.Addr().AsSlice()) })
}

func (k kubernetesSpace) Snapshot() (int, error) {
	var snapshot core.RangeAllocation
	if err := k.Range.Snapshot(&snapshot); err != nil {
		return 0, err
	}
	_, err := ipallocator.NewFromSnapshot(&snapshot)
	return len(snapshot.Data), err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// fromIP is the address as a prefix of the length, in the form of its family.
func fromIP(ip net.IP, bits int) (netip.Prefix, error) {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.Prefix{}, cannot("%v is no address", ip)
	}
	return netip.PrefixFrom(addr.Unmap(), bits), nil
}
