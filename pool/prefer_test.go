package pool_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
)

// prefers is a claim for one address, and rather for this one.
func prefers(owner, address string) pool.Claim {
	return pool.Claim{Owner: owner, Requests: []pool.Request{{Prefer: addr(address)}}}
}

func TestPreferIsMetIfTheAddressCanBeHad(t *testing.T) {
	spec := specOf("10.0.0.0/28")
	spec.Bands = []pool.Band{{Name: "static", Ranges: ranges("10.0.0.12-10.0.0.15"), Exclusive: true}}
	spec.Exclude = ranges("10.0.0.7")
	spec.Cooldown = time.Minute
	inMemoryAndStored(t, spec, func(t *testing.T, b *trial) {
		require.Equal(t, "10.0.0.5", texts(allocate(t, b.Pool, prefers("a", "10.0.0.5"))))
		require.Equal(t, "10.0.0.5", texts(allocate(t, b.another(t), prefers("a", "10.0.0.6"))), "it holds that")
		for owner, address := range map[string]string{
			"held": "10.0.0.5", "excluded": "10.0.0.7", "outside": "192.0.2.1", "of the band": "10.0.0.12",
		} {
			require.Equal(t, "10.0.0.0", texts(allocate(t, b.Pool, prefers(owner, address))), owner)
			release(t, b.Pool, owner)
			b.clock.Add(time.Minute)
			_, err := b.Expire(t.Context())
			require.NoError(t, err)
		}
		within := prefers("within", "10.0.0.4")
		within.Requests[0].Within = setOf("10.0.0.8-10.0.0.11")
		require.Equal(t, "10.0.0.8", texts(allocate(t, b.Pool, within)), "outside of the set")
		within = prefers("within too", "10.0.0.10")
		within.Requests[0].Within = setOf("10.0.0.8-10.0.0.11")
		require.Equal(t, "10.0.0.10", texts(allocate(t, b.Pool, within)))
		named := prefers("named", "10.0.0.14")
		named.Requests[0].Band = "static"
		require.Equal(t, "10.0.0.14", texts(allocate(t, b.Pool, named)))
		longer := prefers("prefix", "10.0.0.3")
		longer.Requests[0].Bits = 31
		require.Equal(t, "10.0.0.2/31", texts(allocate(t, b.Pool, longer)), "the prefix around it")
		release(t, b.Pool, "a")
		require.Equal(t, "10.0.0.0", texts(allocate(t, b.Pool, prefers("b", "10.0.0.5"))), "it cools down")
		require.Equal(t, "10.0.0.5", texts(allocate(t, b.Pool, prefers("a", "10.0.0.6"))), "what it held last comes first")
		requireOK(t, b.Pool)
	})
}

func TestPreferTakesWhatALeaseLeftThatHasEnded(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/29"), func(t *testing.T, b *trial) {
		for _, owner := range []string{"first", "second"} {
			allocate(t, b.Pool, lease(owner, time.Minute))
		}
		require.Equal(t, "10.0.0.2", texts(allocate(t, b.Pool, prefers("early", "10.0.0.1"))))
		b.clock.Add(time.Minute)
		require.Equal(t, "10.0.0.1", texts(allocate(t, b.another(t), prefers("late", "10.0.0.1"))))
		require.Equal(t, "10.0.0.3", texts(allocate(t, b.Pool, lease("second", time.Minute))), "it has lost that")
		require.Equal(t, "10.0.0.0", texts(allocate(t, b.Pool, lease("first", time.Minute))))
		requireOK(t, b.Pool)
	})
}

// A preference never makes a claim fail.
func TestPreferGivesWayToTheRestOfTheClaim(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/30"), func(t *testing.T, b *trial) {
		c := prefers("a", "10.0.0.0")
		c.Requests = append(c.Requests, pool.Request{Bits: 31}, pool.Request{Prefer: addr("10.0.0.2")})
		require.Equal(t, "10.0.0.2 10.0.0.0/31 10.0.0.3", texts(allocate(t, b.Pool, c)))
		release(t, b.Pool, "a")
		c = prefers("a", "10.0.0.3")
		c.Requests = append(c.Requests, pool.Request{Prefer: addr("10.0.0.3")}, pool.Request{Bits: 31})
		require.Equal(t, "10.0.0.3 10.0.0.2 10.0.0.0/31", texts(allocate(t, b.Pool, c)))
		requireOK(t, b.Pool)
	})
}

func TestLeaseIsNeverShorterThanAsked(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/29"), func(t *testing.T, b *trial) {
		begin := b.clock.Now()
		allocate(t, b.Pool, lease("a", time.Hour))
		b.clock.Add(time.Minute)
		require.Equal(t, begin.Add(time.Hour), allocate(t, b.Pool, lease("a", time.Minute)).Expires, "never earlier")
		require.Equal(t, begin.Add(time.Hour+time.Minute), allocate(t, b.another(t), lease("a", time.Hour)).Expires)
		require.True(t, allocate(t, b.Pool, pool.Claim{Owner: "a"}).Expires.IsZero())
		require.True(t, allocate(t, b.Pool, lease("a", time.Hour)).Expires.IsZero(), "a permanent one stays one")
	})
}

func TestTakenSaysWhatCoolsDown(t *testing.T) {
	inMemoryAndStored(t, cooling("10.0.0.0/29"), func(t *testing.T, b *trial) {
		exactly := func(address string) *pool.Error {
			_, err := b.Allocate(t.Context(), claim("x", address))
			require.ErrorIs(t, err, pool.ErrTaken)
			var taken *pool.Error
			require.ErrorAs(t, err, &taken)
			require.Equal(t, prefix(address+"/32"), taken.Prefix)
			if !taken.Until.IsZero() {
				require.ErrorContains(t, err, "taken: it cools down until "+taken.Until.Format(time.RFC3339Nano))
			}
			return taken
		}
		allocate(t, b.Pool, pool.Claim{Owner: "a"})
		allocate(t, b.Pool, pool.Claim{Owner: "b"})
		require.Zero(t, exactly("10.0.0.0").Until)
		until := b.clock.Now().Add(time.Minute)
		release(t, b.Pool, "a")
		require.Equal(t, until, exactly("10.0.0.0").Until)
		require.Zero(t, exactly("10.0.0.1").Until)
		allocate(t, b.Pool, claim("a", "10.0.0.5")) // puts aside what it had
		require.Equal(t, until, exactly("10.0.0.0").Until)
		_, err := b.Decline(t.Context(), pool.Held{Owner: "b"}, time.Hour)
		require.NoError(t, err)
		require.Equal(t, b.clock.Now().Add(time.Hour), exactly("10.0.0.1").Until)
	})
}

func TestExhaustedTellsFullFromNeverAndTheLongestBlock(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/28"), func(t *testing.T, b *trial) {
		refused := func(r pool.Request) *pool.Error {
			_, err := b.Allocate(t.Context(), pool.Claim{Owner: "x", Requests: []pool.Request{r}})
			require.ErrorIs(t, err, pool.ErrExhausted)
			var exhausted *pool.Error
			require.ErrorAs(t, err, &exhausted)
			return exhausted
		}
		require.True(t, refused(pool.Request{Bits: 27}).Never)
		require.True(t, refused(pool.Request{Bits: 31, Within: setOf("10.0.0.3-10.0.0.4")}).Never)
		allocate(t, b.Pool, claim("a", "10.0.0.8"))
		full := refused(pool.Request{Bits: 28})
		require.False(t, full.Never)
		require.Equal(t, 29, full.Longest)
		require.ErrorContains(t, full, "no IPv4 /28 is free; free addresses: 15 of 16, the longest free block is a /29")
		require.ErrorContains(t, refused(pool.Request{Bits: 27}), "an IPv4 /27 can never be free")
		require.False(t, refused(pool.Request{Within: setOf("10.0.0.8")}).Never)
		allocate(t, b.Pool, pool.Claim{Owner: "b", Requests: []pool.Request{{Bits: 29}, {Bits: 30}, {Bits: 31}, {}}})
		require.Equal(t, -1, refused(pool.Request{}).Longest)
	})
}

func TestInfoCountsHoldersAndCountFreePrefixes(t *testing.T) {
	inMemoryAndStored(t, cooling("10.0.0.0/28"), func(t *testing.T, b *trial) {
		holders := func() int {
			info, err := b.another(t).Info(t.Context())
			require.NoError(t, err)
			return info.Holders
		}
		require.Zero(t, holders())
		allocate(t, b.Pool, pool.Claim{Owner: "a", Requests: []pool.Request{{}, {}}})
		allocate(t, b.Pool, pool.Claim{Owner: "b"})
		require.Equal(t, 2, holders())
		for bits, want := range map[int]string{0: "0", 28: "0", 29: "1", 30: "3", 31: "6", 32: "13"} {
			n, err := b.CountFree(t.Context(), pool.IPv4, bits)
			require.NoError(t, err)
			require.Equal(t, want, n.String(), bits)
		}
		_, err := b.CountFree(t.Context(), pool.IPv6, 128)
		require.ErrorIs(t, err, pool.ErrFamily)
		_, err = b.CountFree(t.Context(), pool.IPv4, 33)
		require.ErrorIs(t, err, pool.ErrInvalid)
		release(t, b.Pool, "a")
		require.Equal(t, 1, holders(), "what cools down has no holder")
	})
}

// What was declined can be preferred again when its quarantine has ended, whoever declined it.
func TestPreferAfterAQuarantine(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.10-10.0.0.13"), func(t *testing.T, p *trial) {
		for i := range 4 {
			allocate(t, p.Pool, lease(fmt.Sprint(i), time.Hour))
		}
		_, err := p.Decline(t.Context(), pool.Held{Owner: "0"}, 2*time.Hour)
		require.NoError(t, err)
		p.clock.Add(3 * time.Hour)
		require.Equal(t, "10.0.0.10", allocate(t, p.Pool, prefers("new", "10.0.0.10")).Addrs()[0].String())
	})
}
