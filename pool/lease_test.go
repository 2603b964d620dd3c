package pool_test

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// manualClock is a clock that stands still until a test sets it.
type manualClock struct {
	mu  sync.Mutex
	now time.Time
}

func newManualClock() *manualClock {
	return &manualClock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

func (c *manualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Add sets the clock forward, or back if d is negative.
func (c *manualClock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// trial is where a test runs: a pool in memory, or one in a store whose calls are counted and can be made to fail.
type trial struct {
	*pool.Pool
	clock  *manualClock
	faults *faults.Injector
	memory *store.Memory // nil for a pool in memory
}

// inMemoryAndStored runs a test on a pool in memory, and on one in a store.
func inMemoryAndStored(t *testing.T, spec pool.Spec, test func(t *testing.T, b *trial)) {
	t.Run("in memory", func(t *testing.T) {
		b := &trial{clock: newManualClock(), faults: &faults.Injector{}}
		var err error
		b.Pool, err = pool.New(spec, b.options())
		require.NoError(t, err)
		test(t, b)
		requireOK(t, b.Pool)
	})
	t.Run("stored", func(t *testing.T) {
		b := stored(t, spec)
		test(t, b)
		requireOK(t, b.Pool)
		requireOK(t, b.another(t))
	})
}

// stored is a pool in a store.
func stored(t testing.TB, spec pool.Spec) *trial {
	t.Helper()
	b := &trial{clock: newManualClock(), faults: &faults.Injector{}, memory: store.NewMemory()}
	var err error
	b.Pool, err = pool.Create(t.Context(), b.faults.Wrap(b.memory), "blue", spec, b.options())
	require.NoError(t, err)
	return b
}

func (b *trial) options() *pool.Options { return &pool.Options{Clock: b.clock.Now} }

// another returns a handle of the same pool, as another process would have it, without faults; the
// same handle if the pool is in memory.
func (b *trial) another(t testing.TB) *pool.Pool {
	t.Helper()
	if b.memory == nil {
		return b.Pool
	}
	p, err := pool.Open(t.Context(), b.memory.Open(), "blue", b.options())
	require.NoError(t, err)
	return p
}

func (b *trial) stats(t testing.TB) pool.Stats {
	t.Helper()
	info, err := b.Info(t.Context())
	require.NoError(t, err)
	stats := info.Stats
	return countsOf(stats, pool.IPv4)
}

func lease(owner string, ttl time.Duration) pool.Claim { return pool.Claim{Owner: owner, TTL: ttl} }

func TestLeaseThatHasEndedIsFreeForWhoNeedsItWithoutALoop(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/31"), func(t *testing.T, b *trial) {
		late := allocate(t, b.Pool, lease("late", 2*time.Minute))
		early := allocate(t, b.Pool, lease("early", time.Minute))
		require.Equal(t, b.clock.Now().Add(time.Minute), early.Expires)
		_, err := b.Allocate(t.Context(), pool.Claim{Owner: "new"})
		var exhausted *pool.Error
		require.ErrorAs(t, err, &exhausted)
		require.Equal(t, early.Expires, exhausted.Next, "which says when to try again")

		b.clock.Add(time.Minute - time.Microsecond)
		_, err = b.another(t).Allocate(t.Context(), pool.Claim{Owner: "new"})
		require.ErrorIs(t, err, pool.ErrExhausted)
		b.clock.Add(time.Microsecond) // a lease ends at its time, not after it
		require.True(t, early.Expired(b.clock.Now()))
		held, err := b.Get(t.Context(), pool.Held{Owner: "early"})
		require.NoError(t, err, "nobody has needed it")
		require.Equal(t, early, held)
		require.Equal(t, texts(early), texts(allocate(t, b.another(t), pool.Claim{Owner: "new"})))
		requireHoldsNothing(t, b.Pool, "early")
		held, err = b.Get(t.Context(), pool.Held{Owner: "late"})
		require.NoError(t, err)
		require.Equal(t, late, held, "its time has not come")
	})
}

func TestReservationNeverExpires(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/31"), func(t *testing.T, b *trial) {
		want := allocate(t, b.Pool, pool.Claim{Owner: "reserved"})
		require.Zero(t, want.Expires)
		allocate(t, b.Pool, lease("leased", time.Minute))
		b.clock.Add(200 * 365 * 24 * time.Hour)
		require.Equal(t, "10.0.0.1", texts(allocate(t, b.Pool, pool.Claim{Owner: "new"})))
		_, err := b.Allocate(t.Context(), claim("newer", "10.0.0.0"))
		require.ErrorIs(t, err, pool.ErrTaken)
		expired, err := b.Expire(t.Context())
		require.NoError(t, err)
		require.Zero(t, expired)
		got, err := b.Get(t.Context(), pool.Held{Owner: "reserved"})
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func TestTimesSurviveARestart(t *testing.T) {
	spec := specOf("10.0.0.0/31")
	spec.Cooldown = time.Hour
	b := stored(t, spec)
	leased := allocate(t, b.Pool, lease("leased", time.Minute+1500*time.Nanosecond))
	require.Equal(t, b.clock.Now().Add(time.Minute+time.Microsecond), leased.Expires, "cut to the microsecond")
	released := allocate(t, b.Pool, pool.Claim{Owner: "released"})
	release(t, b.Pool, "released")

	restarted := b.another(t)
	got, err := restarted.Get(t.Context(), pool.Held{Owner: "leased"})
	require.NoError(t, err)
	require.Equal(t, leased, got)
	_, err = restarted.Allocate(t.Context(), pool.Claim{Owner: "new"})
	require.ErrorIs(t, err, pool.ErrExhausted)
	b.clock.Add(2 * time.Minute)
	require.Equal(t, texts(leased), texts(allocate(t, b.another(t), pool.Claim{Owner: "new"})))
	_, err = b.another(t).Allocate(t.Context(), pool.Claim{Owner: "newer"})
	require.ErrorIs(t, err, pool.ErrExhausted)
	b.clock.Add(time.Hour)
	require.Equal(t, texts(released), texts(allocate(t, b.another(t), pool.Claim{Owner: "newer"})))
}

func TestClockThatIsSetBackFreesNothingEarly(t *testing.T) {
	spec := specOf("10.0.0.0/31")
	spec.Cooldown = time.Minute
	inMemoryAndStored(t, spec, func(t *testing.T, b *trial) {
		leased := allocate(t, b.Pool, lease("leased", time.Minute))
		allocate(t, b.Pool, pool.Claim{Owner: "released"})
		release(t, b.Pool, "released")
		b.clock.Add(-24 * time.Hour)
		renewed, err := b.Renew(t.Context(), pool.Held{Owner: "leased"}, time.Minute)
		require.NoError(t, err)
		require.Equal(t, leased, renewed, "a renewal never shortens")
		again := allocate(t, b.another(t), lease("leased", time.Second))
		require.Equal(t, leased, again, "nor does a claim")
		b.clock.Add(24*time.Hour + time.Minute - time.Microsecond)
		_, err = b.Allocate(t.Context(), pool.Claim{Owner: "new"})
		require.ErrorIs(t, err, pool.ErrExhausted)
		expired, err := b.another(t).Expire(t.Context())
		require.NoError(t, err)
		require.Zero(t, expired)
		b.clock.Add(time.Microsecond)
		allocate(t, b.Pool, pool.Claim{Owner: "new"})
		allocate(t, b.Pool, pool.Claim{Owner: "newer"})
	})
}

func TestRenew(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/30"), func(t *testing.T, b *trial) {
		leased := allocate(t, b.Pool, lease("leased", time.Minute))
		reserved := allocate(t, b.Pool, pool.Claim{Owner: "reserved"})
		b.clock.Add(30 * time.Second)
		renewed, err := b.Renew(t.Context(), pool.Held{Owner: "leased"}, time.Minute)
		require.NoError(t, err)
		require.Equal(t, b.clock.Now().Add(time.Minute), renewed.Expires, "from now on")
		require.Equal(t, leased.Generation, renewed.Generation, "it is the same grant")
		require.Equal(t, leased.Created, renewed.Created)
		b.clock.Add(45 * time.Second)
		got, err := b.another(t).Get(t.Context(), pool.Held{Owner: "leased"})
		require.NoError(t, err)
		require.Equal(t, renewed, got)
		require.False(t, got.Expired(b.clock.Now()))

		got, err = b.Renew(t.Context(), pool.Held{Owner: "reserved"}, time.Minute)
		require.NoError(t, err)
		require.Equal(t, reserved, got, "a reservation stays one")
		_, err = b.Renew(t.Context(), pool.Held{Owner: "nobody"}, time.Minute)
		require.ErrorIs(t, err, pool.ErrNotFound)
		for _, ttl := range []time.Duration{0, -time.Minute, time.Nanosecond, pool.MaxTTL + 1} {
			_, err = b.Renew(t.Context(), pool.Held{Owner: "leased"}, ttl)
			require.ErrorIs(t, err, pool.ErrInvalid, "%v", ttl)
			if ttl != 0 { // which makes no lease
				_, err = b.Allocate(t.Context(), lease("other", ttl))
				require.ErrorIs(t, err, pool.ErrInvalid, "%v", ttl)
			}
		}
		_, err = b.Renew(t.Context(), pool.Held{Owner: "leased"}, pool.MaxTTL)
		require.NoError(t, err)
	})
}

func TestRenewOfALeaseThatHasEndedWorksUntilSomebodyNeededIt(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/32"), func(t *testing.T, b *trial) {
		leased := allocate(t, b.Pool, lease("leased", time.Minute))
		b.clock.Add(time.Hour)
		renewed, err := b.another(t).Renew(t.Context(), pool.Held{Owner: "leased"}, time.Minute)
		require.NoError(t, err)
		require.Equal(t, leased.Prefixes, renewed.Prefixes)
		_, err = b.Allocate(t.Context(), pool.Claim{Owner: "new"})
		require.ErrorIs(t, err, pool.ErrExhausted)
		b.clock.Add(time.Minute)
		allocate(t, b.Pool, pool.Claim{Owner: "new"})
		_, err = b.Renew(t.Context(), pool.Held{Owner: "leased"}, time.Minute)
		require.ErrorIs(t, err, pool.ErrNotFound)
		_, err = b.Release(t.Context(), pool.Held{Owner: "leased"})
		require.ErrorIs(t, err, pool.ErrNotFound, "a late release frees nothing of the successor")
		got, err := b.Get(t.Context(), pool.Held{Owner: "new"})
		require.NoError(t, err)
		require.Equal(t, leased.Prefixes, got.Prefixes)
	})
}

// A renewal that makes the lease no longer writes nothing, but does not answer from memory what is not true any more.
func TestRenewOfWhatAnotherProcessHasReleased(t *testing.T) {
	b := stored(t, specOf("10.0.0.0/30"))
	allocate(t, b.Pool, lease("a", time.Hour))
	release(t, b.another(t), "a")
	_, err := b.Renew(t.Context(), pool.Held{Owner: "a"}, time.Minute)
	require.ErrorIs(t, err, pool.ErrNotFound)
	allocate(t, b.Pool, lease("a", time.Hour))
	release(t, b.another(t), "a")
	want := allocate(t, b.another(t), lease("a", 2*time.Hour))
	got, err := b.Renew(t.Context(), pool.Held{Owner: "a"}, time.Minute)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestLeaseBecomesAReservationAndNotTheContrary(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/30"), func(t *testing.T, b *trial) {
		leased := allocate(t, b.Pool, lease("a", time.Minute))
		reserved := allocate(t, b.another(t), pool.Claim{Owner: "a"})
		require.Zero(t, reserved.Expires)
		require.Equal(t, leased.Generation, reserved.Generation)
		require.Equal(t, reserved, allocate(t, b.Pool, lease("a", time.Minute)))
		b.clock.Add(time.Hour)
		expired, err := b.Expire(t.Context())
		require.NoError(t, err)
		require.Zero(t, expired)
	})
}

// The owner of a lease that has ended, whose address nobody needed, gets the same one by a new grant.
func TestOwnerOfALeaseThatHasEndedClaimsAgain(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/30"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, pool.Claim{Owner: "first"})
		leased := allocate(t, b.Pool, lease("a", time.Minute))
		release(t, b.Pool, "first")
		b.clock.Add(time.Hour)
		again := allocate(t, b.another(t), lease("a", time.Minute))
		require.Equal(t, leased.Prefixes, again.Prefixes)
		require.Greater(t, again.Generation, leased.Generation)
		require.Equal(t, b.clock.Now().Add(time.Minute), again.Expires)
		b.clock.Add(time.Hour)
		other := allocate(t, b.Pool, pool.Claim{Owner: "a", Requests: []pool.Request{{Bits: 31}}})
		require.Equal(t, "10.0.0.0/31", texts(other), "something else, in the place of what has ended")
		require.Equal(t, uint64(2), b.stats(t).Used.Uint64())
	})
}

func TestWhatIsTakenOfLeasesThatHaveEnded(t *testing.T) {
	for name, c := range map[string]struct {
		claim pool.Claim
		want  string
		left  int // of the four leases
	}{
		"an exact address": {claim("new", "10.0.0.2"), "10.0.0.2", 3},
		"an address within a set": {
			pool.Claim{Owner: "new", Requests: []pool.Request{{Within: setOf("10.0.0.2-10.0.0.3")}}}, "10.0.0.2", 3,
		},
		"a prefix that needs two": {
			pool.Claim{Owner: "new", Requests: []pool.Request{{Bits: 31}}}, "10.0.0.0/31", 2,
		},
		"an exact prefix that needs all": {claim("new", "10.0.0.0/30"), "10.0.0.0/30", 0},
		"two addresses": {
			pool.Claim{Owner: "new", Requests: []pool.Request{{}, {}}}, "10.0.0.0 10.0.0.1", 2,
		},
		"one exact address and any other": {
			pool.Claim{Owner: "new", Requests: []pool.Request{{}, pool.ExactAddr(addr("10.0.0.1"))}}, "10.0.0.0 10.0.0.1", 2,
		},
		"a prefix within what two others hold": {
			pool.Claim{Owner: "new", Requests: []pool.Request{{Bits: 31, Within: setOf("10.0.0.1-10.0.0.3")}}}, "10.0.0.2/31", 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inMemoryAndStored(t, specOf("10.0.0.0/30"), func(t *testing.T, b *trial) {
				for i := range 4 {
					allocate(t, b.Pool, lease(fmt.Sprint(i), time.Duration(i+1)*time.Minute))
				}
				b.clock.Add(time.Hour)
				require.Equal(t, c.want, texts(allocate(t, b.another(t), c.claim)))
				left := 0
				for a, err := range b.Allocations(t.Context()) {
					require.NoError(t, err)
					if a.Owner != "new" {
						left++
					}
				}
				require.Equal(t, c.left, left, "no more than what was needed")
			})
		})
	}
}

func TestClaimThatFailsTakesNothingOfLeasesThatHaveEnded(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/30"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, claim("reserved", "10.0.0.3"))
		for i := range 3 {
			allocate(t, b.Pool, lease(fmt.Sprint(i), time.Minute))
		}
		before := b.stats(t)
		b.clock.Add(time.Hour)
		for _, c := range []pool.Claim{
			claim("new", "10.0.0.0/30"),
			{Owner: "new", Requests: []pool.Request{{Bits: 30}}},
			{Owner: "new", Requests: []pool.Request{{}, {}, {}, {}}},
		} {
			_, err := b.Allocate(t.Context(), c)
			require.Error(t, err)
			require.Equal(t, before, b.stats(t))
			for i := range 3 {
				_, err := b.Get(t.Context(), pool.Held{Owner: fmt.Sprint(i)})
				require.NoError(t, err)
			}
		}
	})
}

// A hundred thousand leases that renew make no claim read or write more. The store's calls are counted,
// so that the machine does not matter.
func TestLeasesThatRenewDoNotMakeClaimsDearer(t *testing.T) {
	const leases = 100_000
	spec := specOf("10.0.0.0/8")
	spec.Bands = []pool.Band{{Name: "small", Ranges: ranges("10.255.0.0/28"), Exclusive: true}}
	b := stored(t, spec)
	claims := make([]pool.Claim, leases)
	for i := range claims {
		claims[i] = lease(fmt.Sprint(i), time.Hour)
	}
	_, err := allocateMany(t.Context(), b, claims)
	require.NoError(t, err)
	small := func(owner string, ttl time.Duration) pool.Claim {
		return pool.Claim{Owner: owner, TTL: ttl, Requests: []pool.Request{{Within: setOf("10.255.0.0/28"), Band: "small"}}}
	}
	for i := range 16 {
		allocate(t, b.Pool, small(fmt.Sprintf("small %d", i), time.Minute))
	}
	for i := range 100 {
		_, err := b.Renew(t.Context(), pool.Held{Owner: fmt.Sprint(i)}, 2*time.Hour)
		require.NoError(t, err)
		b.faults.ResetCounts()
		allocate(t, b.Pool, pool.Claim{Owner: fmt.Sprintf("new %d", i)})
		require.Equal(t, 1, b.faults.Counts().RoundTrips(), "one commit and no read")
	}

	// And one that needs what has ended reads that, and not what goes on.
	b.clock.Add(time.Minute)
	for i := range 16 {
		b.faults.ResetCounts()
		allocate(t, b.Pool, small(fmt.Sprintf("late %d", i), time.Hour))
		counts := b.faults.Counts()
		require.LessOrEqual(t, counts.Listed, 1, "the one lease that is taken")
		require.LessOrEqual(t, counts.RoundTrips(), 3)
	}
	b.faults.ResetCounts()
	_, err = b.Allocate(t.Context(), small("too late", time.Hour))
	require.ErrorIs(t, err, pool.ErrExhausted)
	require.LessOrEqual(t, b.faults.Counts().Listed, 2, "the first that goes on, also once the owner's record was read")
}

// Many claims in one commit race for the same few leases that have ended: each is given once.
func TestClaimsTogetherTakeEachLeaseThatHasEndedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		injector, memory := &faults.Injector{}, store.NewMemory()
		p := create(t, injector.Wrap(memory), specOf("10.0.0.0/28"))
		for i := range 16 {
			allocate(t, p, lease(fmt.Sprint(i), time.Minute))
		}
		other := open(t, memory.Open())
		time.Sleep(time.Minute) // of the test's own clock
		injector.ResetCounts()
		injector.Choose = faults.Script(faults.Fault{Delay: time.Second}, faults.Fault{Delay: time.Second})
		var calls sync.WaitGroup
		var mu sync.Mutex
		got := map[netip.Addr]string{}
		for i := range 40 {
			owner, handle := fmt.Sprintf("new %d", i), p
			if i%4 == 0 {
				handle = other
			}
			calls.Go(func() {
				a, err := handle.Allocate(t.Context(), pool.Claim{Owner: owner})
				if err != nil {
					if !errors.Is(err, pool.ErrExhausted) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if holder, twice := got[a.Addrs()[0]]; twice {
					t.Errorf("%v is given to %q and %q", a.Addrs()[0], holder, owner)
				}
				got[a.Addrs()[0]] = owner
			})
		}
		calls.Wait()
		require.Len(t, got, 16)
		require.Less(t, injector.Counts().Commit, 10, "they shared commits")
		requireOK(t, p)
		requireOK(t, other)
	})
}

// The owners of leases that have ended come back in the same commit as those who want to have them.
func TestOwnersThatComeBackWhileTheirLeasesAreWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		injector := &faults.Injector{}
		p := create(t, injector.Wrap(store.NewMemory()), specOf("10.0.0.0/29"))
		for i := range 8 {
			allocate(t, p, lease(fmt.Sprint(i), time.Minute))
		}
		time.Sleep(time.Hour)
		injector.ResetCounts()
		injector.Choose = faults.Script(faults.Fault{Delay: time.Second})
		var calls sync.WaitGroup
		for i := range 8 {
			calls.Go(func() { _, _ = p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprintf("new %d", i)}) })
			calls.Go(func() {
				switch i % 3 {
				case 0:
					_, _ = p.Renew(t.Context(), pool.Held{Owner: fmt.Sprint(i)}, time.Hour)
				case 1:
					_, _ = p.Allocate(t.Context(), lease(fmt.Sprint(i), time.Hour))
				default:
					_, _ = p.Release(t.Context(), pool.Held{Owner: fmt.Sprint(i)})
				}
			})
		}
		calls.Wait()
		requireOK(t, p)
		holders := map[netip.Addr]bool{}
		for a, err := range p.Allocations(t.Context()) {
			require.NoError(t, err)
			require.False(t, holders[a.Addrs()[0]], "%v is held twice", a.Addrs()[0])
			holders[a.Addrs()[0]] = true
		}
		require.Len(t, holders, 8)
	})
}

func TestFaultsWhileALeaseThatHasEndedIsTaken(t *testing.T) {
	for _, effect := range []faults.Effect{faults.Refuse, faults.LoseRequest, faults.LoseReply, faults.LandLate} {
		t.Run(fmt.Sprint(effect), func(t *testing.T) {
			b := stored(t, specOf("10.0.0.0/31"))
			allocate(t, b.Pool, lease("a", time.Minute))
			allocate(t, b.Pool, lease("b", time.Minute))
			b.clock.Add(time.Hour)
			b.faults.ResetCounts()
			b.faults.Choose = faults.Script(faults.Fault{Effect: effect, Late: 2})
			c := pool.Claim{Owner: "new", Requests: []pool.Request{{Bits: 31}}}
			if effect == faults.Refuse {
				_, err := b.Allocate(t.Context(), c)
				require.ErrorIs(t, err, faults.ErrInjected)
				_, err = b.Get(t.Context(), pool.Held{Owner: "a"})
				require.NoError(t, err, "nothing has changed")
				requireOK(t, b.Pool)
			}
			require.Equal(t, "10.0.0.0/31", texts(allocate(t, b.Pool, c)))
			require.Equal(t, uint64(2), b.stats(t).Used.Uint64())
			for _, owner := range []string{"a", "b"} {
				requireHoldsNothing(t, b.Pool, owner)
			}
			requireOK(t, b.Pool)
			requireOK(t, b.another(t))
		})
	}
}

func TestExpire(t *testing.T) {
	spec := specOf("10.0.0.0/24")
	spec.Cooldown = time.Minute
	inMemoryAndStored(t, spec, func(t *testing.T, b *trial) {
		for i := range 10 {
			allocate(t, b.Pool, lease(fmt.Sprintf("ended %d", i), time.Minute))
			allocate(t, b.Pool, lease(fmt.Sprintf("goes on %d", i), time.Hour))
			allocate(t, b.Pool, pool.Claim{Owner: fmt.Sprintf("released %d", i)})
			release(t, b.Pool, fmt.Sprintf("released %d", i))
		}
		expired, err := b.Expire(t.Context())
		require.NoError(t, err)
		require.Zero(t, expired)
		b.clock.Add(time.Minute)
		require.Equal(t, uint64(20), b.stats(t).Used.Uint64(), "nobody has needed those that have ended")
		b.faults.ResetCounts()
		expired, err = b.Expire(t.Context())
		require.NoError(t, err)
		require.Equal(t, 20, expired)
		if b.memory != nil {
			require.Equal(t, 1, b.faults.Counts().Committed)
			require.LessOrEqual(t, b.faults.Counts().Listed, 22, "what has ended, and the first that goes on")
		}
		require.Equal(t, uint64(10), b.stats(t).Used.Uint64())
		require.True(t, b.stats(t).Cooling.IsZero())
	})
}

func TestExpireInAsManyCommitsAsTheStoreNeeds(t *testing.T) {
	memory, clock := store.NewMemory(), newManualClock()
	small := &tooLarge{Store: memory, limit: 7}
	p, err := pool.Create(t.Context(), small, "blue", specOf("10.0.0.0/24"), &pool.Options{Clock: clock.Now})
	require.NoError(t, err)
	for i := range 50 {
		allocate(t, p, lease(fmt.Sprint(i), time.Minute))
	}
	clock.Add(time.Minute)
	expired, err := p.Expire(t.Context())
	require.NoError(t, err)
	require.Equal(t, 50, expired)
	requireOK(t, p)
}

// countsOf are the counts of one family.
func countsOf(stats []pool.Stats, family pool.Family) pool.Stats {
	return pool.Info{Stats: stats}.StatsOf(family)
}

// A step that was content to find nothing to renew does not renew what a later step of the same call grants, also if
// the call is planned again because the answer of its commit was lost.
func TestRenewalOfNothingIsNotOfWhatComesLater(t *testing.T) {
	for _, effect := range []faults.Effect{faults.LoseRequest, faults.LoseReply, faults.LandLate} {
		t.Run(fmt.Sprint(effect), func(t *testing.T) {
			b := stored(t, specOf("10.0.0.0/31"))
			b.faults.ResetCounts()
			b.faults.Choose = faults.Script(faults.Fault{Effect: effect, Late: 2})
			_, err := b.All(t.Context(),
				pool.Renew(pool.Held{Owner: "a", Optional: true}, time.Hour), pool.Allocate(lease("a", time.Minute)))
			require.NoError(t, err)
			got, err := b.Get(t.Context(), pool.Held{Owner: "a"})
			require.NoError(t, err)
			require.Equal(t, b.clock.Now().Add(time.Minute), got.Expires)
		})
	}
}

// Nothing tells whether a commit whose answer was lost released what this handle took to be held, or another process
// had done so before.
func TestReleaseOfWhatIsGoneWithALostAnswer(t *testing.T) {
	a := pool.Held{Owner: "a"}
	for name, call := range map[string]func(p *pool.Pool) (pool.Allocation, error){
		"release": func(p *pool.Pool) (pool.Allocation, error) { return p.Release(t.Context(), a) },
		"decline": func(p *pool.Pool) (pool.Allocation, error) { return p.Decline(t.Context(), a, time.Minute) },
	} {
		b := stored(t, specOf("10.0.0.0/31"))
		held := allocate(t, b.Pool, claim("a"))
		release(t, b.another(t), "a")
		b.faults.ResetCounts()
		b.faults.Choose = faults.Script(faults.Fault{Effect: faults.LoseReply})
		got, err := call(b.Pool)
		require.NoError(t, err, name)
		require.Equal(t, held, got)
		requireHoldsNothing(t, b.Pool, "a")
	}
}
