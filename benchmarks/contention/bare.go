package main

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
	"github.com/ipalloc/ipalloc/benchmarks/measure"
	"github.com/ipalloc/ipalloc/store"
)

// bare is how the rows of bare stores are called, instead of how handles run.
const bare = "bare"

// measureBare has one client swap one record, again and again: what all commits to one head come down to.
func measureBare(ctx context.Context, b backend, length time.Duration) (r row, err error) {
	swapper, end, err := b.swapper(ctx)
	if err != nil {
		return row{}, err
	}
	defer func() { err = errors.Join(err, end()) }()
	if err := swapper.Swap(ctx); err != nil { // makes the record
		return row{}, err
	}
	var waits measure.Histogram
	begun := time.Now()
	for now := begun; now.Sub(begun) < length; {
		if err := swapper.Swap(ctx); err != nil {
			return row{}, err
		}
		before := now
		now = time.Now()
		waits.Add(now.Sub(before))
	}
	r = row{Store: b.name, As: bare, Handles: 1, Goroutines: 1, Seconds: time.Since(begun).Seconds()}
	r.Claims, r.Commits = waits.Count(), waits.Count()
	r.setWaits(&waits)
	r.PerSecond = float64(r.Claims) / r.Seconds
	return r, nil
}

// swapper makes a place of the bare kind.
func (b backend) swapper(ctx context.Context) (durable.Swapper, func() error, error) {
	if b.name == inMemory {
		m := store.NewMemory()
		return &headSwapper{store: m}, m.Close, nil
	}
	at, err := b.prepare(ctx, durable.OnStore[b.name].Bare)
	if err != nil {
		return nil, nil, err
	}
	p, err := at.kind.Open(ctx, at.address, netip.PrefixFrom(firstAddress, 16).Masked())
	if err != nil {
		return nil, nil, errors.Join(err, at.end())
	}
	swapper, ok := p.(durable.Swapper)
	if !ok {
		return nil, nil, errors.Join(errors.New("has nothing to swap"), p.Close(), at.end())
	}
	return swapper, func() error { return errors.Join(p.Close(), at.end()) }, nil
}

// headSwapper swaps a head in a store, where there is nothing below that.
type headSwapper struct {
	store store.Store
	head  store.Record
}

// Swap implements durable.Swapper.
func (h *headSwapper) Swap(ctx context.Context) error {
	h.head.Key = store.Key{Kind: store.KindPool, Pool: poolName}
	stored, err := h.store.Commit(ctx, store.Change{Head: h.head})
	if err == nil {
		h.head = stored[0]
	}
	return err
}
