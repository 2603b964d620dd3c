package pool_test

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/pool"
)

// Calls for several owners, or in several pools.

// anyOwners draws a few, each once. A lease that has ended is left to its owner if that is among them, so such an owner comes alone.
func (m *model) anyOwners(t *rapid.T) []string {
	some := rapid.SliceOfNDistinct(rapid.SampledFrom(owners), 1, 5, rapid.ID[string]).Draw(t, "owners")
	ended := func(owner string) bool {
		r := m.find(owner)
		return r != nil && r.Expired(m.world.now)
	}
	if len(some) > 1 {
		some = slices.DeleteFunc(some, ended)
	}
	return some
}

func (m *model) anyClaims(t *rapid.T) []pool.Claim {
	var claims []pool.Claim
	for _, owner := range m.anyOwners(t) {
		c := anyClaim(m).Draw(t, "claim")
		c.Owner = owner
		claims = append(claims, c)
	}
	return claims
}

func (s *machine) AllocateMany(t *rapid.T) {
	m := s.anyPool(t)
	claims := m.anyClaims(t)
	latest := s.latest[m.name]
	results, err := s.handle(t, m.name).AllocateMany(context.Background(), claims)
	require.NoError(t, err)
	require.Len(t, results, len(claims))
	for i, result := range results {
		m := s.world.pools[m.name]
		after, want, fails := m.allocate(claims[i], "", s.sight(t, m, result.Allocation))
		if fails != nil {
			require.ErrorIs(t, result.Err, fails, "%+v", claims[i])
			require.Zero(t, result.Allocation)
			continue
		}
		require.NoError(t, result.Err, "%+v", claims[i])
		s.granted(t, after, want, result.Allocation, latest)
	}
}

func (s *machine) AllocateAll(t *rapid.T) {
	m := s.anyPool(t)
	claims := m.anyClaims(t)
	if m.spec.Strategy == pool.RandomFree && len(claims) > 1 {
		claims = claims[:1] // whether the second one fails depends on what the first one would get
	}
	latest := s.latest[m.name]
	got, err := s.handle(t, m.name).AllocateAll(context.Background(), claims)
	after := m
	var want []*record
	for i, c := range claims {
		var a pool.Allocation
		if err == nil {
			a = got[i]
		}
		next, r, fails := after.allocate(c, "", s.sight(t, after, a))
		if fails != nil {
			require.ErrorIs(t, err, fails, "%+v", claims)
			require.Nil(t, got)
			return
		}
		after, want = next, append(want, r)
	}
	require.NoError(t, err)
	require.Len(t, got, len(want))
	for i, r := range want {
		s.granted(t, after, r, got[i], latest)
	}
}

func (s *machine) ReleaseMany(t *rapid.T) {
	m := s.anyPool(t)
	some := rapid.SliceOfNDistinct(rapid.SampledFrom(owners), 1, 5, rapid.ID[string]).Draw(t, "owners")
	results, err := s.handle(t, m.name).ReleaseMany(context.Background(), some)
	require.NoError(t, err)
	for i, result := range results {
		s.released(t, s.world.pools[m.name], some[i], result.Allocation, result.Err)
	}
}

func (s *machine) Adopt(t *rapid.T) {
	m := s.anyPool(t)
	var claims []pool.Claim
	for _, owner := range m.anyOwners(t) {
		c := anyOwnersClaim(t, m, owner)
		f := rapid.SampledFrom(m.families()).Draw(t, "family")
		c.Requests = exactly(anyPrefix(m.universe[f]).Draw(t, "exact"))
		if rapid.IntRange(0, 2).Draw(t, "address") > 0 {
			c.Requests = []pool.Request{pool.ExactAddr(anyAddr(m.universe[f]).Draw(t, "exact"))}
		}
		claims = append(claims, c)
	}
	clashes := map[string]pool.Clash{}
	p := s.handle(t, m.name)
	n, err := p.Adopt(context.Background(), slices.Values(claims), func(c pool.Clash) { clashes[c.Claim.Owner] = c })
	require.NoError(t, err)
	require.Len(t, clashes, len(claims)-n)
	latest := s.latest[m.name]
	for _, c := range claims {
		m := s.world.pools[m.name]
		after, want, fails := m.allocate(c, "", s.sight(t, m, pool.Allocation{}))
		if fails != nil {
			require.ErrorIs(t, clashes[c.Owner].Err, fails)
			continue
		}
		require.NotContains(t, clashes, c.Owner)
		got, err := p.Get(context.Background(), c.Owner)
		require.NoError(t, err)
		s.granted(t, after, want, got, latest)
	}
	for _, clash := range clashes {
		if holder := s.world.pools[m.name].held()[clash.Holder]; clash.Holder != "" {
			require.ErrorIs(t, clash.Err, pool.ErrTaken)
			require.True(t, slices.ContainsFunc(holder.Prefixes, clash.Claim.Requests[0].Exact.Overlaps))
		}
	}
}

func (s *machine) Reconcile(t *rapid.T) {
	m := s.anyPool(t)
	live := map[string]bool{}
	for _, owner := range owners {
		live[owner] = rapid.IntRange(0, 2).Draw(t, "live") > 0
	}
	options := pool.ReconcileOptions{
		Grace:  time.Duration(rapid.SampledFrom([]int{0, 1, 2}).Draw(t, "grace")) * time.Minute,
		Since:  rapid.SampledFrom([]int64{0, s.earlier[m.name]}).Draw(t, "since"),
		DryRun: rapid.IntRange(0, 3).Draw(t, "dry run") == 0,
	}
	p := s.handle(t, m.name)
	var got pool.Reconciliation
	var err error
	if rapid.Bool().Draw(t, "by a function") {
		got, err = p.ReconcileFunc(context.Background(), func(a pool.Allocation) bool { return live[a.Owner] }, &options)
	} else {
		got, err = p.Reconcile(context.Background(), func(yield func(string, error) bool) {
			for _, owner := range slices.Sorted(maps.Keys(live)) {
				if live[owner] && !yield(owner, nil) {
					return
				}
			}
		}, &options)
	}
	require.NoError(t, err)
	after, want := m.reconcile(live, options.Since, options.Grace)
	for _, list := range []*[]pool.Allocation{&got.Released, &got.Missing, &got.Back, &want.Released, &want.Missing, &want.Back} {
		slices.SortFunc(*list, byAddr)
	}
	require.Equal(t, want, got)
	if !options.DryRun {
		s.become(after)
	}
}

// AllocateTogether makes a claim over up to three parts, each with up to two alternatives.
func (s *machine) AllocateTogether(t *rapid.T) {
	names := rapid.Permutation(slices.Sorted(maps.Keys(s.world.pools))).Draw(t, "pools")
	owner := rapid.SampledFrom(owners).Draw(t, "owner")
	var pools [][]string
	var parts []pool.Part
	var claims []pool.Claim
	for len(names) > 0 && len(parts) < 3 {
		n := rapid.IntRange(1, min(2, len(names))).Draw(t, "alternatives")
		m := s.world.pools[names[0]]
		c := anyClaim(m).Draw(t, "claim")
		c.Owner = ""
		part := pool.Part{Claim: c}
		for _, name := range names[:n] {
			if s.world.pools[name].tied() {
				t.Skip("which one goes is open")
			}
			part.Pools = append(part.Pools, s.handle(t, name))
			if s.world.pools[name].spec.Strategy == pool.RandomFree && len(part.Claim.Requests) > 1 {
				part.Claim.Requests = part.Claim.Requests[:1]
			}
		}
		c = part.Claim
		c.Owner = owner
		pools, parts, claims = append(pools, names[:n]), append(parts, part), append(claims, c)
		names = names[n:]
	}
	got, err := pool.AllocateTogether(context.Background(), owner, parts...)
	if len(parts) == 0 {
		require.ErrorIs(t, err, pool.ErrInvalid)
		return
	}
	seen := make([]sight, len(parts))
	for i := range got {
		seen[i].prefixes = slices.Clone(got[i].Allocation.Prefixes)
	}
	after, chosen, want, no := s.world.together(claims, pools, seen)
	if !no.answers(t, err) {
		require.Nil(t, got)
		return
	}
	for i, name := range chosen {
		require.Contains(t, s.handles[name], got[i].Pool)
		s.granted(t, after[name], want[i], got[i].Allocation, s.latest[name])
	}
}

func (s *machine) ReleaseTogether(t *rapid.T) {
	names := rapid.Permutation(slices.Sorted(maps.Keys(s.world.pools))).Draw(t, "pools")
	if len(names) == 0 {
		t.Skip("there is no pool")
	}
	names = names[:rapid.IntRange(1, len(names)).Draw(t, "how many")]
	owner := rapid.SampledFrom(owners).Draw(t, "owner")
	var pools []*pool.Pool
	var found, delegated bool
	for _, name := range names {
		pools = append(pools, s.handle(t, name))
		r := s.world.pools[name].live(owner)
		found = found || r != nil
		delegated = delegated || r != nil && r.Child != ""
	}
	got, err := pool.ReleaseTogether(context.Background(), owner, pools...)
	switch {
	case delegated:
		require.ErrorIs(t, err, pool.ErrInUse)
	case !found:
		require.ErrorIs(t, err, pool.ErrNotFound)
	default:
		require.NoError(t, err)
		for i, name := range names {
			m := s.world.pools[name]
			if m.live(owner) == nil {
				require.Zero(t, got[i])
				continue
			}
			s.released(t, m, owner, got[i], nil)
		}
	}
}
