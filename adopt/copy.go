package adopt

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// copyOf returns a pool in memory that holds and hands out the same, and its revision. It is in no network and has no
// parent.
func copyOf(ctx context.Context, p *pool.Pool, clock func() time.Time) (*pool.Pool, int64, error) {
	s, err := p.Snapshot(ctx)
	if err != nil {
		return nil, 0, err
	}
	// What others withhold is withheld, and what was delegated is held.
	s.Spec.Exclude = append(slices.Clone(s.Spec.Exclude), s.Withheld...)
	s.Spec.Network, s.Withheld = "", nil
	s.Parent, s.Grants = "", nil
	for i := range s.Allocations {
		s.Allocations[i].Child = ""
	}
	name := cmp.Or(s.Name, "copy")
	c, err := pool.Import(ctx, store.NewMemory(), name, s, &pool.Options{Clock: clock})
	if err != nil {
		return nil, 0, fmt.Errorf("a copy of pool %q: %w", name, err)
	}
	info, err := c.Info(ctx)
	return c, info.Revision, err
}
