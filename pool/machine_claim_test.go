package pool_test

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

func (s *machine) Allocate(t *rapid.T) {
	m := s.anyPool(t)
	s.allocate(t, m, anyClaim(m).Draw(t, "claim"))
}

func (s *machine) AllocateDefault(t *rapid.T) {
	m := s.anyPool(t)
	s.allocate(t, m, anyOwnersClaim(t, m, rapid.SampledFrom(owners).Draw(t, "owner")))
}

// AllocateAgain asks for the very prefixes that an owner holds or has held.
func (s *machine) AllocateAgain(t *rapid.T) {
	m := s.anyPool(t)
	if len(m.Records) == 0 {
		t.Skip("nobody holds anything")
	}
	r := m.Records[rapid.IntRange(0, len(m.Records)-1).Draw(t, "record")]
	c := pool.Claim{Owner: r.Owner, Scope: r.Scope, TTL: anyTTL(t), Requests: exactly(r.Prefixes...)}
	isBlock := !slices.Contains(owners, r.Owner) // which nobody asks for but its writer
	if isBlock || rapid.IntRange(0, 3).Draw(t, "by another") == 0 {
		c.Owner = rapid.SampledFrom(owners).Draw(t, "owner")
	}
	s.allocate(t, m, c)
}

func (s *machine) allocate(t *rapid.T, m *world.Pool, c pool.Claim) {
	p := s.handle(t, m.Name)
	dry := rapid.Bool().Draw(t, "dry run first")
	var would pool.Allocation
	var wouldErr error
	if dry {
		would, wouldErr = p.DryRun(context.Background(), c)
		requireSame(t, s.world, m.Name, p)
	}
	call := p.Allocate
	if _, _, err := s.world.Allocate(m.Name, c, world.Sight{}); err == nil && rapid.Bool().Draw(t, "wait") {
		call = p.AllocateWait
	}
	latest := s.latest[m.Name]
	var got pool.Allocation
	err := s.call(t, func(ctx context.Context) (err error) {
		got, err = call(ctx, c)
		return err
	})
	after, want, fails := s.world.Allocate(m.Name, c, s.sight(t, m.Name, c.Owner, got, err))
	if fails != nil {
		require.True(t, !dry || errors.Is(wouldErr, fails), "%v", wouldErr)
		require.Zero(t, got)
		requireNext(t, m, s.world.Now, err)
	}
	if !s.answered(t, err, after, refusal(fails)) {
		require.Zero(t, got)
		return
	}
	if dry && m.Spec.Strategy != pool.RandomFree {
		require.NoError(t, wouldErr)
		would.Generation = got.Generation
		require.Equal(t, got, would)
	}
	s.granted(t, m.Name, want, got, latest)
	// What a call was given and what it returned is the caller's.
	clear(c.Requests)
	clear(c.Labels)
}

// refusal is the one error of a call, or none.
func refusal(err error) world.Refusals {
	if err == nil {
		return nil
	}
	return world.Refusals{err}
}

// granted requires a call to have returned what the model says, of a generation that is higher than an earlier one if
// it is new.
func (s *machine) granted(t *rapid.T, name string, want *world.Record, got pool.Allocation, generation int64) {
	if want.Generation == 0 {
		require.Greater(t, got.Generation, generation)
		want.Generation = got.Generation
		s.latest[name] = max(s.latest[name], got.Generation)
	}
	require.Equal(t, want.Allocation, got)
	clear(got.Prefixes)
}

// sight is what can be seen of a call for an owner that returned got, or an error, if the model needs to know.
func (s *machine) sight(t *rapid.T, name, owner string, got pool.Allocation, err error) world.Sight {
	if errors.Is(err, store.ErrUnknown) {
		p, err := pool.Open(context.Background(), s.store, name, s.options)
		if err != nil {
			return world.Sight{}
		}
		got, _ = p.Get(context.Background(), owner)
	}
	seen := world.Sight{Prefixes: slices.Clone(got.Prefixes)}
	if m := s.world.Pools[name]; m == nil || !m.Tied(s.world.Now) {
		return seen
	}
	all, err := s.handles[name][0].Snapshot(context.Background())
	require.NoError(t, err)
	seen.Left = func(r *world.Record) bool {
		return slices.ContainsFunc(slices.Concat(all.Allocations, all.Cooling), func(a pool.Allocation) bool {
			return a.Owner == r.Owner && a.Prefixes[0] == r.Prefixes[0] && a.Expires.Equal(r.Expires)
		})
	}
	return seen
}

// requireNext requires an error about exhaustion to say when the next address frees.
func requireNext(t *rapid.T, m *world.Pool, now time.Time, err error) {
	var exhausted *pool.ExhaustedError
	if errors.As(err, &exhausted) {
		require.Equal(t, m.Next(now), exhausted.Next)
	}
}

func (s *machine) AllocateBad(t *rapid.T) {
	m := s.anyPool(t)
	_, err := s.handle(t, m.Name).Allocate(context.Background(), badClaim(t, m))
	require.ErrorIs(t, err, pool.ErrInvalid)
}

func anyHeld(t *rapid.T, m *world.Pool) pool.Allocation {
	held := m.Held()
	if len(held) == 0 {
		t.Skip("nobody holds anything")
	}
	return held[rapid.SampledFrom(slices.Sorted(maps.Keys(held))).Draw(t, "owner")]
}

func (s *machine) Release(t *rapid.T) {
	s.release(t, s.anyPool(t), rapid.SampledFrom(owners).Draw(t, "owner"), 0)
}

func (s *machine) ReleaseHeld(t *rapid.T) {
	m := s.anyPool(t)
	s.release(t, m, anyHeld(t, m).Owner, 0)
}

func (s *machine) ReleaseGeneration(t *rapid.T) {
	m := s.anyPool(t)
	a := anyHeld(t, m)
	s.release(t, m, a.Owner, a.Generation)
}

func (s *machine) ReleaseStaleGeneration(t *rapid.T) {
	m := s.anyPool(t)
	a := anyHeld(t, m)
	stale := s.stale[[2]string{m.Name, a.Owner}]
	if stale == 0 || stale == a.Generation {
		stale = rapid.SampledFrom([]int64{-1, a.Generation - 1, a.Generation + 1, 1 << 40}).Draw(t, "generation")
	}
	if stale != 0 {
		s.release(t, m, a.Owner, stale)
	}
}

func (s *machine) release(t *rapid.T, m *world.Pool, owner string, generation int64) {
	var got pool.Allocation
	p := s.handle(t, m.Name)
	err := s.call(t, func(ctx context.Context) (err error) {
		got, err = p.ReleaseGeneration(ctx, owner, generation)
		return err
	})
	if r := m.Live(owner); r != nil && generation != 0 && generation != r.Generation {
		s.answered(t, err, nil, world.Refusals{pool.ErrGeneration})
		return
	}
	s.released(t, m.Name, owner, got, err)
}

// released requires the release of all that an owner holds to have answered as it should.
func (s *machine) released(t *rapid.T, name, owner string, got pool.Allocation, err error) {
	after, want, fails := s.world.Release(name, owner)
	if s.answered(t, err, after, refusal(fails)) {
		s.gone(t, name, want, got)
	}
}

// gone requires a release to have returned what the model says.
func (s *machine) gone(t *rapid.T, name string, want *world.Record, got pool.Allocation) {
	require.Equal(t, want.Allocation, got)
	clear(got.Prefixes)
	s.stale[[2]string{name, want.Owner}] = want.Generation
}

func (s *machine) Renew(t *rapid.T) {
	m := s.anyPool(t)
	owner := rapid.SampledFrom(owners).Draw(t, "owner")
	if rapid.Bool().Draw(t, "held") {
		owner = anyHeld(t, m).Owner
	}
	ttl := anyTTL(t)
	p := s.handle(t, m.Name)
	var got pool.Allocation
	err := s.call(t, func(ctx context.Context) (err error) {
		got, err = p.Renew(ctx, owner, ttl)
		return err
	})
	if ttl == 0 {
		require.ErrorIs(t, err, pool.ErrInvalid)
		return
	}
	after, want, fails := s.world.Renew(m.Name, owner, ttl)
	if s.answered(t, err, after, refusal(fails)) {
		s.granted(t, m.Name, want, got, 0)
	}
}

func (s *machine) Reap(t *rapid.T) {
	m := s.anyPool(t)
	after, want := s.world.Reap(m.Name)
	got, err := s.handle(t, m.Name).Reap(context.Background())
	require.NoError(t, err)
	require.Equal(t, want, got)
	s.become(t, after)
}

func (s *machine) Get(t *rapid.T) {
	m := s.anyPool(t)
	owner := rapid.SampledFrom(owners).Draw(t, "owner")
	want, ok := m.Held()[owner]
	got, err := s.handle(t, m.Name).Get(context.Background(), owner)
	if !ok {
		require.ErrorIs(t, err, pool.ErrNotFound)
	} else {
		require.NoError(t, err)
	}
	require.Equal(t, want, got)
}

func (s *machine) Lookup(t *rapid.T) {
	m := s.anyPool(t)
	f := rapid.SampledFrom([]pool.Family{pool.IPv4, pool.IPv6}).Draw(t, "family")
	a := anyAddr(m.Universe[f]).Draw(t, "address")
	got, err := s.handle(t, m.Name).Lookup(context.Background(), a)
	if r := m.Taken()[a]; r == nil || r.Cooling {
		require.ErrorIs(t, err, pool.ErrNotFound)
	} else {
		require.NoError(t, err)
		require.Equal(t, r.Allocation, got)
	}
}

func (s *machine) List(t *rapid.T) {
	m := s.anyPool(t)
	p := s.handle(t, m.Name)
	got := map[string]pool.Allocation{}
	for a, err := range p.Allocations(context.Background()) {
		require.NoError(t, err)
		require.NotContains(t, got, a.Owner)
		got[a.Owner] = a
	}
	require.Equal(t, m.Held(), got)
	for _, f := range m.Families() {
		free, err := p.FreeSet(context.Background(), f)
		require.NoError(t, err)
		for _, a := range addrsOf(m.Universe[f]) {
			require.Equal(t, m.Free()[a], free.Contains(a), "%v", a)
		}
	}
}

// Spoil changes what calls returned, which is the caller's.
func (s *machine) Spoil(t *rapid.T) {
	m := s.anyPool(t)
	p := s.handle(t, m.Name)
	all, err := p.Snapshot(context.Background())
	require.NoError(t, err)
	clear(all.Spec.Ranges)
	for _, a := range slices.Concat(all.Allocations, all.Cooling) {
		clear(a.Prefixes)
		clear(a.Labels)
	}
	a := anyHeld(t, m)
	got, err := p.Get(context.Background(), a.Owner)
	require.NoError(t, err)
	clear(got.Prefixes)
	clear(got.Labels)
}

func (s *machine) Repair(t *rapid.T) {
	report, err := s.handle(t, s.anyPool(t).Name).Repair(context.Background())
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report)
}

func exactly(prefixes ...netip.Prefix) []pool.Request {
	var requests []pool.Request
	for _, p := range prefixes {
		requests = append(requests, pool.Request{Exact: p})
	}
	return requests
}
