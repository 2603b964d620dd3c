package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// inMemory is the store that is not a [durable.Kind].
const inMemory = "memory"

// storeNames are the stores that can be measured.
var storeNames = []string{inMemory, "bolt", "sqlite", "etcd", "postgres", "mysql", "kube"}

// backend is where places for pools are made.
type backend struct {
	name    string // one of storeNames
	servers *durable.Servers
	dir     string
}

// isServer tells that processes can share a place.
func (b backend) isServer() bool {
	kind, ok := durable.Named(durable.OnStore[b.name].Ours)
	return ok && !kind.OneAtATime
}

// place is an empty place on a backend.
type place struct {
	kind    durable.Kind // none of one in memory
	address string
	// open opens a store there, which is the same one each time if there can be one only.
	open func(ctx context.Context) (store.Store, error)
	end  func() error
}

// poolName is the name of the pool that writers contend for. Handles that are apart have pools of their own.
const poolName = "contended"

// poolsOf returns the names of the pools of so many handles.
func poolsOf(handles int, apart bool) []string {
	if !apart {
		return []string{poolName}
	}
	names := make([]string, handles)
	for n := range names {
		names[n] = fmt.Sprintf("apart-%d", n)
	}
	return names
}

// firstAddress is the first address of that pool.
var firstAddress = netip.MustParseAddr("10.0.0.1")

// newPlace makes a place, with pools of so many addresses each.
func (b backend) newPlace(ctx context.Context, addresses int, pools []string) (place, error) {
	p, err := b.emptyPlace(ctx)
	if err != nil {
		return place{}, err
	}
	for _, name := range pools {
		if err := p.createPool(ctx, name, addresses); err != nil {
			return place{}, errors.Join(err, p.end())
		}
	}
	return p, nil
}

func (b backend) emptyPlace(ctx context.Context) (place, error) {
	if b.name == inMemory {
		m := store.NewMemory()
		return place{open: func(context.Context) (store.Store, error) { return m.Open(), nil }, end: m.Close}, nil
	}
	p, err := b.prepare(ctx, durable.OnStore[b.name].Ours)
	if err != nil {
		return place{}, err
	}
	p.open = func(ctx context.Context) (store.Store, error) { return p.kind.Store(ctx, p.address) }
	if p.kind.OneAtATime {
		err = p.share(ctx)
	}
	return p, err
}

// prepare makes a place of the kind of that name.
func (b backend) prepare(ctx context.Context, name string) (place, error) {
	kind, err := durable.Find(name)
	if err != nil {
		return place{}, err
	}
	dir, err := os.MkdirTemp(b.dir, "place-")
	if err != nil {
		return place{}, err
	}
	p := place{kind: kind}
	p.address, p.end, err = kind.Prepare(ctx, b.servers, dir)
	return p, err
}

// share opens the store once for all.
func (p *place) share(ctx context.Context) error {
	one, err := p.open(ctx)
	if err != nil {
		return errors.Join(err, p.end())
	}
	end := p.end
	p.open = func(context.Context) (store.Store, error) { return shared{one}, nil }
	p.end = func() error { return errors.Join(one.Close(), end()) }
	return nil
}

// shared is a store that others go on with when one closes it.
type shared struct{ store.Store }

// Close does nothing.
func (shared) Close() error { return nil }

func (p *place) createPool(ctx context.Context, name string, addresses int) error {
	s, err := p.open(ctx)
	if err != nil {
		return err
	}
	last := firstAddress
	for range addresses - 1 {
		last = last.Next()
	}
	spec := pool.Spec{Ranges: []netipx.IPRange{netipx.IPRangeFrom(firstAddress, last)}}
	_, err = pool.Create(ctx, s, name, spec, nil)
	return errors.Join(err, s.Close())
}
