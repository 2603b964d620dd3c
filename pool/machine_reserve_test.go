package pool_test

import (
	"context"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
)

// Reserve reserves something for an owner.
func (s *machine) Reserve(t *rapid.T) {
	m := s.anyPool(t)
	c := anyClaim(m).Draw(t, "claim")
	if rapid.IntRange(0, 9).Draw(t, "with a time to live or a share key") > 0 {
		c.TTL, c.Share = 0, ""
	}
	s.reserve(t, m, c)
}

// ReserveHeld reserves the very prefixes that an owner holds or has held, mostly for that owner.
func (s *machine) ReserveHeld(t *rapid.T) {
	m := s.anyPool(t)
	if len(m.Records) == 0 {
		t.Skip("nobody holds anything")
	}
	r := m.Records[rapid.IntRange(0, len(m.Records)-1).Draw(t, "record")]
	c := pool.Claim{Owner: r.Owner, Scope: r.Scope, Requests: exactly(r.Prefixes...)}
	isBlock := !slices.Contains(owners, r.Owner) // which nobody asks for but its writer
	if isBlock || rapid.IntRange(0, 3).Draw(t, "by another") == 0 {
		c.Owner = rapid.SampledFrom(owners).Draw(t, "owner")
	}
	s.reserve(t, m, c)
}

func (s *machine) reserve(t *rapid.T, m *world.Pool, c pool.Claim) {
	p, latest := s.handle(t, m.Name), s.latest[m.Name]
	var got pool.Allocation
	err := s.call(t, func(ctx context.Context) (err error) {
		got, err = p.Reserve(ctx, c)
		return err
	})
	after, want, fails := s.world.Reserve(m.Name, c, s.sight(t, m.Name, c.Owner, got, err))
	if !s.answered(t, err, after, refusal(fails)) {
		require.Zero(t, got)
		return
	}
	s.granted(t, m.Name, want, got, latest)
	clear(c.Requests)
	clear(c.Labels)
}

// Unreserve ends a reservation.
func (s *machine) Unreserve(t *rapid.T) {
	m := s.anyPool(t)
	held := s.anyName(t, m)
	if reserved := s.reserved(m); len(reserved) > 0 && rapid.IntRange(0, 3).Draw(t, "reserved") > 0 {
		r := rapid.SampledFrom(reserved).Draw(t, "reservation")
		held.Owner, held.Generation = r.Owner, 0
		if held.Addr.IsValid() {
			held.Addr, held.Owner = anySide(t, m, r.Prefixes[0].Addr()), ""
		}
	}
	p := s.handle(t, m.Name)
	s.change(t, m.Name, func(ctx context.Context) (pool.Allocation, error) { return p.Unreserve(ctx, held) },
		func() (*world.World, *world.Record, error) { return s.world.Unreserve(m.Name, held) })
}

func (s *machine) reserved(m *world.Pool) (all []*world.Record) {
	for _, r := range m.Records {
		if r.Reserved {
			all = append(all, r)
		}
	}
	return all
}

// Reservations lists them.
func (s *machine) Reservations(t *rapid.T) {
	m := s.anyPool(t)
	s.skipUnsettled(t, m)
	var got, want []pool.Allocation
	for a, err := range s.handle(t, m.Name).Reservations(context.Background()) {
		require.NoError(t, err)
		got = append(got, a)
	}
	for _, r := range s.reserved(m) {
		want = append(want, r.Allocation)
	}
	slices.SortFunc(got, world.ByAddr)
	slices.SortFunc(want, world.ByAddr)
	require.Equal(t, want, got)
}
