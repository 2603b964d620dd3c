package pool_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

func specWith(strategy pool.Strategy, texts ...string) pool.Spec {
	spec := specOf(texts...)
	spec.Strategy = strategy
	return spec
}

// pickedBy runs a property on a pool with the strategy, in memory or in a store. It passes the set that was free before
// each claim of one address, and the address that was granted.
func pickedBy(
	t *testing.T, strategy pool.Strategy, property func(t *rapid.T, last netip.Addr, free []netip.Addr, got netip.Addr),
) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := t.Context()
		spec := specWith(strategy,
			rapid.SampledFrom([]string{"10.0.0.0/28", "255.255.255.248/29", "2001:db8::/124"}).Draw(t, "range"))
		p, err := pool.New(spec, nil)
		if rapid.Bool().Draw(t, "stored") {
			p, err = pool.Create(ctx, store.NewMemory(), "blue", spec, nil)
		}
		require.NoError(t, err)
		var last netip.Addr
		for i := range rapid.IntRange(1, 60).Draw(t, "calls") {
			owner := fmt.Sprint(rapid.IntRange(0, 14).Draw(t, "owner"))
			if rapid.Bool().Draw(t, "release") {
				_, _ = p.Release(ctx, pool.Held{Owner: owner})
				continue
			}
			if _, err := p.Get(ctx, pool.Held{Owner: owner}); err == nil {
				continue
			}
			set, err := p.FreeSet(ctx, spec.AllFamilies()[0])
			require.NoError(t, err)
			var free []netip.Addr
			for n := uint64(0); n < cidr.Size(set).Uint64(); n++ {
				a, _ := cidr.Nth(set, cidr.CountOf(n))
				free = append(free, a)
			}
			a, err := p.Allocate(ctx, pool.Claim{Owner: owner})
			if len(free) == 0 {
				require.ErrorIs(t, err, pool.ErrExhausted)
				continue
			}
			require.NoError(t, err, "call %d", i)
			property(t, last, free, a.Addrs()[0])
			last = a.Addrs()[0]
		}
	})
}

func TestLowestFreeIsTheDefault(t *testing.T) {
	require.Equal(t, pool.LowestFree, pool.Spec{}.Strategy)
	pickedBy(t, pool.LowestFree, func(t *rapid.T, _ netip.Addr, free []netip.Addr, got netip.Addr) {
		require.Equal(t, free[0], got)
	})
}

func TestNextFreeIsTheLowestAboveTheLastOneOrElseTheLowest(t *testing.T) {
	pickedBy(t, pool.NextFree, func(t *rapid.T, last netip.Addr, free []netip.Addr, got netip.Addr) {
		want := free[0]
		for i := len(free) - 1; i >= 0 && last.IsValid(); i-- {
			if last.Less(free[i]) {
				want = free[i]
			}
		}
		require.Equal(t, want, got)
	})
}

func TestRandomFreeIsFree(t *testing.T) {
	pickedBy(t, pool.RandomFree, func(t *rapid.T, _ netip.Addr, free []netip.Addr, got netip.Addr) {
		require.Contains(t, free, got)
	})
}

func TestNextFreeRemembersOverHandlesAndRestarts(t *testing.T) {
	inMemoryAndStored(t, specWith(pool.NextFree, "10.0.0.0/29"), func(t *testing.T, b *trial) {
		for i := range 20 {
			a := allocate(t, b.another(t), pool.Claim{Owner: "a"})
			require.Equal(t, fmt.Sprintf("10.0.0.%d", i%8), texts(a), "not the one that was just released")
			release(t, b.Pool, "a")
		}
	})
}

func TestNextFreeGoesPastExactRequestsAndNotPastFailedClaims(t *testing.T) {
	inMemoryAndStored(t, specWith(pool.NextFree, "10.0.0.0/29"), func(t *testing.T, b *trial) {
		require.Equal(t, "10.0.0.0", texts(allocate(t, b.Pool, pool.Claim{Owner: "a"})))
		allocate(t, b.Pool, claim("exact", "10.0.0.6"))
		allocate(t, b.Pool, claim("exact too", "10.0.0.2"))
		release(t, b.Pool, "exact too")
		for _, c := range []pool.Claim{
			{Owner: "fails", Requests: []pool.Request{{}, {Bits: 29}}},
			{Owner: "fails", Requests: []pool.Request{{}, {}, {}, {}, {}, {}, {}, {}}},
			claim("fails", "10.0.0.6"),
		} {
			_, err := b.Allocate(t.Context(), c)
			require.Error(t, err)
		}
		_, err := allocateAll(t.Context(), b, []pool.Claim{{Owner: "x"}, claim("y", "10.0.0.6")})
		require.ErrorIs(t, err, pool.ErrTaken)
		_, err = b.DryRun(t.Context(), pool.Claim{Owner: "dry"})
		require.NoError(t, err)
		require.Equal(t, "10.0.0.0", texts(allocate(t, b.Pool, pool.Claim{Owner: "a"})), "nor does asking again")
		require.Equal(t, "10.0.0.3", texts(allocate(t, b.another(t), pool.Claim{Owner: "b"})))
		require.Equal(t, "10.0.0.4/31", texts(allocate(t, b.another(t),
			pool.Claim{Owner: "c", Requests: []pool.Request{{Bits: 31, Within: setOf("10.0.0.3-10.0.0.7")}}})))
		require.Equal(t, "10.0.0.7", texts(allocate(t, b.another(t), pool.Claim{Owner: "d"})))
		require.Equal(t, "10.0.0.1", texts(allocate(t, b.another(t), pool.Claim{Owner: "e"})), "and from the bottom again")
	})
}

func TestNextFreeGoesByEachFamily(t *testing.T) {
	inMemoryAndStored(t, specWith(pool.NextFree, "10.0.0.0/29", "2001:db8::/125"), func(t *testing.T, b *trial) {
		dual := func(owner string) pool.Claim { return pool.Claim{Owner: owner, Policy: pool.RequireDualStack} }
		require.Equal(t, "10.0.0.0 2001:db8::", texts(allocate(t, b.Pool, dual("a"))))
		require.Equal(t, "10.0.0.1", texts(allocate(t, b.Pool, pool.Claim{Owner: "b"})))
		release(t, b.Pool, "a")
		require.Equal(t, "10.0.0.2 2001:db8::1", texts(allocate(t, b.another(t), dual("c"))))
	})
}

// The injected source alone decides.
func TestRandomFreeIsThatOfTheInjectedSource(t *testing.T) {
	pick := func(seed uint64) (all []string) {
		p, err := pool.New(specWith(pool.RandomFree, "10.0.0.0/16", "2001:db8::/64"),
			&pool.Options{Random: rand.New(rand.NewPCG(seed, 0)).Uint64})
		require.NoError(t, err)
		for i := range 50 {
			all = append(all, texts(allocate(t, p, pool.Claim{Owner: fmt.Sprint(i), Policy: pool.RequireDualStack})))
		}
		return all
	}
	first, again := pick(1), pick(1)
	require.Equal(t, first, again)
	require.NotEqual(t, first, pick(2))
}

// Of 64 free addresses each comes up about as often as any other: the sum of squares is that of the chi-square
// distribution with 63 degrees of freedom, which exceeds 103.4 once in a thousand times. The seed is fixed.
func TestRandomFreeIsUniform(t *testing.T) {
	for name, held := range map[string]int{"an empty pool": 0, "half of it is held": 64} {
		t.Run(name, func(t *testing.T) {
			p, err := pool.New(specWith(pool.RandomFree, "10.0.0.0-10.0.0.127"),
				&pool.Options{Random: rand.New(rand.NewPCG(7, 7)).Uint64})
			require.NoError(t, err)
			for i := range held {
				allocate(t, p, claim(fmt.Sprint(i), fmt.Sprintf("10.0.0.%d", 2*i)))
			}
			counts := map[netip.Addr]int{}
			const each = 400
			bins := 128 - held
			for range each * bins {
				a, err := p.Allocate(t.Context(), pool.Claim{Owner: "a"})
				require.NoError(t, err)
				counts[a.Addrs()[0]]++
				release(t, p, "a")
			}
			require.Len(t, counts, bins)
			sum := 0.0
			for _, n := range counts {
				sum += float64(n-each) * float64(n-each) / each
			}
			require.Less(t, sum, map[int]float64{128: 181.9, 64: 103.4}[bins])
			require.Greater(t, sum, map[int]float64{128: 82.0, 64: 34.0}[bins], "and not as even as by turns")
		})
	}
}

func TestRandomFreeFindsTheLastFreeAddress(t *testing.T) {
	inMemoryAndStored(t, specWith(pool.RandomFree, "10.0.0.0/20"), func(t *testing.T, b *trial) {
		var claims []pool.Claim
		for i := range 1 << 12 {
			if i != 2748 {
				claims = append(claims, claim(fmt.Sprint(i), fmt.Sprintf("10.0.%d.%d", i>>8, i&0xff)))
			}
		}
		_, err := allocateAll(t.Context(), b, claims)
		require.NoError(t, err)
		for range 20 {
			require.Equal(t, "10.0.10.188", texts(allocate(t, b.Pool, pool.Claim{Owner: "a"})))
			_, err = b.Allocate(t.Context(), pool.Claim{Owner: "b"})
			require.ErrorIs(t, err, pool.ErrExhausted)
			release(t, b.Pool, "a")
		}
	})
}

func TestRandomFreePrefixesAreAlignedAndSpread(t *testing.T) {
	inMemoryAndStored(t, specWith(pool.RandomFree, "10.0.0.0/16"), func(t *testing.T, b *trial) {
		seen := map[netip.Prefix]bool{}
		for i := range 64 {
			a := allocate(t, b.Pool,
				pool.Claim{Owner: fmt.Sprint(i), Requests: []pool.Request{{Bits: 24, Within: setOf("10.0.128.0/17")}}})
			require.Equal(t, a.Prefixes[0].Masked(), a.Prefixes[0])
			require.True(t, setOf("10.0.128.0/17").ContainsPrefix(a.Prefixes[0]))
			seen[a.Prefixes[0]] = true
		}
		require.Len(t, seen, 64)
		free, err := b.FreeSet(t.Context(), pool.IPv4)
		require.NoError(t, err)
		require.False(t, free.ContainsRange(ranges("10.0.192.0/18")[0]), "they are not packed at the bottom")
	})
}

func TestStrategyAsText(t *testing.T) {
	for strategy, text := range map[pool.Strategy]string{
		pool.LowestFree: "", pool.NextFree: `, "strategy": "next"`, pool.RandomFree: `, "strategy": "random"`,
		pool.HighestFree: `, "strategy": "highest"`, pool.SpreadFree: `, "strategy": "spread"`,
		pool.BestFit: `, "strategy": "best-fit"`,
	} {
		b, err := json.Marshal(pool.Spec{Ranges: ranges("10.0.0.0/24"), Strategy: strategy})
		require.NoError(t, err)
		require.JSONEq(t, `{"ranges": ["10.0.0.0/24"]`+text+`}`, string(b))
		var back pool.Spec
		require.NoError(t, json.Unmarshal(b, &back))
		require.Equal(t, strategy, back.Strategy)
	}
	var lowest pool.Spec
	require.NoError(t, json.Unmarshal([]byte(`{"ranges": ["10.0.0.0/24"], "strategy": "lowest"}`), &lowest))
	require.Equal(t, pool.LowestFree, lowest.Strategy)

	named := specWith("lowest", "10.0.0.0/24")
	require.True(t, named.Equal(specOf("10.0.0.0/24")))
	p, err := pool.New(named, nil)
	require.NoError(t, err)
	require.Equal(t, pool.LowestFree, must(p.Info(t.Context())).Spec.Strategy)
	require.Equal(t, "10.0.0.0", allocate(t, p, pool.Claim{Owner: "a"}).Addrs()[0].String())

	const rule = `"best" is not a strategy, want one of ["lowest" "next" "random" "highest" "spread" "best-fit"]`
	err = json.Unmarshal([]byte(`{"ranges": ["10.0.0.0/24"], "strategy": "best"}`), &lowest)
	require.ErrorIs(t, err, pool.ErrInvalid)
	require.ErrorContains(t, err, rule)
	_, err = pool.New(specWith("best", "10.0.0.0/24"), nil)
	require.ErrorIs(t, err, pool.ErrInvalid)
	require.ErrorContains(t, err, rule)
}
