package pool_test

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/pool"
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
	if len(m.records) == 0 {
		t.Skip("nobody holds anything")
	}
	r := m.records[rapid.IntRange(0, len(m.records)-1).Draw(t, "record")]
	c := pool.Claim{Owner: r.Owner, Scope: r.Scope, TTL: anyTTL(t), Requests: exactly(r.Prefixes...)}
	if rapid.IntRange(0, 3).Draw(t, "by another") == 0 {
		c.Owner = rapid.SampledFrom(owners).Draw(t, "owner")
	}
	s.allocate(t, m, c)
}

func (s *machine) allocate(t *rapid.T, m *model, c pool.Claim) {
	p := s.handle(t, m.name)
	dry := rapid.Bool().Draw(t, "dry run first")
	var would pool.Allocation
	var wouldErr error
	if dry {
		would, wouldErr = p.DryRun(context.Background(), c)
		requireSame(t, m, p)
	}
	call := p.Allocate
	if _, _, err := m.allocate(c, "", sight{}); err == nil && rapid.Bool().Draw(t, "wait") {
		call = p.AllocateWait
	}
	got, err := call(context.Background(), c)
	after, want, fails := m.allocate(c, "", s.sight(t, m, got))
	if fails != nil {
		require.ErrorIs(t, err, fails, "%+v", c)
		require.True(t, !dry || errors.Is(wouldErr, fails), "%v", wouldErr)
		require.Zero(t, got)
		requireNext(t, m, err)
		return
	}
	require.NoError(t, err, "%+v", c)
	if dry && m.spec.Strategy != pool.RandomFree {
		require.NoError(t, wouldErr)
		would.Generation = got.Generation
		require.Equal(t, got, would)
	}
	s.granted(t, after, want, got, s.latest[m.name])
	// What a call was given and what it returned is the caller's.
	clear(c.Requests)
	clear(c.Labels)
}

// granted requires a call to have returned what the model says, of a generation that is higher than an earlier one if it is new.
func (s *machine) granted(t *rapid.T, after *model, want *record, got pool.Allocation, generation int64) {
	if want.Generation == 0 {
		require.Greater(t, got.Generation, generation)
		want.Generation = got.Generation
		s.latest[after.name] = max(s.latest[after.name], got.Generation)
	}
	require.Equal(t, want.Allocation, got)
	clear(got.Prefixes)
	s.become(after)
}

// sight is what can be seen of a call that returned got, if the model needs to know.
func (s *machine) sight(t *rapid.T, m *model, got pool.Allocation) sight {
	seen := sight{prefixes: slices.Clone(got.Prefixes)}
	if !m.tied() {
		return seen
	}
	all, err := s.handles[m.name][0].Snapshot(context.Background())
	require.NoError(t, err)
	seen.left = func(r *record) bool {
		return slices.ContainsFunc(slices.Concat(all.Allocations, all.Cooling), func(a pool.Allocation) bool {
			return a.Owner == r.Owner && a.Prefixes[0] == r.Prefixes[0] && a.Expires.Equal(r.Expires)
		})
	}
	return seen
}

// tied tells whether several records ended at once.
func (m *model) tied() bool {
	ended := m.ended(sight{})
	for i := 1; i < len(ended); i++ {
		if ended[i].Expires.Equal(ended[i-1].Expires) {
			return true
		}
	}
	return false
}

// requireNext requires an error about exhaustion to say when the next address frees.
func requireNext(t *rapid.T, m *model, err error) {
	var exhausted *pool.ExhaustedError
	if errors.As(err, &exhausted) {
		require.Equal(t, m.next(), exhausted.Next)
	}
}

func (s *machine) AllocateBad(t *rapid.T) {
	m := s.anyPool(t)
	_, err := s.handle(t, m.name).Allocate(context.Background(), badClaim(t, m))
	require.ErrorIs(t, err, pool.ErrInvalid)
}

func (m *model) anyHeld(t *rapid.T) pool.Allocation {
	held := m.held()
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
	s.release(t, m, m.anyHeld(t).Owner, 0)
}

func (s *machine) ReleaseGeneration(t *rapid.T) {
	m := s.anyPool(t)
	a := m.anyHeld(t)
	s.release(t, m, a.Owner, a.Generation)
}

func (s *machine) ReleaseStaleGeneration(t *rapid.T) {
	m := s.anyPool(t)
	a := m.anyHeld(t)
	stale := s.stale[[2]string{m.name, a.Owner}]
	if stale == 0 || stale == a.Generation {
		stale = rapid.SampledFrom([]int64{-1, a.Generation - 1, a.Generation + 1, 1 << 40}).Draw(t, "generation")
	}
	if stale != 0 {
		s.release(t, m, a.Owner, stale)
	}
}

func (s *machine) release(t *rapid.T, m *model, owner string, generation int64) {
	got, err := s.handle(t, m.name).ReleaseGeneration(context.Background(), owner, generation)
	if r := m.live(owner); r != nil && generation != 0 && generation != r.Generation {
		require.ErrorIs(t, err, pool.ErrGeneration)
		return
	}
	s.released(t, m, owner, got, err)
}

// released requires the release of all that an owner holds to have answered as it should.
func (s *machine) released(t *rapid.T, m *model, owner string, got pool.Allocation, err error) {
	after, want, fails := m.release(owner)
	if fails != nil {
		require.ErrorIs(t, err, fails)
		return
	}
	if child := m.childOf(want); child != nil {
		if len(child.held()) > 0 {
			require.ErrorIs(t, err, pool.ErrInUse)
			return
		}
		s.forget(child.name)
	}
	require.NoError(t, err)
	require.Equal(t, want.Allocation, got)
	clear(got.Prefixes)
	s.stale[[2]string{m.name, owner}] = want.Generation
	s.become(after)
}

func (s *machine) Renew(t *rapid.T) {
	m := s.anyPool(t)
	owner := rapid.SampledFrom(owners).Draw(t, "owner")
	if rapid.Bool().Draw(t, "held") {
		owner = m.anyHeld(t).Owner
	}
	ttl := anyTTL(t)
	got, err := s.handle(t, m.name).Renew(context.Background(), owner, ttl)
	if ttl == 0 {
		require.ErrorIs(t, err, pool.ErrInvalid)
		return
	}
	after, want, fails := m.renew(owner, ttl)
	if fails != nil {
		require.ErrorIs(t, err, fails)
		return
	}
	require.NoError(t, err)
	s.granted(t, after, want, got, 0)
}

func (s *machine) Reap(t *rapid.T) {
	m := s.anyPool(t)
	after, want := m.reap()
	got, err := s.handle(t, m.name).Reap(context.Background())
	require.NoError(t, err)
	require.Equal(t, want, got)
	s.become(after)
}

func (s *machine) Get(t *rapid.T) {
	m := s.anyPool(t)
	owner := rapid.SampledFrom(owners).Draw(t, "owner")
	want, ok := m.held()[owner]
	got, err := s.handle(t, m.name).Get(context.Background(), owner)
	if !ok {
		require.ErrorIs(t, err, pool.ErrNotFound)
	} else {
		require.NoError(t, err)
	}
	require.Equal(t, want, got)
}

func (s *machine) Lookup(t *rapid.T) {
	m := s.anyPool(t)
	a := anyAddr(m.universe[rapid.SampledFrom([]pool.Family{pool.IPv4, pool.IPv6}).Draw(t, "family")]).Draw(t, "address")
	got, err := s.handle(t, m.name).Lookup(context.Background(), a)
	if r := m.taken()[a]; r == nil || r.cooling {
		require.ErrorIs(t, err, pool.ErrNotFound)
	} else {
		require.NoError(t, err)
		require.Equal(t, r.Allocation, got)
	}
}

func (s *machine) List(t *rapid.T) {
	m := s.anyPool(t)
	p := s.handle(t, m.name)
	got := map[string]pool.Allocation{}
	for a, err := range p.Allocations(context.Background()) {
		require.NoError(t, err)
		require.NotContains(t, got, a.Owner)
		got[a.Owner] = a
	}
	require.Equal(t, m.held(), got)
	for _, f := range m.families() {
		free, err := p.FreeSet(context.Background(), f)
		require.NoError(t, err)
		for _, a := range addrsOf(m.universe[f]) {
			require.Equal(t, m.freeAddrs()[a], free.Contains(a), "%v", a)
		}
	}
}

// Spoil changes what calls returned, which is the caller's.
func (s *machine) Spoil(t *rapid.T) {
	m := s.anyPool(t)
	p := s.handle(t, m.name)
	all, err := p.Snapshot(context.Background())
	require.NoError(t, err)
	clear(all.Spec.Ranges)
	for _, a := range slices.Concat(all.Allocations, all.Cooling) {
		clear(a.Prefixes)
		clear(a.Labels)
	}
	a := m.anyHeld(t)
	got, err := p.Get(context.Background(), a.Owner)
	require.NoError(t, err)
	clear(got.Prefixes)
	clear(got.Labels)
}

func (s *machine) Repair(t *rapid.T) {
	report, err := s.handle(t, s.anyPool(t).name).Repair(context.Background())
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
