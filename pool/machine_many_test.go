package pool_test

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
)

// Calls for several owners.

// anyOwners draws a few, each once. A lease that has ended is left to its owner if that is among them, so such an owner
// comes alone.
func (s *machine) anyOwners(t *rapid.T, m *world.Pool) []string {
	some := rapid.SliceOfNDistinct(rapid.SampledFrom(owners), 1, 5, rapid.ID[string]).Draw(t, "owners")
	ended := func(owner string) bool {
		r := m.Find(owner)
		return r != nil && r.Expired(s.world.Now)
	}
	if len(some) > 1 {
		some = slices.DeleteFunc(some, ended)
	}
	return some
}

func (s *machine) anyClaims(t *rapid.T, m *world.Pool) []pool.Claim {
	var claims []pool.Claim
	for _, owner := range s.anyOwners(t, m) {
		c := anyClaim(m).Draw(t, "claim")
		c.Owner = owner
		claims = append(claims, c)
	}
	return claims
}

func (s *machine) AllocateMany(t *rapid.T) {
	m := s.anyPool(t)
	claims := s.anyClaims(t, m)
	latest := s.latest[m.Name]
	results, err := s.handle(t, m.Name).AllocateMany(context.Background(), claims)
	require.NoError(t, err)
	require.Len(t, results, len(claims))
	for i, result := range results {
		seen := s.sight(t, m.Name, claims[i].Owner, result.Allocation, nil)
		after, want, fails := s.world.Allocate(m.Name, claims[i], seen)
		if fails != nil {
			require.ErrorIs(t, result.Err, fails, "%+v", claims[i])
			require.Zero(t, result.Allocation)
			continue
		}
		require.NoError(t, result.Err, "%+v", claims[i])
		s.become(t, after)
		s.granted(t, m.Name, want, result.Allocation, latest)
	}
}

func (s *machine) AllocateAll(t *rapid.T) {
	m := s.anyPool(t)
	claims := s.anyClaims(t, m)
	if m.Spec.Strategy == pool.RandomFree && len(claims) > 1 {
		claims = claims[:1] // whether the second one fails depends on what the first one would get
	}
	latest := s.latest[m.Name]
	p := s.handle(t, m.Name)
	got := make([]pool.Allocation, len(claims))
	err := s.call(t, func(ctx context.Context) error {
		all, err := p.AllocateAll(ctx, claims)
		copy(got, all)
		return err
	})
	after, no := s.world, world.Refusals(nil)
	var want []*world.Record
	for i, c := range claims {
		next, r, fails := after.Allocate(m.Name, c, s.sight(t, m.Name, c.Owner, got[i], err))
		if fails != nil {
			no = append(no, fails)
			break
		}
		after, want = next, append(want, r)
	}
	if s.answered(t, err, after, no) {
		for i, r := range want {
			s.granted(t, m.Name, r, got[i], latest)
		}
	}
}

func (s *machine) ReleaseMany(t *rapid.T) {
	m := s.anyPool(t)
	some := rapid.SliceOfNDistinct(rapid.SampledFrom(owners), 1, 5, rapid.ID[string]).Draw(t, "owners")
	results, err := s.handle(t, m.Name).ReleaseMany(context.Background(), some)
	require.NoError(t, err)
	s.trouble = trouble{}
	for i, result := range results {
		s.released(t, m.Name, some[i], result.Allocation, result.Err)
	}
}

func (s *machine) ReleaseAll(t *rapid.T) {
	m := s.anyPool(t)
	some := rapid.SliceOfNDistinct(rapid.SampledFrom(owners), 1, 3, rapid.ID[string]).Draw(t, "owners")
	if held := slices.Sorted(maps.Keys(m.Held())); len(held) > 0 && rapid.Bool().Draw(t, "held") {
		some = held[:rapid.IntRange(1, len(held)).Draw(t, "how many")]
	}
	p := s.handle(t, m.Name)
	var got []pool.Allocation
	err := s.call(t, func(ctx context.Context) (err error) {
		got, err = p.ReleaseAll(ctx, some)
		return err
	})
	after, want, fails := s.world.ReleaseAll(m.Name, some)
	if s.answered(t, err, after, refusal(fails)) {
		for i, r := range want {
			s.gone(t, m.Name, r, got[i])
		}
	}
}

func (s *machine) Adopt(t *rapid.T) {
	m := s.anyPool(t)
	var claims []pool.Claim
	for _, owner := range s.anyOwners(t, m) {
		c := anyOwnersClaim(t, m, owner)
		f := rapid.SampledFrom(m.Families()).Draw(t, "family")
		c.Requests = exactly(anyPrefix(m.Universe[f]).Draw(t, "exact"))
		if rapid.IntRange(0, 2).Draw(t, "address") > 0 {
			c.Requests = []pool.Request{pool.ExactAddr(anyAddr(m.Universe[f]).Draw(t, "exact"))}
		}
		claims = append(claims, c)
	}
	clashes := map[string]pool.Clash{}
	p := s.handle(t, m.Name)
	n, err := p.Adopt(context.Background(), slices.Values(claims), func(c pool.Clash) { clashes[c.Claim.Owner] = c })
	require.NoError(t, err)
	require.Len(t, clashes, len(claims)-n)
	latest := s.latest[m.Name]
	for _, c := range claims {
		after, want, fails := s.world.Allocate(m.Name, c, s.sight(t, m.Name, c.Owner, pool.Allocation{}, nil))
		if fails != nil {
			require.ErrorIs(t, clashes[c.Owner].Err, fails)
			continue
		}
		require.NotContains(t, clashes, c.Owner)
		got, err := p.Get(context.Background(), c.Owner)
		require.NoError(t, err)
		s.become(t, after)
		s.granted(t, m.Name, want, got, latest)
	}
	for _, clash := range clashes {
		if holder := s.world.Pools[m.Name].Held()[clash.Holder]; clash.Holder != "" {
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
		Since:  rapid.SampledFrom([]int64{0, s.earlier[m.Name]}).Draw(t, "since"),
		DryRun: rapid.IntRange(0, 3).Draw(t, "dry run") == 0,
	}
	p := s.handle(t, m.Name)
	var got pool.Reconciliation
	var err error
	if rapid.Bool().Draw(t, "by a function") {
		isLive := func(a pool.Allocation) bool { return live[a.Owner] }
		got, err = p.ReconcileFunc(context.Background(), isLive, &options)
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
	after, want := s.world.Reconcile(m.Name, live, options.Since, options.Grace)
	for _, each := range []*pool.Reconciliation{&got, &want} {
		slices.SortFunc(each.Released, world.ByAddr)
		slices.SortFunc(each.Missing, world.ByAddr)
		slices.SortFunc(each.Back, world.ByAddr)
	}
	require.Equal(t, want, got)
	if !options.DryRun {
		s.become(t, after)
	}
}
