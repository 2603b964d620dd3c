package simulation

import (
	"context"
	"fmt"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Audit reads everything through the library, without steps, and requires that heads and records agree, and that the
// rules hold for what it says.
func (l *Workload) Audit() error {
	ctx, s := context.Background(), l.Open(nil)
	for _, audit := range append([]func(context.Context, store.Store) error{world.Audit, l.auditTogether}, l.Audits...) {
		if err := audit(ctx, s); err != nil {
			return err
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
