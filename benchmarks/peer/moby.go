package peer

import (
	"context"
	"net/netip"

	"github.com/moby/moby/v2/daemon/libnetwork/ipamapi"
	"github.com/moby/moby/v2/daemon/libnetwork/ipams/defaultipam"
	"github.com/moby/moby/v2/daemon/libnetwork/ipamutils"
)

func moby() Peer {
	return Peer{
		Name: "moby", Module: "github.com/moby/moby/v2", Package: "daemon/libnetwork/ipams/defaultipam", Order: Lowest,
		Note: "bitmaps in runs; no owners; keeps network and broadcast address; " +
			"in memory only, the daemon rebuilds it at its start",
		NewSpace: func(s Shape) (Space, error) {
			switch {
			case s.Single():
				return newMobyAddresses(s)
			case s.Bits > 0:
				return newMobyPools(s)
			}
			return nil, cannot("only prefixes of one length")
		},
	}
}

const mobySpace = "LocalDefault"

type mobyAddresses struct {
	*defaultipam.Allocator
	pool string
	bits int
}

func newMobyAddresses(s Shape) (Space, error) {
	a, err := defaultipam.NewAllocator(nil, nil)
	if err != nil {
		return nil, err
	}
	p, err := a.RequestPool(ipamapi.PoolRequest{
		AddressSpace: mobySpace, Pool: s.Prefix.String(), V6: s.Prefix.Addr().Is6(),
	})
	return mobyAddresses{a, p.PoolID, s.Bits}, err
}

func (m mobyAddresses) Take(int) (netip.Prefix, error) {
	n, _, err := m.RequestAddress(m.pool, nil, nil)
	if err != nil {
		return netip.Prefix{}, err
	}
	return fromIP(n.IP, m.bits)
}

func (m mobyAddresses) Release(p netip.Prefix) error {
	return m.ReleaseAddress(m.pool, p.Addr().AsSlice())
}

func (m mobyAddresses) Fill(ctx context.Context, held []netip.Prefix) error {
	return Each(ctx, held, func(p netip.Prefix) error {
		_, _, err := m.RequestAddress(m.pool, p.Addr().AsSlice(), nil)
		return err
	})
}

type mobyPools struct {
	*defaultipam.Allocator
	v6 bool
}

func newMobyPools(s Shape) (Space, error) {
	a, err := defaultipam.NewAllocator([]*ipamutils.NetworkToSplit{{Base: s.Prefix, Size: s.Bits}}, nil)
	return mobyPools{a, s.Prefix.Addr().Is6()}, err
}

func (m mobyPools) Take(int) (netip.Prefix, error) {
	p, err := m.RequestPool(ipamapi.PoolRequest{AddressSpace: mobySpace, V6: m.v6})
	return p.Pool, err
}

func (m mobyPools) Release(p netip.Prefix) error {
	id := defaultipam.PoolID{AddressSpace: mobySpace, SubnetKey: defaultipam.SubnetKey{Subnet: p}}
	return m.ReleasePool(id.String())
}

func (m mobyPools) Fill(ctx context.Context, held []netip.Prefix) error {
	return Each(ctx, held, func(p netip.Prefix) error {
		_, err := m.RequestPool(ipamapi.PoolRequest{AddressSpace: mobySpace, Pool: p.String(), V6: m.v6})
		return err
	})
}
