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
	c := pool.Claim{Owner: r.Owner, Scope: r.Scope, Share: r.Share, TTL: anyTTL(t), Requests: exactly(r.Prefixes...)}
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
		if got, err = p.Get(context.Background(), pool.Held{Owner: owner}); err != nil {
			got = keptFor(p, owner)
		}
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

// keptFor is what is reserved for an owner.
func keptFor(p *pool.Pool, owner string) (kept pool.Allocation) {
	for a, err := range p.Reservations(context.Background()) {
		if err == nil && a.Owner == owner {
			kept = a
		}
	}
	return kept
}

// requireNext requires an error about exhaustion to say when the next address frees.
func requireNext(t *rapid.T, m *world.Pool, now time.Time, err error) {
	var failed *pool.Error
	if errors.Is(err, pool.ErrExhausted) {
		require.ErrorAs(t, err, &failed)
		require.Equal(t, m.Next(now), failed.Next)
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

// anyName draws a name of something in a pool, which is held or not.
func (s *machine) anyName(t *rapid.T, m *world.Pool) pool.Held {
	held := pool.Held{Optional: rapid.IntRange(0, 3).Draw(t, "optional") == 0}
	if len(m.Held()) == 0 || rapid.IntRange(0, 3).Draw(t, "anybody") == 0 {
		held.Owner = rapid.SampledFrom(owners).Draw(t, "owner")
		return held
	}
	a := anyHeld(t, m)
	held.Owner = a.Owner
	switch rapid.IntRange(0, 5).Draw(t, "generation") {
	case 0:
		held.Generation = a.Generation
	case 1:
		held.Generation = s.stale[[2]string{m.Name, a.Owner}]
	case 2:
		held.Generation = rapid.SampledFrom([]int64{-1, a.Generation - 1, a.Generation + 1, 1 << 40}).Draw(t, "other")
	}
	if rapid.IntRange(0, 2).Draw(t, "address") > 0 {
		return held
	}
	held.Addr = anySide(t, m, rapid.SampledFrom(a.Prefixes).Draw(t, "prefix").Addr())
	switch rapid.IntRange(0, 3).Draw(t, "by address") {
	case 0:
		held.Addr = anyAddr(m.Universe[pool.FamilyOf(held.Addr)]).Draw(t, "another")
	case 1, 2:
		held.Owner = ""
	}
	return held
}

// anySide draws the address, or the one that is one with it while the pool is renumbered.
func anySide(t *rapid.T, m *world.Pool, addr netip.Addr) netip.Addr {
	single := netip.PrefixFrom(addr, addr.BitLen())
	for _, other := range []func(netip.Prefix) (netip.Prefix, bool){m.Moving.New, m.Moving.Old} {
		if p, ok := other(single); ok && rapid.Bool().Draw(t, "on the other side") {
			return p.Addr()
		}
	}
	return addr
}

// anyQuarantine draws how long what is declined is withheld; see [anyTTL].
func anyQuarantine(t *rapid.T) time.Duration {
	return time.Duration(rapid.SampledFrom([]int{1, 3}).Draw(t, "minutes")) * time.Minute
}

func (s *machine) Release(t *rapid.T) {
	m := s.anyPool(t)
	held := s.anyName(t, m)
	p := s.handle(t, m.Name)
	s.change(t, m.Name, func(ctx context.Context) (pool.Allocation, error) { return p.Release(ctx, held) },
		func() (*world.World, *world.Record, error) { return s.world.Release(m.Name, held) })
}

func (s *machine) Decline(t *rapid.T) {
	m := s.anyPool(t)
	held, quarantine := s.anyName(t, m), anyQuarantine(t)
	p := s.handle(t, m.Name)
	s.change(t, m.Name, func(ctx context.Context) (pool.Allocation, error) { return p.Decline(ctx, held, quarantine) },
		func() (*world.World, *world.Record, error) { return s.world.Decline(m.Name, held, quarantine) })
}

// change makes a call by which an owner loses what it holds.
func (s *machine) change(
	t *rapid.T, name string, call func(context.Context) (pool.Allocation, error),
	model func() (*world.World, *world.Record, error),
) {
	var got pool.Allocation
	err := s.call(t, func(ctx context.Context) (err error) {
		got, err = call(ctx)
		return err
	})
	after, want, fails := model()
	if s.mayHaveReleased(err, refusal(fails)) {
		require.NotZero(t, got)
		return
	}
	if s.answered(t, err, after, refusal(fails)) {
		s.gone(t, name, want, got)
	}
}

// gone requires a release to have returned what the model says.
func (s *machine) gone(t *rapid.T, name string, want *world.Record, got pool.Allocation) {
	if want == nil {
		require.Zero(t, got)
		return
	}
	if want.Generation == 0 { // it was granted in the same call
		want.Generation = got.Generation
	}
	require.Equal(t, want.Allocation, got)
	clear(got.Prefixes)
	s.stale[[2]string{name, want.Owner}] = want.Generation
}

func (s *machine) Renew(t *rapid.T) {
	m := s.anyPool(t)
	held, ttl := s.anyName(t, m), anyTTL(t)
	p := s.handle(t, m.Name)
	var got pool.Allocation
	err := s.call(t, func(ctx context.Context) (err error) {
		got, err = p.Renew(ctx, held, ttl)
		return err
	})
	if ttl == 0 {
		require.ErrorIs(t, err, pool.ErrInvalid)
		return
	}
	after, want, fails := s.world.Renew(m.Name, held, ttl)
	if !s.answered(t, err, after, refusal(fails)) {
		return
	}
	if want == nil {
		require.Zero(t, got)
		return
	}
	s.granted(t, m.Name, want, got, 0)
}

func (s *machine) Expire(t *rapid.T) {
	m := s.anyPool(t)
	after, want := s.world.Expire(m.Name)
	got, err := s.handle(t, m.Name).Expire(context.Background())
	require.NoError(t, err)
	require.Equal(t, want, got)
	s.become(t, after)
}

func (s *machine) Get(t *rapid.T) {
	m := s.anyPool(t)
	s.skipUnsettled(t, m)
	held := s.anyName(t, m)
	_, want, fails := s.world.Release(m.Name, held)
	got, err := s.handle(t, m.Name).Get(context.Background(), held)
	switch {
	case fails != nil && !errors.Is(fails, pool.ErrInUse):
		require.ErrorIs(t, err, fails)
	case want != nil:
		require.NoError(t, err)
		require.Equal(t, want.Allocation, got)
	case fails == nil:
		require.NoError(t, err)
		require.Zero(t, got)
	}
}

func (s *machine) List(t *rapid.T) {
	m := s.anyPool(t)
	s.skipUnsettled(t, m)
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
	got, err := p.Get(context.Background(), pool.Held{Owner: a.Owner})
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
