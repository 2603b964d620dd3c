package pool_test

import (
	"cmp"
	"context"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
)

// Find finds what has some labels, in pages of any size.
func (s *machine) Find(t *rapid.T) {
	m := s.anyPool(t)
	s.skipUnsettled(t, m)
	q := pool.Query{Labels: anyLabels(t), ByAddress: rapid.Bool().Draw(t, "by address")}
	switch rapid.IntRange(0, 3).Draw(t, "labels") {
	case 0:
		delete(q.Labels, "node")
	case 1:
		delete(q.Labels, "k8s.io/pod")
	}
	if len(q.Labels) == 0 && !q.ByAddress {
		requireFindsNothing(t, s.handle(t, m.Name), q)
		return
	}
	want := m.Labelled(q.Labels)
	got := s.pages(t, m.Name, q, rapid.IntRange(1, len(want)+1).Draw(t, "page"))
	if !q.ByAddress {
		// The store in memory, and a pool without a store, go by the bytes of the owner.
		slices.SortFunc(want, func(a, b pool.Allocation) int { return cmp.Compare(a.Owner, b.Owner) })
	}
	require.Equal(t, want, got)
}

func requireFindsNothing(t *rapid.T, p *pool.Pool, q pool.Query) {
	for a, err := range p.Find(context.Background(), q) {
		require.Zero(t, a)
		require.ErrorIs(t, err, pool.ErrInvalid)
	}
}

// pages are all that a query finds, read in pages, each with any handle.
func (s *machine) pages(t *rapid.T, name string, q pool.Query, size int) (all []pool.Allocation) {
	for {
		n := 0
		for a, err := range s.handle(t, name).Find(context.Background(), q) {
			require.NoError(t, err)
			if n++; n > size {
				break
			}
			all = append(all, a)
		}
		if n <= size {
			return all
		}
		last := all[len(all)-1]
		if q.ByAddress {
			q.AfterAddr = world.Lowest(last)
		}
		q.AfterOwner = last.Owner
	}
}
