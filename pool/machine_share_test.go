package pool_test

import (
	"context"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
)

// Join claims what others share, for any owner: mostly by its key, and mostly just that.
func (s *machine) Join(t *rapid.T) {
	m := s.anyPool(t)
	shared := s.shared(m)
	if len(shared) == 0 {
		t.Skip("nobody shares anything")
	}
	r := rapid.SampledFrom(shared).Draw(t, "record")
	c := anyOwnersClaim(t, m, rapid.SampledFrom(owners).Draw(t, "owner"))
	c.Scope, c.Requests = r.Scope, exactly(r.Prefixes...)
	if rapid.IntRange(0, 4).Draw(t, "by another key") > 0 {
		c.Share = r.Share
	}
	if rapid.IntRange(0, 4).Draw(t, "by the default") == 0 {
		c.Requests = nil
	}
	s.allocate(t, m, c)
}

// Holders lists who holds an address.
func (s *machine) Holders(t *rapid.T) {
	m := s.anyPool(t)
	s.skipUnsettled(t, m)
	a := anyAddr(m.Universe[rapid.SampledFrom(m.Families()).Draw(t, "family")]).Draw(t, "address")
	if shared := s.shared(m); len(shared) > 0 && rapid.Bool().Draw(t, "shared") {
		a = rapid.SampledFrom(shared).Draw(t, "record").Prefixes[0].Addr()
	}
	got, err := s.handle(t, m.Name).Holders(context.Background(), a)
	want := m.Holders(a)
	if len(want) == 0 {
		require.ErrorIs(t, err, pool.ErrNotFound)
		return
	}
	require.NoError(t, err)
	slices.SortFunc(got, world.ByAddr)
	require.Equal(t, want, got)
}

func (s *machine) shared(m *world.Pool) (all []*world.Record) {
	for _, r := range m.Records {
		if r.Share != "" {
			all = append(all, r)
		}
	}
	return all
}
