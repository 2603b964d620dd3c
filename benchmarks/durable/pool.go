package durable

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// ourPool is a pool of this library in a store, whose commits are counted.
type ourPool struct {
	*pool.Pool
	store  store.Store
	counts *storetest.Faults
}

// openIn opens the pool of the prefix in any store, which is closed with it, or creates it.
func openIn(ctx context.Context, s store.Store, prefix netip.Prefix) (Pool, error) {
	counts := &storetest.Faults{}
	spec := pool.Spec{Ranges: []netipx.IPRange{netipx.RangeOfPrefix(prefix)}}
	p, err := pool.OpenOrCreate(ctx, counts.Wrap(s), "pods", spec, nil)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return ourPool{p, s, counts}, nil
}

func (p ourPool) Allocate(ctx context.Context, owner string) (netip.Addr, error) {
	a, err := p.Pool.Allocate(ctx, pool.Claim{Owner: owner})
	if err != nil {
		return netip.Addr{}, err
	}
	return a.Prefixes[0].Addr(), nil
}

func (p ourPool) Release(ctx context.Context, owner string) error {
	_, err := p.Pool.Release(ctx, owner)
	return err
}

// Fill has many calls wait at once, which share commits.
func (p ourPool) Fill(ctx context.Context, owners []string) error {
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

// Audit implements Auditor.
func (p ourPool) Audit(ctx context.Context) (map[string]netip.Addr, error) {
	report, err := p.Verify(ctx)
	if err != nil {
		return nil, err
	}
	if !report.OK() {
		return nil, fmt.Errorf("not consistent: %v", report)
	}
	held := map[string]netip.Addr{}
	for a, err := range p.Allocations(ctx) {
		if err != nil {
			return nil, err
		}
		held[a.Owner] = a.Prefixes[0].Addr()
	}
	return held, nil
}

// Commits implements Counter.
func (p ourPool) Commits() (committed, conflicts int) {
	c := p.counts.Counts()
	return c.Committed, c.Commit - c.Committed
}

// Bytes implements Counter.
func (p ourPool) Bytes() int64 { return p.counts.Counts().Bytes }

func (p ourPool) Close() error { return p.store.Close() }
