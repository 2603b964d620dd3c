package pool_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

func TestSpecEqual(t *testing.T) {
	spec := func(change func(*pool.Spec)) pool.Spec {
		ranges, err := cidr.ParseRanges("10.0.0.0-10.0.0.9", "10.0.0.20", "2001:db8::/64")
		require.NoError(t, err)
		s := pool.Spec{
			Ranges:  ranges,
			Exclude: ranges[1:2],
			Subnets: []pool.Subnet{
				{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1")},
				{Prefix: netip.MustParsePrefix("2001:db8::/64")},
			},
		}
		change(&s)
		require.NoError(t, s.Validate())
		return s
	}
	same := map[string]func(*pool.Spec){
		"nothing": func(*pool.Spec) {},
		"cut otherwise": func(s *pool.Spec) {
			ranges, err := cidr.ParseRanges("10.0.0.4-10.0.0.9", "10.0.0.20", "10.0.0.0-10.0.0.5", "2001:db8::/64")
			require.NoError(t, err)
			s.Ranges = ranges
		},
		"subnets in another order": func(s *pool.Spec) { s.Subnets = []pool.Subnet{s.Subnets[1], s.Subnets[0]} },
		"default said":             func(s *pool.Spec) { s.IPv4.Bits = 32 },
	}
	for name, change := range same {
		require.True(t, spec(func(*pool.Spec) {}).Equal(spec(change)), name)
	}
	other := map[string]func(*pool.Spec){
		"range":          func(s *pool.Spec) { s.Ranges = []netipx.IPRange{s.Ranges[0], s.Ranges[2]} },
		"primary family": func(s *pool.Spec) { s.Ranges[0], s.Ranges[2] = s.Ranges[2], s.Ranges[0] },
		"exclusion":      func(s *pool.Spec) { s.Exclude = nil },
		"gateway":        func(s *pool.Spec) { s.Subnets[0].Gateway = netip.MustParseAddr("10.0.0.2") },
		"no subnet":      func(s *pool.Spec) { s.Subnets = s.Subnets[:1] },
		"reserved":       func(s *pool.Spec) { s.IPv4.AllocateReserved = true },
		"reserved IPv6":  func(s *pool.Spec) { s.IPv6.AllocateReserved = true },
		"bound":          func(s *pool.Spec) { s.IPv4.MinBits = 30 },
		"length":         func(s *pool.Spec) { s.IPv6.Bits = 80 },
	}
	for name, change := range other {
		require.False(t, spec(func(*pool.Spec) {}).Equal(spec(change)), name)
		require.False(t, spec(change).Equal(spec(func(*pool.Spec) {})), name)
	}
}

// What is free is what has not been taken, also by another handle.
func TestFreeSet(t *testing.T) {
	spec, err := pool.ParseSpec("10.0.0.0/28")
	require.NoError(t, err)
	s := store.NewMemory()
	p, err := pool.Create(t.Context(), s, "blue", spec, nil)
	require.NoError(t, err)
	other, err := pool.Open(t.Context(), s, "blue", nil)
	require.NoError(t, err)
	for range 2 {
		_, err = other.Allocate(t.Context(), pool.Claim{Owner: "a", Requests: []pool.Request{{}, {Bits: 30}}})
		require.NoError(t, err)
		free, err := p.FreeSet(t.Context(), pool.IPv4)
		require.NoError(t, err)
		require.Equal(t, []string{"10.0.0.2/31", "10.0.0.8-10.0.0.14"}, cidr.FormatSet(free))
	}
	release(t, other, "a")
	require.NoError(t, pool.Delete(t.Context(), s, "blue", nil))
	_, err = p.FreeSet(t.Context(), pool.IPv4)
	require.ErrorIs(t, err, pool.ErrNoPool)
	require.ErrorIs(t, err, pool.ErrNotFound)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.ErrorIs(t, err, pool.ErrNoPool)
	require.ErrorContains(t, err, "pool not found")
}
