package pool_test

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// waitIn starts an AllocateWait, and returns where its end is told, once it waits.
func waitIn(ctx context.Context, p *pool.Pool, c pool.Claim) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := p.AllocateWait(ctx, c)
		ended <- err
	}()
	synctest.Wait()
	return ended
}

func requireWaits(t testing.TB, ended <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-ended:
		require.Fail(t, "it does not wait", "%v", err)
	default:
	}
}

// watched are pools for which waiting works in different ways, with another handle of the same pool for who changes it.
func watched(t *testing.T, spec pool.Spec, test func(t *testing.T, p, other *pool.Pool)) {
	for name, make := range map[string]func(t *testing.T) (p, other *pool.Pool){
		"in memory": func(t *testing.T) (p, other *pool.Pool) {
			p, err := pool.New(spec, nil)
			require.NoError(t, err)
			return p, p
		},
		"in a store": func(t *testing.T) (p, other *pool.Pool) {
			memory := store.NewMemory()
			return create(t, memory, spec), open(t, memory.Open())
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, other := make(t)
				test(t, p, other)
			})
		})
	}
}

func TestClaimThatWaitsWakesByARelease(t *testing.T) {
	watched(t, specOf("10.0.0.0/31"), func(t *testing.T, p, other *pool.Pool) {
		allocate(t, p, pool.Claim{Owner: "a"})
		allocate(t, p, pool.Claim{Owner: "b"})
		some, exact := waitIn(t.Context(), p, pool.Claim{Owner: "any"}), waitIn(t.Context(), p, claim("exact", "10.0.0.0"))
		requireWaits(t, some)
		requireWaits(t, exact)
		release(t, other, "b")
		require.NoError(t, <-some)
		requireWaits(t, exact)
		release(t, other, "a")
		require.NoError(t, <-exact)
		requireOK(t, p)
	})
}

func TestClaimThatWaitsWakesWhenTheRangeGrows(t *testing.T) {
	watched(t, specOf("10.0.0.0/32"), func(t *testing.T, p, other *pool.Pool) {
		allocate(t, p, pool.Claim{Owner: "a"})
		ended := waitIn(t.Context(), p, pool.Claim{Owner: "b"})
		requireWaits(t, ended)
		require.NoError(t, other.Update(t.Context(), specOf("10.0.0.0/31")))
		require.NoError(t, <-ended)
	})
}

func TestClaimThatWaitsWakesWhenALeaseOrACooldownEnds(t *testing.T) {
	spec := specOf("10.0.0.0/31")
	spec.Cooldown = time.Minute
	watched(t, spec, func(t *testing.T, p, other *pool.Pool) {
		begin := time.Now()
		allocate(t, p, lease("a", time.Hour))
		allocate(t, p, pool.Claim{Owner: "b"})
		release(t, other, "b")
		_, err := p.AllocateWait(t.Context(), pool.Claim{Owner: "after the cooldown"})
		require.NoError(t, err)
		require.InDelta(t, time.Minute, time.Since(begin), float64(2*time.Second))
		_, err = p.AllocateWait(t.Context(), claim("after the lease", "10.0.0.0"))
		require.NoError(t, err)
		require.InDelta(t, time.Hour, time.Since(begin), float64(2*time.Second), "also for an exact address")
	})
}

func TestContextEndsTheWait(t *testing.T) {
	watched(t, specOf("10.0.0.0/32"), func(t *testing.T, p, _ *pool.Pool) {
		allocate(t, p, pool.Claim{Owner: "a"})
		for refusal, c := range map[error]pool.Claim{pool.ErrExhausted: {Owner: "b"}, pool.ErrTaken: claim("b", "10.0.0.0")} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			_, err := p.AllocateWait(ctx, c)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorIs(t, err, refusal, "and what it waited for")
		}
		requireHoldsNothing(t, p, "b")
	})
}

func TestWaitEndsForWhatNoReleaseCanMend(t *testing.T) {
	watched(t, specOf("10.0.0.0/32"), func(t *testing.T, p, _ *pool.Pool) {
		_, err := p.AllocateWait(t.Context(), claim("a", "10.9.9.9"))
		require.ErrorIs(t, err, pool.ErrNotInPool)
		_, err = p.AllocateWait(t.Context(), pool.Claim{})
		require.ErrorIs(t, err, pool.ErrInvalid)
	})
}

func TestWaitEndsWhenThePoolIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		p := create(t, s, specOf("10.0.0.0/32"))
		allocate(t, p, pool.Claim{Owner: "a"})
		ended := waitIn(t.Context(), p, pool.Claim{Owner: "b", Requests: []pool.Request{{}, {}}})
		requireWaits(t, ended)
		release(t, p, "a")
		require.NoError(t, pool.Delete(t.Context(), s, "blue", nil))
		require.ErrorIs(t, <-ended, pool.ErrNoPool)
	})
}

func TestWaitCostsNextToNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, injector := store.NewMemory(), &faults.Injector{}
		create(t, memory, specOf("10.0.0.0/32"))
		p := open(t, injector.Wrap(memory))
		allocate(t, p, pool.Claim{Owner: "a"})
		ended := waitIn(t.Context(), p, pool.Claim{Owner: "b"})
		injector.ResetCounts()
		time.Sleep(time.Hour)
		requireWaits(t, ended)
		require.Zero(t, injector.Counts().RoundTrips())
		release(t, p, "a")
		require.NoError(t, <-ended)
	})
}

// changes pulls what Watch yields.
func changes(ctx context.Context, p *pool.Pool, since int64) (next func() (pool.Change, error, bool), stop func()) {
	return iter.Pull2(p.Watch(ctx, since))
}

func TestWatch(t *testing.T) {
	watched(t, specOf("10.0.0.0/29", "2001:db8::/126"), func(t *testing.T, p, other *pool.Pool) {
		next, stop := changes(t.Context(), p, 0)
		defer stop()
		first, err, _ := next()
		require.NoError(t, err)
		require.Equal(t, ranges("10.0.0.0/29", "2001:db8::/126"), first.Freed, "the whole of it, for who does not know it")
		require.Empty(t, first.Taken)

		allocate(t, other, pool.Claim{Owner: "a", Policy: pool.RequireDualStack})
		second, err, _ := next()
		require.NoError(t, err)
		require.Equal(t, ranges("10.0.0.0", "2001:db8::"), second.Taken)
		require.Empty(t, second.Freed)
		require.Greater(t, second.Revision, first.Revision)
		require.Equal(t, uint64(7), countsOf(second.Stats, pool.IPv4).Free.Uint64())

		// Changes that come close together come up as one.
		release(t, other, "a")
		allocate(t, other, claim("b", "10.0.0.0"))
		allocate(t, other, claim("c", "10.0.0.4/30"))
		require.NoError(t, other.Update(t.Context(), specOf("10.0.0.0/28", "2001:db8::/126")))
		third, err, _ := next()
		require.NoError(t, err)
		require.Equal(t, ranges("10.0.0.8/29", "2001:db8::"), third.Freed)
		require.Equal(t, ranges("10.0.0.4/30"), third.Taken)

		info, err := p.Info(t.Context())
		require.NoError(t, err)
		again, stopAgain := changes(t.Context(), p, info.Revision)
		defer stopAgain()
		release(t, other, "b")
		change, err, _ := again()
		require.NoError(t, err)
		require.Empty(t, change.Taken)
		require.Contains(t, change.Freed, ranges("10.0.0.0-10.0.0.3")[0], "it has gone on from since: all that is free")
	})
}

func TestWatchFromTheRevisionThatIsKnown(t *testing.T) {
	watched(t, specOf("10.0.0.0/30"), func(t *testing.T, p, other *pool.Pool) {
		allocate(t, p, pool.Claim{Owner: "a"})
		info, err := p.Info(t.Context())
		require.NoError(t, err)
		got := make(chan pool.Change, 10)
		go func() {
			for change, err := range p.Watch(t.Context(), info.Revision) {
				if err != nil {
					close(got)
					return
				}
				got <- change
			}
		}()
		synctest.Wait()
		require.Empty(t, got, "nothing has changed")
		release(t, other, "a")
		require.Equal(t, ranges("10.0.0.0"), (<-got).Freed)
	})
}

func TestWatchEnds(t *testing.T) {
	watched(t, specOf("10.0.0.0/30"), func(t *testing.T, p, _ *pool.Pool) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var last error
		n := 0
		for _, err := range p.Watch(ctx, 0) {
			n++
			last = err
		}
		require.ErrorIs(t, last, context.DeadlineExceeded)
		require.Equal(t, 2, n)
	})
	memory := store.NewMemory()
	p := create(t, memory, specOf("10.0.0.0/30"))
	n := 0
	for _, err := range p.Watch(t.Context(), 0) {
		if n++; n == 1 {
			require.NoError(t, err)
			require.NoError(t, pool.Delete(t.Context(), memory, "blue", nil))
			continue
		}
		require.ErrorIs(t, err, pool.ErrNoPool)
	}
	require.Equal(t, 2, n)
}

// Whoever applies each change to a set has the free set, and no change frees what was free or takes what was taken.
func TestChangesMakeTheFreeSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var p *pool.Pool
		var err error
		memory := store.NewMemory()
		spec := specOf("10.0.0.0/28")
		if rapid.Bool().Draw(t, "stored") {
			p, err = pool.Create(ctx, memory, "blue", spec, nil)
		} else {
			p, err = pool.New(spec, nil)
		}
		require.NoError(t, err)
		next, stop := changes(ctx, p, 0)
		defer stop()
		known := &netipx.IPSet{}
		follow := func() {
			change, err, _ := next()
			require.NoError(t, err)
			freed, taken := cidr.SetOf(change.Freed...), cidr.SetOf(change.Taken...)
			require.False(t, cidr.Overlaps(known, freed), "what was freed was not free")
			require.Empty(t, cidr.Difference(taken, known).Ranges(), "what was taken was free")
			known = cidr.Union(cidr.Difference(known, taken), freed)
			free, err := p.FreeSet(ctx, pool.IPv4)
			require.NoError(t, err)
			require.Equal(t, free.Ranges(), known.Ranges())
			require.Equal(t, cidr.Size(known), countsOf(change.Stats, pool.IPv4).Free)
		}
		follow()
		for range rapid.IntRange(1, 10).Draw(t, "looks") {
			before, err := p.Info(ctx)
			require.NoError(t, err)
			for range rapid.IntRange(1, 4).Draw(t, "calls") {
				owner := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "owner")
				switch rapid.IntRange(0, 3).Draw(t, "call") {
				case 0:
					_, _ = p.Allocate(ctx,
						pool.Claim{Owner: owner, Requests: []pool.Request{{Bits: rapid.IntRange(29, 32).Draw(t, "bits")}}})
				case 1:
					_, _ = p.Release(ctx, pool.Held{Owner: owner})
				case 2:
					last := rapid.IntRange(0, 31).Draw(t, "last")
					_ = p.Drain(ctx, specOf(fmt.Sprintf("10.0.0.0-10.0.0.%d", last)))
				default:
					_, _ = allocateMany(ctx, p, []pool.Claim{{Owner: owner}, {Owner: "e"}})
				}
			}
			after, err := p.Info(ctx)
			require.NoError(t, err)
			if after.Revision != before.Revision {
				follow()
			}
		}
	})
}

func TestWatchTellsOfABrokenStore(t *testing.T) {
	b := stored(t, specOf("10.0.0.0/30"))
	b.faults.Choose = func(call faults.Call) faults.Fault {
		if call.Method == faults.Watch {
			return faults.Fault{Effect: faults.Refuse}
		}
		return faults.Fault{}
	}
	var last error
	for _, err := range b.Watch(t.Context(), 0) {
		last = err
	}
	require.ErrorIs(t, last, faults.ErrInjected)
	require.ErrorAs(t, last, new(*pool.Error))
}

// TestWaitForAnExactPrefixThatIsTaken expects an error that names the prefix once.
func TestWaitForAnExactPrefixThatIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := pool.New(specOf("10.0.0.0/24"), nil)
		require.NoError(t, err)
		allocate(t, p, claim("a", "10.0.0.9"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = p.AllocateWait(ctx, claim("b", "10.0.0.9"))
		require.ErrorIs(t, err, pool.ErrTaken)
		require.EqualError(t, err, `allocate for "b": context deadline exceeded`+"\n"+
			`allocate for "b": 10.0.0.9/32: taken`)
	})
}
