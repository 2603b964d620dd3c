package peer

import (
	"context"
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// Ours is the name of this library among the peers.
const Ours = "ipalloc"

func thisLibrary() Peer {
	return Peer{
		Name: Ours, Module: "github.com/ipalloc/ipalloc", Package: "allocator; pool", Order: Lowest,
		NewSpace: newIpallocSpace, NewOwners: newIpallocOwners,
	}
}

type ipallocSpace struct{ *allocator.Allocator }

// newIpallocSpace keeps the network and broadcast addresses back, as pools do, and most peers.
func newIpallocSpace(s Shape) (Space, error) {
	r := netipx.RangeOfPrefix(s.Prefix)
	if s.Single() {
		r = cidr.Usable(s.Prefix)
	}
	a, err := allocator.New(cidr.SetOf(r))
	return ipallocSpace{a}, err
}

func (s ipallocSpace) Take(bits int) (netip.Prefix, error) { return s.TakeFirst(bits) }

func (s ipallocSpace) Fill(ctx context.Context, held []netip.Prefix) error {
	return Each(ctx, held, s.Allocator.Take)
}

func (s ipallocSpace) Snapshot() (int, error) {
	b, err := s.MarshalBinary()
	if err != nil {
		return 0, err
	}
	_, err = allocator.Decode(b)
	return len(b), err
}

// ownedPool is a pool of this library as Owners.
type ownedPool struct{ *pool.Pool }

func newIpallocOwners(prefix netip.Prefix) (Owners, error) {
	p, err := pool.New(spec(prefix), nil)
	return ownedPool{p}, err
}

func spec(prefix netip.Prefix) pool.Spec {
	return pool.Spec{Ranges: []netipx.IPRange{netipx.RangeOfPrefix(prefix)}}
}

func (p ownedPool) Allocate(ctx context.Context, owner string) (netip.Addr, error) {
	a, err := p.Pool.Allocate(ctx, pool.Claim{Owner: owner})
	if err != nil {
		return netip.Addr{}, err
	}
	return a.Prefixes[0].Addr(), nil
}

func (p ownedPool) Release(ctx context.Context, owner string) error {
	_, err := p.Pool.Release(ctx, pool.Held{Owner: owner})
	return err
}
