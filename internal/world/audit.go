package world

import (
	"context"
	"fmt"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Audit reads a store and returns an error that names the first rule that it breaks, or nil: those of [World.Check],
// and these:
//
//   - The head of each pool agrees with its records; see [pool.Pool.Verify].
//   - What is free in a pool is all that it may hand out and that nobody holds. A pool delegated from another may hand
//     out nothing that its parent may not.
//   - A label finds just the records that have it; see [store.ByLabel]. (A label that no record has finds none: that is
//     not looked at, as there is no end of them.)
//   - The records of the networks name the ranges of their pools.
//
// Nobody else may change the store meanwhile. Cost: O(allocations) of all pools.
func Audit(ctx context.Context, s store.Store) error {
	w, err := Read(ctx, s)
	if err != nil {
		return err
	}
	if err := w.Check(); err != nil {
		return err
	}
	for _, name := range w.Names() {
		if err := w.auditPool(ctx, s, w.Pools[name]); err != nil {
			return fmt.Errorf("pool %q: %w", name, err)
		}
	}
	return w.auditNetworks(ctx, s)
}

// Read reads the pools of a store and what is external in its networks, for [World.Check]. The pools have no universe,
// so the world is not for calls. Cost: O(allocations) of all pools.
func Read(ctx context.Context, s store.Store) (*World, error) {
	w := (&World{}).clone()
	for n, err := range pool.Networks(ctx, s) {
		if err != nil {
			return nil, err
		}
		w.External[n.Name] = n.External
	}
	for info, err := range pool.List(ctx, s) {
		if err != nil {
			return nil, err
		}
		p, err := pool.Open(ctx, s, info.Name, nil)
		if err != nil {
			return nil, err
		}
		snapshot, err := p.Snapshot(ctx)
		if err != nil {
			return nil, err
		}
		w.Pools[info.Name] = poolOf(snapshot)
	}
	return w, nil
}

// poolOf is a pool as a snapshot has it.
func poolOf(s pool.Snapshot) *Pool {
	m := &Pool{Name: s.Name, Spec: s.Spec}
	m.Parent, m.Grants, m.Moving = s.Parent, ownersOf(s.Grants), s.Renumbering
	for _, a := range s.Allocations {
		m.Records = append(m.Records, &Record{Allocation: a})
	}
	for _, a := range s.Kept {
		m.Records = append(m.Records, &Record{Allocation: a, Cooling: true})
	}
	for _, a := range s.Cooling {
		aside := slices.ContainsFunc(m.Records, func(r *Record) bool { return r.Owner == a.Owner })
		m.Records = append(m.Records, &Record{Allocation: a, Cooling: true, Aside: aside})
	}
	return m
}

func (w *World) auditPool(ctx context.Context, s store.Store, m *Pool) error {
	p, err := pool.Open(ctx, s, m.Name, nil)
	if err != nil {
		return err
	}
	report, err := p.Verify(ctx)
	if err != nil {
		return err
	}
	if !report.OK() {
		return fmt.Errorf("head and records do not agree: %v", report)
	}
	if err := auditLabels(ctx, s, m.Name); err != nil {
		return err
	}
	for _, f := range m.Families() {
		got, err := p.FreeSet(ctx, f)
		if err != nil {
			return err
		}
		if want := w.freeSet(m, f); !got.Equal(want) {
			return fmt.Errorf("%v are free, want %v", cidr.FormatSet(got), cidr.FormatSet(want))
		}
	}
	return nil
}

func (w *World) auditNetworks(ctx context.Context, s store.Store) error {
	want := w.Networks()
	for n, err := range pool.Networks(ctx, s) {
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(keys(n.Pools, want[n.Name].Pools)) {
			if got, want := n.Pools[name], want[n.Name].Pools[name]; !slices.Equal(got, want) {
				return fmt.Errorf("network %q: it has the ranges %v of the pool %q, want %v", n.Name, got, name, want)
			}
			if err := w.auditHeld(n, name); err != nil {
				return err
			}
		}
		delete(want, n.Name)
	}
	for name := range want {
		return fmt.Errorf("network %q has pools, and no record", name)
	}
	return nil
}

// auditHeld requires the record of a network to have all that a pool of it holds outside of its ranges. It may have
// more, which the pool has released since.
func (w *World) auditHeld(n pool.Network, name string) error {
	m := w.Pools[name]
	if m == nil {
		return nil
	}
	missing := cidr.Difference(cidr.SetOf(m.OutOfRanges()...), cidr.SetOf(n.Held[name]...))
	if len(missing.Ranges()) > 0 {
		return fmt.Errorf("network %q: it does not have %v, which the pool %q holds out of range",
			n.Name, missing.Ranges(), name)
	}
	return nil
}

// keys iterates over the keys of both maps, those in both once.
func keys(some, others map[string][]netipx.IPRange) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range some {
			if !yield(name) {
				return
			}
		}
		for name := range others {
			if _, twice := some[name]; !twice && !yield(name) {
				return
			}
		}
	}
}
