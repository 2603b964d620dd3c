package space_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

func within(t *testing.T, bits int, tiers ...string) *space.Want {
	w := &space.Want{Bits: bits}
	for _, tier := range tiers {
		w.Tiers = append(w.Tiers, partOf(t, tier))
	}
	return w
}

func TestTiersAreTriedOneAfterTheOther(t *testing.T) {
	s := spaceOf(t, "10.0.0.0/24")
	w := within(t, 31, "10.0.0.128-10.0.0.130", "10.0.0.8/31")
	w.Tiers = append(w.Tiers, &space.Part{}, nil)
	for _, want := range []string{"10.0.0.128/31", "10.0.0.8/31", "10.0.0.0/31", "10.0.0.2/31"} {
		require.Equal(t, want, take(t, s, w))
	}
	w = &space.Want{Bits: 31, Tiers: w.Tiers[:3]}
	require.ErrorIs(t, refused(s, w), allocator.ErrExhausted)
	w = &space.Want{Bits: 33, Tiers: w.Tiers}
	require.ErrorIs(t, refused(s, w), allocator.ErrInvalid)
}

// Next goes round, past exact requests too; failures and what is undone do not move it.
func TestNextGoesRound(t *testing.T) {
	s := strategic(t, space.Next, "255.255.255.248/29")
	for i := range 20 {
		p := take(t, s, &space.Want{Bits: 32})
		require.Equal(t, netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 248 + byte(i%8)}), 32).String(), p)
		require.NoError(t, s.Free(prefix(p), space.Held))
	}
	require.Equal(t, []netip.Addr{addr("255.255.255.252")}, s.Cursors())
	take(t, s, exactly("255.255.255.250/32"))
	require.Equal(t, []netip.Addr{addr("255.255.255.251")}, s.Cursors())
	require.ErrorIs(t, refused(s, &space.Want{Bits: 28}), allocator.ErrExhausted)
	start := s.Mark()
	require.Equal(t, "255.255.255.252/31", take(t, s, &space.Want{Bits: 31}))
	s.Rollback(start)
	require.Equal(t, []netip.Addr{addr("255.255.255.251")}, s.Cursors())
	require.Equal(t, "255.255.255.254/32", take(t, s, within(t, 32, "255.255.255.254/31")))
}

// A cursor is looked at in each range of a tier, and is below, in or above it.
func TestNextWithinRanges(t *testing.T) {
	s := strategic(t, space.Next, "10.0.0.0/24")
	tier := partOf(t, "10.0.0.1-10.0.0.2", "10.0.0.5-10.0.0.6", "10.0.0.9")
	w := &space.Want{Bits: 32, Tiers: []*space.Part{tier}}
	s.SetCursor(addr("10.0.0.6"))
	for _, want := range []string{"10.0.0.6/32", "10.0.0.9/32", "10.0.0.1/32", "10.0.0.2/32", "10.0.0.5/32"} {
		require.Equal(t, want, take(t, s, w))
	}
	require.ErrorIs(t, refused(s, w), allocator.ErrExhausted)
}

// Each free address is as likely as any other, in a tier too, while enough are free.
func TestRandomIsEven(t *testing.T) {
	for name, w := range map[string]*space.Want{
		"everywhere":              {Bits: 32},
		"in a tier":               within(t, 32, "10.0.0.8/29"),
		"in two ranges of a tier": {Bits: 32, Tiers: []*space.Part{partOf(t, "10.0.0.8/29", "10.0.0.32/29")}},
	} {
		t.Run(name, func(t *testing.T) {
			s := strategic(t, space.Random, "10.0.0.8-10.0.0.11", "10.0.0.12-10.0.0.15", "10.0.0.64")
			require.Equal(t, "10.0.0.9/32", take(t, s, exactly("10.0.0.9/32")))
			seen := map[string]int{}
			for range 8000 {
				p := take(t, s, w)
				seen[p]++
				require.NoError(t, s.Free(prefix(p), space.Held))
			}
			delete(seen, "10.0.0.64/32")
			require.Len(t, seen, 7)
			for p, n := range seen {
				require.InDelta(t, 1070, n, 150, p)
			}
		})
	}
}

// Random finds the last free prefix, and does not hang with a source that is not random.
func TestRandomFindsTheLast(t *testing.T) {
	for name, random := range map[string]func() uint64{
		"random":    rand.New(rand.NewPCG(1, 1)).Uint64,
		"all ones":  func() uint64 { return ^uint64(0) },
		"all zeros": func() uint64 { return 0 },
	} {
		t.Run(name, func(t *testing.T) {
			rules := rulesOf(space.Random, 0, setOf(t, "10.0.0.0-10.0.4.0"), setOf(t, "2001:db8::/64"))
			s, err := space.New(rules, random)
			require.NoError(t, err)
			seen := map[string]bool{}
			for range 1025 {
				seen[take(t, s, &space.Want{Bits: 32})] = true
			}
			require.Len(t, seen, 1025)
			require.ErrorIs(t, refused(s, &space.Want{Bits: 32}), allocator.ErrExhausted)
			require.NotEmpty(t, take(t, s, &space.Want{Family: space.V6, Bits: 80}))
			require.ErrorIs(t, refused(s, &space.Want{Family: space.V6, Bits: 63}), allocator.ErrExhausted)
		})
	}
}
