package pool_test

import (
	"context"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
)

// Calls in several pools.

// AllocateTogether makes a claim over up to three parts, each with up to two alternatives.
func (s *machine) AllocateTogether(t *rapid.T) {
	names := s.anyNames(t)
	owner := rapid.SampledFrom(owners).Draw(t, "owner")
	var pools [][]string
	var parts []pool.Part
	var claims []pool.Claim
	for len(names) > 0 && len(parts) < 3 {
		n := rapid.IntRange(1, min(2, len(names))).Draw(t, "alternatives")
		part := s.anyPart(t, names[:n])
		c := part.Claim
		c.Owner = owner
		pools, parts, claims = append(pools, names[:n]), append(parts, part), append(claims, c)
		names = names[n:]
	}
	var got []pool.Granted
	err := s.callAwaiting(t, "trouble", func(ctx context.Context) (err error) {
		got, err = pool.AllocateTogether(ctx, owner, parts...)
		return err
	})
	if len(parts) == 0 {
		require.ErrorIs(t, err, pool.ErrInvalid)
		return
	}
	seen := make([]world.Sight, len(parts))
	for i, each := range pools {
		switch {
		case i < len(got):
			seen[i].Prefixes = slices.Clone(got[i].Allocation.Prefixes)
		case err != nil:
			for _, name := range each {
				seen[i].Prefixes = append(seen[i].Prefixes, s.sight(t, name, owner, pool.Allocation{}, err).Prefixes...)
			}
		}
	}
	after, chosen, want, no := s.world.AllocateTogether(claims, pools, seen)
	if !s.answered(t, err, after, no) {
		require.Nil(t, got)
		return
	}
	for i, name := range chosen {
		require.Contains(t, s.handles[name], got[i].Pool)
		s.granted(t, name, want[i], got[i].Allocation, s.latest[name])
	}
}

// anyNames draws pools in any order, mostly not all: where one is in trouble the others are too.
func (s *machine) anyNames(t *rapid.T) []string {
	names := rapid.Permutation(s.pools()).Draw(t, "pools")
	return names[:rapid.IntRange(min(1, len(names)), len(names)).Draw(t, "how many")]
}

// anyPart draws what is asked of the first of these pools that has room.
func (s *machine) anyPart(t *rapid.T, names []string) pool.Part {
	part := pool.Part{Claim: anyClaim(s.world.Pools[names[0]]).Draw(t, "claim")}
	part.Claim.Owner = ""
	for _, name := range names {
		m := s.world.Pools[name]
		if m.Tied(s.world.Now) {
			t.Skip("which one goes is open")
		}
		part.Pools = append(part.Pools, s.handle(t, name))
		if m.Spec.Strategy == pool.RandomFree && len(part.Claim.Requests) > 1 {
			part.Claim.Requests = part.Claim.Requests[:1]
		}
	}
	return part
}

func (s *machine) ReleaseTogether(t *rapid.T) {
	names := s.anyNames(t)
	if len(names) == 0 {
		t.Skip("there is no pool")
	}
	owner := rapid.SampledFrom(owners).Draw(t, "owner")
	var pools []*pool.Pool
	for _, name := range names {
		pools = append(pools, s.handle(t, name))
	}
	var got []pool.Allocation
	err := s.callAwaiting(t, "trouble", func(ctx context.Context) (err error) {
		got, err = pool.ReleaseTogether(ctx, owner, pools...)
		return err
	})
	after, want, no := s.world.ReleaseTogether(owner, names)
	if !s.answered(t, err, after, no) {
		return
	}
	for i, r := range want {
		if r == nil {
			require.Zero(t, got[i])
			continue
		}
		s.gone(t, names[i], r, got[i])
	}
}
