package simulation

import (
	"context"
	"fmt"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Audit reads everything through the library, without steps, and requires that heads and records agree, and that the
// rules hold for what it says.
func (l *Workload) Audit() error {
	ctx, s := context.Background(), l.Open(nil)
	for _, audit := range append([]func(context.Context, store.Store) error{l.audit, l.auditTogether}, l.Audits...) {
		if err := audit(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (l *Workload) audit(ctx context.Context, s store.Store) error {
	all := newLedger()
	for n, err := range pool.Networks(ctx, s) {
		if err != nil {
			return err
		}
		all.foreign[n.Name] = addressesIn(n.Foreign...)
	}
	free := map[string]addresses{}
	for info, err := range pool.List(ctx, s) {
		if err != nil {
			return err
		}
		if free[info.Name], err = l.auditPool(ctx, s, info.Name, all); err != nil {
			return fmt.Errorf("pool %q: %w", info.Name, err)
		}
	}
	all.written = true
	if err := all.check(); err != nil {
		return err
	}
	for _, p := range all.pages {
		if want := all.allowed(p) &^ p.held(); free[p.name] != want {
			return fmt.Errorf("pool %q: %v are free, want %v", p.name, free[p.name], want)
		}
	}
	return auditNetworks(ctx, s, all)
}

// auditPool enters a pool in the ledger, and returns what is free in it.
func (l *Workload) auditPool(ctx context.Context, s store.Store, name string, all *ledger) (addresses, error) {
	p, err := pool.Open(ctx, s, name, l.options(nil))
	if err != nil {
		return 0, err
	}
	report, err := p.Verify(ctx)
	if err != nil {
		return 0, err
	}
	if !report.OK() {
		return 0, fmt.Errorf("head and records do not agree: %v", report)
	}
	snapshot, err := p.Snapshot(ctx)
	if err != nil {
		return 0, err
	}
	all.page(name).missing = false
	all.page(name).describe(snapshot.Spec, snapshot.Parent)
	all.enter(snapshot)
	free, err := p.FreeSet(ctx, pool.IPv4)
	if err != nil {
		return 0, err
	}
	return addressesIn(free.Ranges()...), nil
}

// enter enters what is held in a pool.
func (l *ledger) enter(s pool.Snapshot) {
	p := l.page(s.Name)
	for _, a := range s.Allocations {
		key := store.Key{Kind: store.KindAllocation, Pool: s.Name, Name: a.Owner}
		p.put(entry{key: key, held: addressesOf(a.Prefixes...), live: true, child: a.Child})
	}
	for _, a := range s.Cooling {
		key := store.Key{Kind: store.KindCooling, Pool: s.Name, Name: a.Prefixes[0].String()}
		p.put(entry{key: key, held: addressesOf(a.Prefixes...)})
	}
}

// auditNetworks requires that networks know the ranges of their pools, and what these hold outside of them.
func auditNetworks(ctx context.Context, s store.Store, all *ledger) error {
	found := map[string]pool.Network{}
	for n, err := range pool.Networks(ctx, s) {
		if err != nil {
			return err
		}
		found[n.Name] = n
		for name := range n.Pools {
			if p := all.find(name); p == nil || p.parent != "" || p.network != n.Name {
				return fmt.Errorf("the network %q has the pool %q, which is not in it", n.Name, name)
			}
		}
	}
	for _, p := range all.pages {
		if p.parent != "" || p.network == "" {
			continue
		}
		n := found[p.network]
		if got := addressesIn(n.Pools[p.name]...); got != p.ranges {
			return fmt.Errorf("the network %q has %v as the ranges of %q, want %v", n.Name, got, p.name, p.ranges)
		}
		if got, want := addressesIn(n.Held[p.name]...), p.held()&^p.ranges; want&^got != 0 {
			return fmt.Errorf("the network %q has %v as what %q holds out of range, want %v", n.Name, got, p.name, want)
		}
	}
	return nil
}

// auditTogether requires that an owner that claims in several pools at once holds something in all of them or in none.
func (l *Workload) auditTogether(ctx context.Context, s store.Store) error {
	holds := map[string]map[string]bool{}
	for _, name := range []string{poolA, poolB, poolC} {
		p, err := pool.Open(ctx, s, name, l.options(nil))
		if name == poolC && err != nil {
			continue // it comes and goes
		}
		if err != nil {
			return err
		}
		for a, err := range p.Allocations(ctx) {
			if err != nil {
				return err
			}
			if a.Labels[together] == "" {
				continue
			}
			if holds[a.Owner] == nil {
				holds[a.Owner] = map[string]bool{}
			}
			holds[a.Owner][name] = true
		}
	}
	for owner, in := range holds {
		if !in[poolA] || in[poolB] == in[poolC] {
			return fmt.Errorf("%q holds something of what was claimed together in %v only", owner, in)
		}
	}
	return nil
}
