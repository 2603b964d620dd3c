package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// pools measures many pools in one store, apart and in one network.
func (m *measurer) pools(ctx context.Context) error {
	t := &table{name: "pools", head: []string{
		"store", "pools", "create: first tenth · last tenth", "list all", "open one", "allocate once in each",
		"delete: first tenth · last tenth", "record of the network", "store, each pool"}}
	for _, name := range m.stores {
		for _, network := range []string{"", "site"} {
			row, err := m.poolsOf(ctx, name, network)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			t.add(row...)
			m.tell("%s: %d pools are done", name, m.poolCount)
		}
	}
	return m.show(t)
}

func (m *measurer) poolsOf(ctx context.Context, name, network string) (row []string, err error) {
	at, end, err := m.newSite(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	s, err := at.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	empty, err := at.size(ctx)
	if err != nil {
		return nil, err
	}
	many := manyPools{Store: s, count: m.poolCount, network: network}
	created, err := many.each(func(i int) error { return many.create(ctx, i) })
	if err != nil {
		return nil, err
	}
	listed, err := many.list(ctx, m.poolCount)
	if err != nil {
		return nil, err
	}
	record, err := many.networkRecord(ctx)
	if err != nil {
		return nil, err
	}
	size, err := at.size(ctx)
	if err != nil {
		return nil, err
	}
	used, err := many.use(ctx)
	if err != nil {
		return nil, err
	}
	deleted, err := many.each(func(i int) error { return pool.Delete(ctx, s, poolNameOf(i), nil) })
	if err != nil {
		return nil, err
	}
	if _, err := many.list(ctx, 0); err != nil {
		return nil, err
	}
	title := name
	if network != "" {
		title += ", in one network"
	}
	each := int64(0)
	if size > empty {
		each = (size - empty) / int64(m.poolCount)
	}
	return []string{
		title, countText(m.poolCount), created.ends(), timeText(listed), used.opened.median(), used.allocated.median(),
		deleted.ends(), bytesText(record), bytesText(each),
	}, nil
}

// durations are how long one thing after the other took.
type durations []time.Duration

func (d durations) median() string {
	sorted := slices.Sorted(slices.Values(d))
	return timeText(sorted[len(sorted)/2])
}

// ends are the medians of the first tenth and of the last.
func (d durations) ends() string {
	tenth := max(1, len(d)/10)
	return d[:tenth].median() + " · " + d[len(d)-tenth:].median()
}

// manyPools are the pools in one store.
type manyPools struct {
	store.Store
	count   int
	network string
}

func poolNameOf(i int) string { return fmt.Sprintf("pool-%05d", i) }

// each does something with one pool after the other.
func (p manyPools) each(do func(i int) error) (durations, error) {
	var all durations
	for i := range p.count {
		start := time.Now()
		if err := do(i); err != nil {
			return nil, fmt.Errorf("%s: %w", poolNameOf(i), err)
		}
		all = append(all, time.Since(start))
	}
	return all, nil
}

// create makes the i-th pool: the i-th /24 of the /8.
func (p manyPools) create(ctx context.Context, i int) error {
	prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
	spec := pool.Spec{Ranges: []netipx.IPRange{netipx.RangeOfPrefix(prefix)}, Network: p.network}
	_, err := pool.Create(ctx, p.Store, poolNameOf(i), spec, nil)
	return err
}

// list reads all pools, of which there have to be so many.
func (p manyPools) list(ctx context.Context, want int) (time.Duration, error) {
	start, names := time.Now(), map[string]bool{}
	for info, err := range pool.List(ctx, p.Store) {
		if err != nil {
			return 0, err
		}
		names[info.Name] = true
	}
	if len(names) != want {
		return 0, fmt.Errorf("%d pools are listed instead of %d", len(names), want)
	}
	return time.Since(start), nil
}

// used is how long it took to open each pool, and to allocate in it.
type used struct{ opened, allocated durations }

func (p manyPools) use(ctx context.Context) (u used, err error) {
	opened := make([]*pool.Pool, p.count)
	if u.opened, err = p.each(func(i int) (err error) {
		opened[i], err = pool.Open(ctx, p.Store, poolNameOf(i), nil)
		return err
	}); err != nil {
		return used{}, err
	}
	if u.allocated, err = p.each(func(i int) error {
		a, err := opened[i].Allocate(ctx, pool.Claim{Owner: "owner"})
		if want := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}); err == nil && a.Prefixes[0].Addr() != want {
			err = fmt.Errorf("the first address is %v instead of %v", a.Prefixes, want)
		}
		return err
	}); err != nil {
		return used{}, err
	}
	_, err = p.each(func(i int) error {
		_, err := opened[i].Release(ctx, pool.Held{Owner: "owner"})
		return err
	})
	return u, err
}

// networkRecord is how many bytes the record of the network has; 0 without one.
func (p manyPools) networkRecord(ctx context.Context) (int64, error) {
	if p.network == "" {
		return 0, nil
	}
	for r, err := range p.List(ctx, store.KindNetwork, "") {
		return int64(len(r.Data)), err
	}
	return 0, errors.New("the network has no record")
}
