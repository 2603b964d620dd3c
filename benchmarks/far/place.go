package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Of the pool with many owners, or with many writers. The name is the one that an audit of [durable] opens.
const poolName = "pods"

var (
	poolPrefix = netip.MustParsePrefix("10.0.0.0/8")
	poolSpec   = pool.Spec{Ranges: []netipx.IPRange{netipx.RangeOfPrefix(poolPrefix)}}
)

// site is where a store is: to a process of its own too, unless it is in memory.
type site struct {
	// Kind is the name of a [durable.Kind]; empty for a store in memory.
	Kind, Address string

	memory *store.Memory
}

// open opens a handle of the store.
func (s site) open(ctx context.Context) (store.Store, error) {
	if s.memory != nil {
		return s.memory.Open(), nil
	}
	kind, err := durable.Find(s.Kind)
	if err != nil {
		return nil, err
	}
	return kind.Store(ctx, s.Address)
}

// size is how many bytes the store takes; 0 if that is not known.
func (s site) size(ctx context.Context) (int64, error) {
	if s.memory != nil {
		return 0, nil
	}
	kind, err := durable.Find(s.Kind)
	if err != nil {
		return 0, err
	}
	return kind.Size(ctx, s.Address)
}

// newSite makes an empty store.
func (m *measurer) newSite(ctx context.Context, name string) (site, func() error, error) {
	if name == "memory" {
		memory := store.NewMemory()
		return site{memory: memory}, memory.Close, nil
	}
	return m.prepare(ctx, durable.OnStore[name].Ours)
}

// prepare makes an empty place of a kind, which is removed at its end if it is a file.
func (m *measurer) prepare(ctx context.Context, name string) (site, func() error, error) {
	kind, err := durable.Find(name)
	if err != nil {
		return site{}, nil, err
	}
	dir, err := os.MkdirTemp(m.dir, "place-")
	if err != nil {
		return site{}, nil, err
	}
	address, end, err := kind.Prepare(ctx, m.servers, dir)
	if err != nil {
		return site{}, nil, err
	}
	return site{Kind: name, Address: address}, func() error { return errors.Join(end(), os.RemoveAll(dir)) }, nil
}

// rounds is how often an operation is done of which a median is told.
const rounds = 200

// median is the median time of an operation, with what it is to be done with next.
func median(operation func(round int) error) (time.Duration, error) {
	var took []time.Duration
	for round := range rounds {
		start := time.Now()
		if err := operation(round); err != nil {
			return 0, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[rounds/2], nil
}

// bareSwap is how long one client takes to swap one record in a transaction, without a pool.
func (m *measurer) bareSwap(ctx context.Context, name string) (took time.Duration, err error) {
	if name == "memory" {
		return 0, nil
	}
	at, end, err := m.prepare(ctx, durable.OnStore[name].Bare)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, end()) }()
	kind, err := durable.Find(at.Kind)
	if err != nil {
		return 0, err
	}
	p, err := kind.Open(ctx, at.Address, poolPrefix)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	swapper, ok := p.(durable.Swapper)
	if !ok {
		return 0, fmt.Errorf("%s has nothing to swap", at.Kind)
	}
	return median(func(int) error { return swapper.Swap(ctx) })
}
