package pool_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// cooling is a spec of which an address that was released is withheld for a minute.
func cooling(texts ...string) pool.Spec {
	spec := specOf(texts...)
	spec.Cooldown = time.Minute
	return spec
}

func TestReleasedAddressIsWithheldForTheCooldown(t *testing.T) {
	inMemoryAndStored(t, cooling("10.0.0.0/30"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, pool.Claim{Owner: "a"})
		require.Equal(t, "10.0.0.0", texts(release(t, b.Pool, "a")))
		requireHoldsNothing(t, b.Pool, "a")
		_, err := b.Get(t.Context(), pool.Held{Addr: addr("10.0.0.0")})
		require.ErrorIs(t, err, pool.ErrNotFound)
		_, err = b.Release(t.Context(), pool.Held{Owner: "a"})
		require.ErrorIs(t, err, pool.ErrNotFound)
		_, err = b.Renew(t.Context(), pool.Held{Owner: "a"}, time.Hour)
		require.ErrorIs(t, err, pool.ErrNotFound)
		for a, err := range b.Allocations(t.Context()) {
			require.NoError(t, err)
			require.Fail(t, "nothing is held", "%v", a)
		}

		require.Equal(t, "10.0.0.1", texts(allocate(t, b.another(t), pool.Claim{Owner: "b"})))
		_, err = b.another(t).Allocate(t.Context(), claim("c", "10.0.0.0"))
		require.ErrorIs(t, err, pool.ErrTaken)
		b.clock.Add(time.Minute - time.Microsecond)
		_, err = b.Allocate(t.Context(), claim("c", "10.0.0.0"))
		require.ErrorIs(t, err, pool.ErrTaken)
		b.clock.Add(time.Microsecond)
		require.Equal(t, "10.0.0.0", texts(allocate(t, b.Pool, claim("c", "10.0.0.0"))))
	})
}

func TestCoolingAddressesAreCountedAsTheirOwnState(t *testing.T) {
	inMemoryAndStored(t, cooling("10.0.0.0/29"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, pool.Claim{Owner: "a", Requests: []pool.Request{{Bits: 31}, {}}})
		allocate(t, b.Pool, pool.Claim{Owner: "b"})
		release(t, b.Pool, "a")
		want := pool.Stats{
			Family: pool.IPv4, Total: cidr.CountOf(8), Used: cidr.CountOf(1), Cooling: cidr.CountOf(3), Free: cidr.CountOf(4),
		}
		require.Equal(t, want, b.stats(t))
		info, err := b.another(t).Info(t.Context())
		require.NoError(t, err)
		fresh := info.Stats
		require.Equal(t, want, countsOf(fresh, pool.IPv4), "as it is stored")
		report, err := b.Verify(t.Context())
		require.NoError(t, err)
		require.True(t, report.OK(), "%v", report)
		require.Equal(t, 1, report.Allocations, "what cools down is no allocation")
		b.clock.Add(time.Minute)
		expired, err := b.Expire(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, expired)
		want.Free, want.Cooling = cidr.CountOf(7), cidr.Count{}
		require.Equal(t, want, b.stats(t))
	})
}

func TestExhaustionSaysWhatCoolsDownAndWhenTheNextFrees(t *testing.T) {
	inMemoryAndStored(t, cooling("10.0.0.0/30"), func(t *testing.T, b *trial) {
		for i := range 4 {
			allocate(t, b.Pool, pool.Claim{Owner: fmt.Sprint(i)})
		}
		begin := b.clock.Now()
		release(t, b.Pool, "2")
		b.clock.Add(time.Second)
		release(t, b.Pool, "1")
		_, err := b.another(t).Allocate(t.Context(), pool.Claim{Owner: "new"})
		var exhausted *pool.Error
		require.ErrorAs(t, err, &exhausted)
		require.ErrorIs(t, err, pool.ErrExhausted)
		require.Equal(t, uint64(2), exhausted.Cooling.Uint64())
		require.Equal(t, begin.Add(time.Minute), exhausted.Next)
		require.ErrorContains(t, err, "; 2 cool down; the next one may be free at 2026-03-01T12:01:00Z")

		b.clock.Add(59 * time.Second)
		require.Equal(t, "10.0.0.2", texts(allocate(t, b.Pool, pool.Claim{Owner: "new"})))
		_, err = b.Allocate(t.Context(), pool.Claim{Owner: "newer"})
		require.ErrorAs(t, err, &exhausted)
		require.Equal(t, begin.Add(61*time.Second), exhausted.Next)
	})
}

func TestLastOwnerGetsItBackAtOnce(t *testing.T) {
	inMemoryAndStored(t, cooling("10.0.0.0/29"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, pool.Claim{Owner: "first"})
		want := allocate(t, b.Pool, pool.Claim{Owner: "a"})
		release(t, b.Pool, "first")
		release(t, b.Pool, "a")
		got := allocate(t, b.another(t), pool.Claim{Owner: "a"})
		require.Equal(t, want.Prefixes, got.Prefixes)
		require.Greater(t, got.Generation, want.Generation, "by a grant of its own")
		require.Zero(t, got.Expires)
		require.Equal(t, uint64(1), b.stats(t).Cooling.Uint64())
		_, err := b.Release(t.Context(), pool.Held{Owner: "a", Generation: want.Generation})
		require.ErrorIs(t, err, pool.ErrGeneration)

		leased := allocate(t, b.Pool, lease("first", time.Hour))
		require.Equal(t, "10.0.0.0", texts(leased))
		require.Equal(t, b.clock.Now().Add(time.Hour), leased.Expires)
		require.True(t, b.stats(t).Cooling.IsZero())
	})
}

// The last owner claims something else: what it had goes on cooling down, for all others.
func TestAnotherClaimByTheLastOwnerPutsItAside(t *testing.T) {
	inMemoryAndStored(t, cooling("10.0.0.0/30"), func(t *testing.T, b *trial) {
		for i := range 3 { // time and again
			address := fmt.Sprintf("10.0.0.%d", i)
			allocate(t, b.another(t), claim("a", address))
			release(t, b.Pool, "a")
			b.clock.Add(time.Second)
		}
		require.Equal(t, uint64(3), b.stats(t).Cooling.Uint64())
		requireOK(t, b.Pool)
		requireOK(t, b.another(t))
		require.Equal(t, "10.0.0.3", texts(allocate(t, b.another(t), pool.Claim{Owner: "b"})))
		_, err := b.Allocate(t.Context(), pool.Claim{Owner: "c"})
		require.ErrorIs(t, err, pool.ErrExhausted)
		for i := range 3 {
			_, err := b.Allocate(t.Context(), claim("c", fmt.Sprintf("10.0.0.%d", i)))
			require.ErrorIs(t, err, pool.ErrTaken)
		}
		b.clock.Add(time.Minute - 3*time.Second)
		require.Equal(t, "10.0.0.0", texts(allocate(t, b.another(t), pool.Claim{Owner: "c"})))
		_, err = b.Allocate(t.Context(), pool.Claim{Owner: "d"})
		require.ErrorIs(t, err, pool.ErrExhausted)
		b.clock.Add(2 * time.Second)
		require.Equal(t, "10.0.0.2", texts(allocate(t, b.Pool, claim("d", "10.0.0.2"))))
		require.Equal(t, "10.0.0.1", texts(allocate(t, b.Pool, pool.Claim{Owner: "e"})))
		require.True(t, b.stats(t).Cooling.IsZero())
	})
}

// Its last owner gets it back also when it has had, and released, something else since.
func TestLastOwnerGetsBackWhatWasPutAside(t *testing.T) {
	inMemoryAndStored(t, cooling("10.0.0.0/31"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, claim("a", "10.0.0.0"))
		release(t, b.Pool, "a")
		allocate(t, b.Pool, claim("a", "10.0.0.1"))
		release(t, b.Pool, "a")
		require.Equal(t, "10.0.0.0", texts(allocate(t, b.another(t), claim("a", "10.0.0.0"))))
		requireOK(t, b.Pool)
		_, err := b.Allocate(t.Context(), claim("b", "10.0.0.1"))
		require.ErrorIs(t, err, pool.ErrTaken, "which goes on cooling down")
	})
}

func TestFailedClaimByTheLastOwnerLeavesItCooling(t *testing.T) {
	inMemoryAndStored(t, cooling("10.0.0.0/30"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, pool.Claim{Owner: "a"})
		allocate(t, b.Pool, pool.Claim{Owner: "b"})
		release(t, b.Pool, "a")
		before := b.stats(t)
		for _, c := range []pool.Claim{claim("a", "10.0.0.1"), {Owner: "a", Requests: []pool.Request{{Bits: 30}}}} {
			_, err := b.Allocate(t.Context(), c)
			require.Error(t, err)
			require.Equal(t, before, b.stats(t))
			requireOK(t, b.Pool)
		}
		require.Equal(t, "10.0.0.0", texts(allocate(t, b.Pool, pool.Claim{Owner: "a"})))
	})
}

func TestLeaseThatHasEndedDoesNotCoolDown(t *testing.T) {
	inMemoryAndStored(t, cooling("10.0.0.0/32"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, lease("a", time.Second))
		b.clock.Add(time.Second)
		allocate(t, b.Pool, lease("b", time.Second))
		b.clock.Add(time.Second)
		release(t, b.Pool, "b")
		allocate(t, b.Pool, pool.Claim{Owner: "c"})
	})
}

func TestCooldownIsThatOfTheSpecAtTheRelease(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/31"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, pool.Claim{Owner: "a"})
		release(t, b.Pool, "a")
		require.True(t, b.stats(t).Cooling.IsZero(), "none by default")
		allocate(t, b.Pool, pool.Claim{Owner: "a"})
		require.NoError(t, b.Update(t.Context(), cooling("10.0.0.0/31")))
		release(t, b.Pool, "a")
		require.Equal(t, uint64(1), b.stats(t).Cooling.Uint64())
		require.NoError(t, b.Update(t.Context(), specOf("10.0.0.0/31")))
		_, err := b.Allocate(t.Context(), claim("b", "10.0.0.0"))
		require.ErrorIs(t, err, pool.ErrTaken, "what has begun goes on")
		b.clock.Add(time.Minute)
		allocate(t, b.Pool, claim("b", "10.0.0.0"))
	})
}

// Of an allocation that is partly out of range, what is in range cools down.
func TestPartThatIsInRangeCoolsDown(t *testing.T) {
	inMemoryAndStored(t, cooling("10.0.0.0/30", "2001:db8::/126"), func(t *testing.T, b *trial) {
		a := allocate(t, b.Pool, pool.Claim{Owner: "a", Policy: pool.RequireDualStack})
		require.Equal(t, "10.0.0.0 2001:db8::", texts(a))
		require.NoError(t, b.Drain(t.Context(), cooling("10.0.0.0/30", "2001:db8::4/126")))
		release(t, b.Pool, "a")
		_, err := b.Allocate(t.Context(), claim("b", "10.0.0.0"))
		require.ErrorIs(t, err, pool.ErrTaken)
		requireOK(t, b.Pool)
		b.clock.Add(time.Minute)
		allocate(t, b.Pool, claim("b", "10.0.0.0"))
		info, err := b.Info(t.Context())
		require.NoError(t, err)
		stats := info.Stats
		for _, family := range stats {
			require.True(t, family.OutOfRange.IsZero())
			require.True(t, family.Cooling.IsZero())
		}
	})
}

func TestCoolingAddressesDoNotKeepAPoolFromBeingDeleted(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, p *pool.Pool){
		"in range":  func(*testing.T, *pool.Pool) {},
		"put aside": func(t *testing.T, p *pool.Pool) { allocate(t, p, claim("a", "10.0.0.7")); release(t, p, "a") },
		"out of range": func(t *testing.T, p *pool.Pool) {
			require.NoError(t, p.Drain(t.Context(), cooling("10.0.0.4/30")))
		},
		"of a family that is gone": func(t *testing.T, p *pool.Pool) {
			require.NoError(t, p.Drain(t.Context(), cooling("2001:db8::/126")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := stored(t, cooling("10.0.0.0/29"))
			allocate(t, b.Pool, pool.Claim{Owner: "a"})
			require.ErrorIs(t, pool.Delete(t.Context(), b.memory, "blue", nil), pool.ErrInUse)
			release(t, b.Pool, "a")
			before(t, b.Pool)
			require.NoError(t, pool.Delete(t.Context(), b.memory, "blue", nil))
			requireNoRecords(t, b.memory)
		})
	}
}

// requireNoRecords requires that nothing at all is left in a store.
func requireNoRecords(t testing.TB, s store.Store) {
	t.Helper()
	for _, kind := range []store.Kind{
		store.KindPool, store.KindAllocation, store.KindCooling, store.KindSpace, store.KindNetwork,
	} {
		for r, err := range s.List(t.Context(), kind, "") {
			require.NoError(t, err)
			require.Fail(t, "a record is left", "%v", r)
		}
	}
}

func TestVerifyCountsWhatCoolsDown(t *testing.T) {
	b := stored(t, cooling("10.0.0.0/28"))
	for i := range 3 {
		allocate(t, b.Pool, claim("a", fmt.Sprintf("10.0.0.%d", i)))
		release(t, b.Pool, "a")
	}
	requireOK(t, b.Pool)
	// By hand, somebody deletes the record of one that cools down.
	head, err := b.memory.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: "blue"})
	require.NoError(t, err)
	aside := store.Record{Key: store.Key{Kind: store.KindCooling, Pool: "blue", Name: "10.0.0.0/32"}}
	_, err = storetest.CommitOne(t.Context(), b.memory, head, store.Write{Op: store.Delete, Record: aside})
	require.NoError(t, err)
	report, err := b.Verify(t.Context())
	require.NoError(t, err)
	require.False(t, report.OK())
	require.Equal(t, ranges("10.0.0.0"), report.Leaked)
	require.Contains(t, report.Miscounted, "cooling IPv4: 3 in the head, 2 in the records")
	require.Contains(t, report.Miscounted, "records that expire: 3 in the head, 2 in the records")
	require.Contains(t, report.Miscounted, "records aside: 2 in the head, 1 in the records")
	_, err = b.Repair(t.Context())
	require.NoError(t, err)
	requireOK(t, b.another(t))
	require.Equal(t, uint64(2), b.stats(t).Cooling.Uint64())
}

func TestFaultsAroundACooldown(t *testing.T) {
	for _, effect := range []faults.Effect{faults.Refuse, faults.LoseRequest, faults.LoseReply, faults.LandLate} {
		t.Run(fmt.Sprint(effect), func(t *testing.T) {
			b := stored(t, cooling("10.0.0.0/30"))
			faulty := func(call func() error) {
				b.faults.ResetCounts()
				b.faults.Choose = faults.Script(faults.Fault{Effect: effect, Late: 2})
				if err := call(); err != nil {
					require.ErrorIs(t, err, faults.ErrInjected)
					require.NotErrorIs(t, err, store.ErrUnknown)
					require.NoError(t, call())
				}
				b.faults.Choose = nil
				requireOK(t, b.Pool)
				requireOK(t, b.another(t))
			}
			free := func() error {
				_, err := b.Release(t.Context(), pool.Held{Owner: "a"})
				if errors.Is(err, pool.ErrNotFound) {
					return nil
				}
				return err
			}
			take := func(c pool.Claim) func() error {
				return func() error { _, err := b.Allocate(t.Context(), c); return err }
			}
			faulty(take(claim("a", "10.0.0.0")))
			faulty(free)
			require.Equal(t, uint64(1), b.stats(t).Cooling.Uint64())
			faulty(take(claim("a", "10.0.0.1"))) // which puts the first one aside
			require.Equal(t, uint64(1), b.stats(t).Cooling.Uint64())
			faulty(free)
			require.Equal(t, uint64(2), b.stats(t).Cooling.Uint64())
			b.clock.Add(time.Minute)
			faulty(take(claim("b", "10.0.0.0/30")))
			require.True(t, b.stats(t).Cooling.IsZero())
		})
	}
}
