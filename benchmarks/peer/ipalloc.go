package peer

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/benchmarks/backend"
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Ours is the name of this library among the peers.
const Ours = "ipalloc"

func thisLibrary() Peer {
	return Peer{
		Name: Ours, Module: "github.com/ipalloc/ipalloc", Package: "allocator; pool; pool on store/bolt", Order: Lowest,
		NewSpace: newIpallocSpace, NewOwners: newIpallocOwners,
		OpenDurable: func(ctx context.Context, dir string, prefix netip.Prefix) (Durable, error) {
			s, err := backend.Bolt(dir).Open(ctx)
			if err != nil {
				return nil, err
			}
			return OpenPool(ctx, s, prefix)
		},
	}
}

type ipallocSpace struct{ *allocator.Allocator }

func newIpallocSpace(s Shape) (Space, error) {
	a, err := allocator.New(cidr.SetOf(netipx.RangeOfPrefix(s.Prefix)))
	return ipallocSpace{a}, err
}

func (s ipallocSpace) Take(bits int) (netip.Prefix, error) { return s.TakeFirst(bits) }

func (s ipallocSpace) Fill(ctx context.Context, held []netip.Prefix) error {
	return each(ctx, held, s.Allocator.Take)
}

func (s ipallocSpace) Snapshot() (int, error) {
	b, err := s.MarshalBinary()
	if err != nil {
		return 0, err
	}
	_, err = allocator.Decode(b)
	return len(b), err
}

// Pool is a pool of this library as Owners, and as Durable if it is in a store.
type Pool struct {
	*pool.Pool
	store store.Store
}

func newIpallocOwners(prefix netip.Prefix) (Owners, error) {
	p, err := pool.New(spec(prefix), nil)
	return Pool{Pool: p}, err
}

func spec(prefix netip.Prefix) pool.Spec {
	return pool.Spec{Ranges: []netipx.IPRange{netipx.RangeOfPrefix(prefix)}}
}

// OpenPool opens the pool of the prefix in any store, which it closes at its end, or creates it.
func OpenPool(ctx context.Context, s store.Store, prefix netip.Prefix) (Pool, error) {
	p, err := pool.OpenOrCreate(ctx, s, "pods", spec(prefix), nil)
	if err != nil {
		return Pool{}, fmt.Errorf("%w (closed: %w)", err, s.Close())
	}
	return Pool{p, s}, nil
}

// Allocate implements Owners.
func (p Pool) Allocate(ctx context.Context, owner string) (netip.Addr, error) {
	a, err := p.Pool.Allocate(ctx, pool.Claim{Owner: owner})
	if err != nil {
		return netip.Addr{}, err
	}
	return a.Prefixes[0].Addr(), nil
}

// Release implements Owners.
func (p Pool) Release(ctx context.Context, owner string) error {
	_, err := p.Pool.Release(ctx, owner)
	return err
}

// Fill implements Durable: calls at once share commits.
func (p Pool) Fill(ctx context.Context, owners []string) error {
	const atOnce = 250
	var wg sync.WaitGroup
	errs := make([]error, atOnce)
	for g := range atOnce {
		wg.Go(func() {
			for i := g; i < len(owners) && errs[g] == nil; i += atOnce {
				_, errs[g] = p.Allocate(ctx, owners[i])
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Close implements Durable.
func (p Pool) Close() error { return p.store.Close() }
