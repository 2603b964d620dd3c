package pool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// pools are several: in memory, or in one store.
type pools struct {
	faults *faults.Injector
	memory *store.Memory
	byName map[string]*pool.Pool
}

// severalInMemoryAndStored runs a test on pools of these ranges, by name.
func severalInMemoryAndStored(t *testing.T, ranges map[string]string, test func(t *testing.T, ps *pools)) {
	t.Run("in memory", func(t *testing.T) {
		ps := &pools{byName: map[string]*pool.Pool{}}
		for name, text := range ranges {
			p, err := pool.New(specOf(text), nil)
			require.NoError(t, err)
			ps.byName[name] = p
		}
		test(t, ps)
		ps.requireOK(t)
	})
	t.Run("stored", func(t *testing.T) {
		ps := storedPools(t, ranges)
		test(t, ps)
		ps.requireOK(t)
		ps.reopened(t).requireOK(t)
	})
}

func storedPools(t testing.TB, ranges map[string]string) *pools {
	t.Helper()
	ps := &pools{faults: &faults.Injector{}, memory: store.NewMemory(), byName: map[string]*pool.Pool{}}
	s := ps.faults.Wrap(ps.memory)
	for name, text := range ranges {
		p, err := pool.Create(t.Context(), s, name, specOf(text), nil)
		require.NoError(t, err)
		ps.byName[name] = p
	}
	return ps
}

// reopened are the same pools as another process has them.
func (ps *pools) reopened(t testing.TB) *pools {
	t.Helper()
	if ps.memory == nil {
		return ps
	}
	again := &pools{memory: ps.memory, byName: map[string]*pool.Pool{}}
	s := ps.memory.Open()
	for name := range ps.byName {
		p, err := pool.Open(t.Context(), s, name, nil)
		require.NoError(t, err)
		again.byName[name] = p
	}
	return again
}

func (ps *pools) requireOK(t testing.TB) {
	t.Helper()
	for _, p := range ps.byName {
		requireOK(t, p)
	}
}

// part is one that asks for an address of the first of these pools that has room.
func (ps *pools) part(names ...string) (part []*pool.Pool) {
	for _, name := range names {
		part = append(part, ps.byName[name])
	}
	return part
}

// together allocates for an owner in each of several lists of pools, in the first one of the list that has room.
func together(ctx context.Context, owner string, parts ...[]*pool.Pool) ([]pool.Result, error) {
	var steps []pool.Step
	for _, part := range parts {
		steps = append(steps, pool.Allocate(pool.Claim{Owner: owner}).In(part...))
	}
	return parts[0][0].All(ctx, steps...)
}

// releaseTogether releases what an owner holds in several pools, if it holds anything there.
func releaseTogether(ctx context.Context, owner string, pools ...*pool.Pool) (released []pool.Allocation, err error) {
	var steps []pool.Step
	for _, p := range pools {
		steps = append(steps, pool.Release(pool.Held{Owner: owner, Optional: true}).In(p))
	}
	results, err := pools[0].All(ctx, steps...)
	for _, r := range results {
		released = append(released, r.Allocation)
	}
	return released, err
}

func (ps *pools) used(t testing.TB, name string) uint64 {
	t.Helper()
	info, err := ps.byName[name].Info(t.Context())
	require.NoError(t, err)
	stats := info.Stats
	return stats[0].Used.Uint64()
}

func grantedTexts(granted []pool.Result) (out []string) {
	for _, g := range granted {
		out = append(out, texts(g.Allocation))
	}
	return out
}

var twoFamilies = map[string]string{"v4": "10.0.0.0/30", "v6": "2001:db8::/126"}

func TestDualStackOverTwoPools(t *testing.T) {
	severalInMemoryAndStored(t, twoFamilies, func(t *testing.T, ps *pools) {
		granted, err := together(t.Context(), "a", ps.part("v6"), ps.part("v4"))
		require.NoError(t, err)
		require.Equal(t, []string{"2001:db8::", "10.0.0.0"}, grantedTexts(granted), "in the order of the parts")
		require.Equal(t, ps.byName["v6"], granted[0].Pool)
		other := ps.reopened(t)
		again, err := together(t.Context(), "a", other.part("v6"), other.part("v4"))
		require.NoError(t, err)
		require.Equal(t, grantedTexts(granted), grantedTexts(again))
		require.Equal(t, granted[1].Allocation.Generation, again[1].Allocation.Generation)

		released, err := releaseTogether(t.Context(), "a", other.byName["v4"], other.byName["v6"])
		require.NoError(t, err)
		require.Equal(t, "10.0.0.0", texts(released[0]))
		require.Equal(t, "2001:db8::", texts(released[1]))
		released, err = releaseTogether(t.Context(), "a", ps.byName["v4"], ps.byName["v6"])
		require.NoError(t, err)
		require.Equal(t, make([]pool.Allocation, 2), released, "again")
		require.Zero(t, ps.used(t, "v4")+ps.used(t, "v6"))

		allocate(t, ps.byName["v4"], pool.Claim{Owner: "half"})
		released, err = releaseTogether(t.Context(), "half", ps.byName["v6"], ps.byName["v4"])
		require.NoError(t, err)
		require.Empty(t, released[0].Owner, "nothing was held there")
		require.Equal(t, "half", released[1].Owner)
	})
}

// Whereabouts: a dual-stack add that fails half-way and leaks.
func TestDualStackAddThatFailsHalfWayLeaksNothing(t *testing.T) {
	severalInMemoryAndStored(t, map[string]string{"v4": "10.0.0.0/30", "v6": "2001:db8::/128"},
		func(t *testing.T, ps *pools) {
			allocate(t, ps.byName["v6"], pool.Claim{Owner: "in the way"})
			_, err := together(t.Context(), "a", ps.part("v4"), ps.part("v6"))
			require.ErrorIs(t, err, pool.ErrExhausted)
			require.Zero(t, ps.used(t, "v4"))
			requireHoldsNothing(t, ps.byName["v4"], "a")
		})
}

// Kubernetes: every failed dual-stack try loses an address of the first family.
func TestFailedDualStackTriesLoseNoAddressOfTheFirstFamily(t *testing.T) {
	severalInMemoryAndStored(t, map[string]string{"v4": "10.0.0.0/30", "v6": "2001:db8::/128"},
		func(t *testing.T, ps *pools) {
			allocate(t, ps.byName["v6"], pool.Claim{Owner: "in the way"})
			for i := range 20 { // more often than there are addresses
				for _, parts := range [][][]*pool.Pool{{ps.part("v4"), ps.part("v6")}, {ps.part("v6"), ps.part("v4")}} {
					_, err := together(t.Context(), fmt.Sprint(i), parts...)
					require.ErrorIs(t, err, pool.ErrExhausted)
				}
			}
			release(t, ps.byName["v6"], "in the way")
			granted, err := together(t.Context(), "a", ps.part("v4"), ps.part("v6"))
			require.NoError(t, err)
			require.Equal(t, []string{"10.0.0.0", "2001:db8::"}, grantedTexts(granted))
		})
	inMemoryAndStored(t, specOf("10.0.0.0/30", "2001:db8::/128"), func(t *testing.T, b *trial) { // and in one pool of both
		allocate(t, b.Pool, claim("in the way", "2001:db8::"))
		for i := range 20 {
			_, err := b.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i), Policy: pool.RequireDualStack})
			require.ErrorIs(t, err, pool.ErrExhausted)
		}
		require.True(t, b.stats(t).Used.IsZero())
	})
}

// Whereabouts: a delete that stops at the first range.
func TestReleaseTogetherGoesOnAfterAPoolInWhichNothingIsHeld(t *testing.T) {
	severalInMemoryAndStored(t, map[string]string{"1": "10.0.1.0/30", "2": "10.0.2.0/30", "3": "10.0.3.0/30"},
		func(t *testing.T, ps *pools) {
			allocate(t, ps.byName["3"], pool.Claim{Owner: "a"})
			released, err := releaseTogether(t.Context(), "a", ps.byName["1"], ps.byName["2"], ps.byName["3"])
			require.NoError(t, err)
			require.Equal(t, "10.0.3.0", texts(released[2]))
			require.Zero(t, ps.used(t, "3"))
		})
}

func TestFirstPoolOfAListThatHasRoom(t *testing.T) {
	severalInMemoryAndStored(t, map[string]string{"a": "10.0.1.0/32", "b": "10.0.2.0/32", "v6": "2001:db8::/120"},
		func(t *testing.T, ps *pools) {
			for i, want := range []string{"10.0.2.0", "10.0.1.0"} { // in the order of the list, which is not that of the names
				granted, err := together(t.Context(), fmt.Sprint(i), ps.part("b", "a"), ps.part("v6"))
				require.NoError(t, err)
				require.Equal(t, want, texts(granted[0].Allocation))
			}
			_, err := together(t.Context(), "late", ps.part("b", "a"), ps.part("v6"))
			require.ErrorIs(t, err, pool.ErrExhausted)
			require.Equal(t, uint64(2), ps.used(t, "v6"))
			release(t, ps.byName["b"], "0")
			again, err := together(t.Context(), "1", ps.part("b", "a"), ps.part("v6"))
			require.NoError(t, err)
			require.Equal(t, "10.0.1.0", texts(again[0].Allocation), "the one that holds something answers, whichever has room")
			require.Equal(t, ps.byName["a"], again[0].Pool)

			// An exact address is in whichever pool has it.
			exact := pool.Allocate(claim("exact", "10.0.2.0")).In(ps.part("a", "b")...)
			granted, err := ps.byName["v6"].All(t.Context(), exact)
			require.NoError(t, err)
			require.Equal(t, ps.byName["b"], granted[0].Pool)
		})
}

func TestJointCallsThatMakeNoSense(t *testing.T) {
	severalInMemoryAndStored(t, map[string]string{"a": "10.0.1.0/30", "b": "10.0.2.0/30"}, func(t *testing.T, ps *pools) {
		other, err := pool.New(specOf("10.0.3.0/30"), nil)
		require.NoError(t, err)
		strange, err := pool.Create(t.Context(), store.NewMemory(), "a", specOf("10.0.4.0/30"), nil)
		require.NoError(t, err)
		a, b := ps.byName["a"], ps.byName["b"]
		twice := ps.reopened(t).byName["a"]
		for name, steps := range map[string][]pool.Step{
			"the zero step":     {{}},
			"no owner":          {pool.Allocate(pool.Claim{})},
			"other stores":      {pool.Allocate(claim("x")), pool.Allocate(claim("x")).In(strange)},
			"a release of two":  {pool.Release(pool.Held{Owner: "x"}).In(a, b)},
			"a release of none": {pool.Release(pool.Held{})},
			"no time to live":   {pool.Renew(pool.Held{Owner: "x"}, 0)},
			"no quarantine":     {pool.Decline(pool.Held{Owner: "x"}, 0)},
		} {
			_, err := a.All(t.Context(), append([]pool.Step{pool.Allocate(claim("w"))}, steps...)...)
			require.ErrorIs(t, err, pool.ErrInvalid, name)
			for r, err := range a.Each(t.Context(), slices.Values(steps[len(steps)-1:])) {
				require.NoError(t, err)
				require.Equal(t, name != "other stores", r.Err != nil, name)
			}
			_, err = strange.Release(t.Context(), pool.Held{Owner: "x", Optional: true})
			require.NoError(t, err)
		}
		if ps.memory != nil {
			_, err := a.All(t.Context(), pool.Allocate(claim("x")), pool.Allocate(claim("x")).In(other))
			require.ErrorIs(t, err, pool.ErrInvalid, "one in memory and one in a store")
			_, err = a.All(t.Context(), pool.Allocate(claim("x")), pool.Allocate(claim("x")).In(twice))
			require.ErrorIs(t, err, pool.ErrInvalid, "two handles of one pool")
		}
		none, err := a.All(t.Context())
		require.NoError(t, err)
		require.Empty(t, none)
		require.Zero(t, ps.used(t, "a")+ps.used(t, "b"))
	})
}

// Many joint claims that name the pools in all orders come to an end, and each gets all or nothing.
func TestJointClaimsInOppositeOrderDoNotDeadlock(t *testing.T) {
	severalInMemoryAndStored(t, map[string]string{"1": "10.0.1.0/26", "2": "10.0.2.0/26", "3": "10.0.3.0/26"},
		func(t *testing.T, ps *pools) {
			orders := [][]string{{"1", "2", "3"}, {"3", "2", "1"}, {"2", "3", "1"}, {"1", "3"}, {"3", "1"}, {"2", "1"}}
			var calls sync.WaitGroup
			for worker, order := range orders {
				handles := ps.reopened(t)
				if worker%2 == 0 {
					handles = ps
				}
				calls.Go(func() {
					for i := range 40 {
						owner := fmt.Sprintf("%d %d", worker, i)
						var parts [][]*pool.Pool
						var all []*pool.Pool
						for _, name := range order {
							parts, all = append(parts, handles.part(name)), append(all, handles.byName[name])
						}
						_, err := together(t.Context(), owner, parts...)
						if err == nil && i%4 != 0 {
							_, err = releaseTogether(t.Context(), owner, all...)
						}
						if err != nil && !errors.Is(err, pool.ErrExhausted) {
							t.Error(err)
						}
					}
				})
			}
			done := make(chan struct{})
			go func() { calls.Wait(); close(done) }()
			select {
			case <-done:
			case <-time.After(time.Minute):
				require.FailNow(t, "deadlock")
			}
			require.Equal(t, uint64(60), ps.used(t, "1"))
			require.Equal(t, uint64(40), ps.used(t, "2"))
		})
}

func TestJointClaimIsOneCommit(t *testing.T) {
	ps := storedPools(t, twoFamilies)
	ps.faults.ResetCounts()
	_, err := together(t.Context(), "a", ps.part("v4"), ps.part("v6"))
	require.NoError(t, err)
	require.Equal(t, 1, ps.faults.Counts().Commit)
	require.Equal(t, 1, ps.faults.Counts().RoundTrips())
}

// The process dies at each call that it makes to the store in turn, before or after the call
// takes effect, with every kind of store.
func TestCrashInAJointClaim(t *testing.T) {
	for _, crash := range []faults.Effect{faults.LoseRequest, faults.LoseReply} {
		t.Run(fmt.Sprint("effect ", crash), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for n := 1; ; n++ {
					if !crashInAJointClaim(t, crash, n) {
						require.Greater(t, n, 1)
						return
					}
				}
			})
		})
	}
}

// crashInAJointClaim has the store gone from the nth call on. It is false if the claim made less calls.
func crashInAJointClaim(t *testing.T, crash faults.Effect, n int) bool {
	memory := store.NewMemory()
	setup, injector := &faults.Injector{}, &faults.Injector{}
	s, dying := setup.Wrap(memory), injector.Wrap(memory)
	for name, text := range twoFamilies {
		_, err := pool.Create(t.Context(), s, name, specOf(text), nil)
		require.NoError(t, err)
	}
	handles := func(s store.Store) (parts [][]*pool.Pool) {
		for _, name := range []string{"v4", "v6"} {
			p, err := pool.Open(t.Context(), s, name, nil)
			require.NoError(t, err)
			parts = append(parts, []*pool.Pool{p})
		}
		return parts
	}
	parts := handles(dying)
	calls, crashed := 0, false
	injector.Choose = func(call faults.Call) faults.Fault {
		calls++
		switch {
		case calls < n:
			return faults.Fault{}
		case calls == n:
			crashed = true
			return faults.Fault{Effect: crash}
		default: // there is no process any more
			return faults.Fault{Effect: faults.Refuse}
		}
	}
	_, err := together(t.Context(), "a", parts...)
	if !crashed {
		require.NoError(t, err)
		return false
	}

	// The owner comes back in another process, or does not: then nothing of it stays after a reconciliation.
	again := handles(s)
	held := func() (n int) {
		for _, part := range again {
			if _, err := part[0].Get(t.Context(), pool.Held{Owner: "a"}); err == nil {
				n++
			}
		}
		return n
	}
	granted, err := together(t.Context(), "a", again...)
	require.NoError(t, err, "call %d", n)
	require.Equal(t, []string{"10.0.0.0", "2001:db8::"}, grantedTexts(granted))
	require.Equal(t, 2, held())
	for _, part := range again {
		requireOK(t, part[0])
		done, err := part[0].Reconcile(t.Context(), markOf(t, part[0]), live(), nil)
		require.NoError(t, err)
		require.Len(t, done.Released, 1)
		requireOK(t, part[0])
	}
	require.Zero(t, held())
	return true
}

// After a crash without a come-back, all is held or nothing is, and a reconciliation releases it.
func TestReconcileCleansWhatACrashedJointClaimLeft(t *testing.T) {
	for _, crash := range []faults.Effect{faults.LoseRequest, faults.LoseReply} {
		ps := storedPools(t, twoFamilies)
		calls := 0
		ps.faults.Choose = func(faults.Call) faults.Fault {
			if calls++; calls == 1 {
				return faults.Fault{Effect: crash}
			}
			return faults.Fault{Effect: faults.Refuse}
		}
		_, err := together(t.Context(), "a", ps.part("v4"), ps.part("v6"))
		require.ErrorIs(t, err, store.ErrUnknown)
		after := ps.reopened(t)
		require.Equal(t, after.used(t, "v4"), after.used(t, "v6"), "all or nothing")
		for _, p := range after.byName {
			_, err := p.Reconcile(t.Context(), markOf(t, p), live(), nil)
			require.NoError(t, err)
			requireOK(t, p)
		}
		require.Zero(t, after.used(t, "v4")+after.used(t, "v6"))
	}
}

func TestConflictInAJointClaim(t *testing.T) {
	ps := storedPools(t, twoFamilies)
	other := ps.reopened(t)
	for i, name := range []string{"v4", "v6"} { // in the one pool or the other
		p := ps.byName[name]
		_, err := p.Info(t.Context())
		require.NoError(t, err)
		allocate(t, other.byName[name], pool.Claim{Owner: fmt.Sprint("other ", i)})
		granted, err := together(t.Context(), fmt.Sprint(i), ps.part("v4"), ps.part("v6"))
		require.NoError(t, err)
		require.Len(t, granted, 2)
	}
	require.Equal(t, uint64(3), ps.used(t, "v4"))
	ps.requireOK(t)
}

// A store of a type that cannot be compared is no reason to panic.
func TestJointCallOnAStoreThatCannotBeCompared(t *testing.T) {
	type odd struct {
		store.Store
		notes []string
	}
	s := odd{store.NewMemory(), nil}
	a, b := createNamed(t, s, "a", specOf("10.0.0.0/24")), createNamed(t, s, "b", specOf("10.0.1.0/24"))
	_, err := together(t.Context(), "x", []*pool.Pool{a}, []*pool.Pool{b})
	require.ErrorIs(t, err, pool.ErrInvalid)
	_, err = together(t.Context(), "x", []*pool.Pool{a})
	require.NoError(t, err)
}
