package durable

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// ourPool is a pool of this library in a store, whose commits are counted.
type ourPool struct {
	*pool.Pool
	store  store.Store
	counts *faults.Injector
}

// openStore opens a handle of the store at an address.
type openStore func(ctx context.Context, address string) (store.Store, error)

// ours is the kind whose pools are in these stores.
func ours(k Kind, open openStore) Kind {
	k.Module, k.Grows, k.Store = "github.com/ipalloc/ipalloc", true, open
	k.Open = func(ctx context.Context, address string, prefix netip.Prefix) (Pool, error) {
		p, err := openIn(ctx, open, address, prefix)
		return p, err
	}
	k.OpenBlock = func(ctx context.Context, address string, prefix netip.Prefix, writer string, bits int) (Pool, error) {
		p, err := openIn(ctx, open, address, prefix)
		if err != nil {
			return nil, err
		}
		claim := pool.Claim{Requests: []pool.Request{{Bits: bits}}}
		spec := pool.Spec{IPv4: pool.FamilySpec{AllocateReserved: true}}
		blocks, err := pool.OpenBlocks(ctx, p.Pool, writer, claim, spec, nil)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		opened := blocksPool{p, blocks}
		if _, err = opened.Allocate(ctx, writer); err == nil { // so that it has its first block
			err = opened.Release(ctx, writer)
		}
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		return opened, nil
	}
	return k
}

// openIn opens the pool of the prefix, or creates it. The store is closed with it.
func openIn(ctx context.Context, open openStore, address string, prefix netip.Prefix) (ourPool, error) {
	s, err := open(ctx, address)
	if err != nil {
		return ourPool{}, err
	}
	counts := &faults.Injector{}
	counted := counts.Wrap(s)
	spec := pool.Spec{Ranges: []netipx.IPRange{netipx.RangeOfPrefix(prefix)}}
	p, err := pool.Ensure(ctx, counted, "pods", spec, pool.Keep, nil)
	if err != nil {
		return ourPool{}, errors.Join(err, s.Close())
	}
	return ourPool{p, counted, counts}, nil
}

func (p ourPool) Allocate(ctx context.Context, owner string) (netip.Addr, error) {
	a, err := p.Pool.Allocate(ctx, pool.Claim{Owner: owner})
	if err != nil {
		return netip.Addr{}, err
	}
	return a.Prefixes[0].Addr(), nil
}

func (p ourPool) Release(ctx context.Context, owner string) error {
	_, err := p.Pool.Release(ctx, pool.Held{Owner: owner})
	return err
}

// Fill has many calls wait at once, which share commits.
func (p ourPool) Fill(ctx context.Context, owners []string) error {
	const atOnce = 250
	return fillTogether(owners, atOnce, func(owner string) error {
		_, err := p.Allocate(ctx, owner)
		return err
	})
}

// Audit implements Auditor. The addresses in blocks are those of the owners there.
func (p ourPool) Audit(ctx context.Context) (map[string]netip.Addr, error) {
	held, delegated := map[string]netip.Addr{}, map[string]bool{}
	var names []string
	for info, err := range pool.List(ctx, p.store) {
		if err != nil {
			return nil, err
		}
		names = append(names, info.Name)
		for _, grant := range info.Grants {
			delegated[grant.Owner] = true
		}
	}
	for _, name := range names {
		if err := p.auditPool(ctx, name, delegated, held); err != nil {
			return nil, err
		}
	}
	return held, nil
}

// auditPool adds what is held in the pool of that name, but for what is delegated from it.
func (p ourPool) auditPool(
	ctx context.Context, name string, delegated map[string]bool, held map[string]netip.Addr,
) error {
	one, err := pool.Open(ctx, p.store, name, nil)
	if err != nil {
		return err
	}
	report, err := one.Verify(ctx)
	if err != nil {
		return err
	}
	if !report.OK() {
		return fmt.Errorf("not consistent: %v", report)
	}
	for a, err := range one.Allocations(ctx) {
		if err != nil {
			return err
		}
		if other, twice := held[a.Owner]; twice {
			return fmt.Errorf("not consistent: %q holds %v and %v", a.Owner, other, a.Prefixes)
		}
		if !delegated[a.Owner] {
			held[a.Owner] = a.Prefixes[0].Addr()
		}
	}
	return nil
}

// Commits implements Counter.
func (p ourPool) Commits() (committed, conflicts int) {
	c := p.counts.Counts()
	return c.Committed, c.Commit - c.Committed
}

// Bytes implements Counter.
func (p ourPool) Bytes() int64 { return p.counts.Counts().Bytes }

func (p ourPool) Close() error { return p.store.Close() }

// blocksPool is a writer's part of a pool.
type blocksPool struct {
	ourPool
	blocks *pool.Blocks
}

func (p blocksPool) Allocate(ctx context.Context, owner string) (netip.Addr, error) {
	a, err := p.blocks.Allocate(ctx, pool.Claim{Owner: owner})
	if err != nil {
		return netip.Addr{}, err
	}
	return a.Prefixes[0].Addr(), nil
}

func (p blocksPool) Release(ctx context.Context, owner string) error {
	_, err := p.blocks.Release(ctx, pool.Held{Owner: owner})
	return err
}
