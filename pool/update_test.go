package pool_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// with returns the spec with a change.
func with(spec pool.Spec, change func(*pool.Spec)) pool.Spec {
	change(&spec)
	return spec
}

func gateway(prefixText, gatewayText string) func(*pool.Spec) {
	return func(s *pool.Spec) {
		s.Subnets = []pool.Subnet{{Prefix: prefix(prefixText), Gateway: addr(gatewayText)}}
	}
}

// stranded are the owners that an update was refused for.
func stranded(t testing.TB, err error) []string {
	t.Helper()
	require.ErrorIs(t, err, pool.ErrOutOfRange)
	var refusal *pool.Error
	require.ErrorAs(t, err, &refusal)
	owners := []string{}
	for _, a := range refusal.Allocations {
		owners = append(owners, a.Owner)
	}
	slices.Sort(owners)
	return owners
}

// Each kind of change, on a pool in which a has 10.0.0.0 and 2001:db8::, b 10.0.0.1 and c 10.0.0.7.
func TestUpdate(t *testing.T) {
	spec := specOf("10.0.0.0/29", "2001:db8::/126")
	for name, c := range map[string]struct {
		to       pool.Spec
		stranded []string // if it is refused
		next     string   // what the next claim gets if it is not
	}{
		"grow":                         {specOf("10.0.0.0/28", "2001:db8::/126"), nil, "10.0.0.2"},
		"grow at the bottom":           {specOf("9.255.255.254-10.0.0.7", "2001:db8::/126"), nil, "9.255.255.254"},
		"the same":                     {spec, nil, "10.0.0.2"},
		"shrink to what is held":       {specOf("10.0.0.0/31", "10.0.0.7", "2001:db8::/126"), nil, ""},
		"shrink below what is held":    {specOf("10.0.0.0/30", "2001:db8::/126"), []string{"c"}, ""},
		"move":                         {specOf("192.0.2.0/24", "2001:db8::/126"), []string{"a", "b", "c"}, ""},
		"remove a family that is held": {specOf("10.0.0.0/29"), []string{"a"}, ""},
		"remove the primary family":    {specOf("2001:db8::/126"), []string{"a", "b", "c"}, ""},
		"exclude what is free": {
			with(spec, func(s *pool.Spec) { s.Exclude = ranges("10.0.0.2-10.0.0.3") }), nil, "10.0.0.4",
		},
		"exclude what is held": {
			with(spec, func(s *pool.Spec) { s.Exclude = ranges("10.0.0.1-10.0.0.2") }), []string{"b"}, "",
		},
		"a gateway that is free": {with(specOf("10.0.0.0/29"), gateway("10.0.0.0/29", "10.0.0.2")), []string{"a"}, ""},
		"a gateway that is held": {
			with(spec, func(s *pool.Spec) { s.Exclude = ranges("10.0.0.7") }), []string{"c"}, "",
		},
		"reserve the first and last": {
			with(spec, func(s *pool.Spec) { s.IPv4.AllocateReserved = false }), []string{"a", "c"}, "",
		},
		"a strategy": {with(spec, func(s *pool.Spec) { s.Strategy = pool.NextFree }), nil, "10.0.0.2"},
		"a cooldown": {with(spec, func(s *pool.Spec) { s.Cooldown = time.Minute }), nil, "10.0.0.2"},
		"a band": {
			with(spec, func(s *pool.Spec) { s.Bands = []pool.Band{{Name: "low", Ranges: ranges("10.0.0.0/30")}} }),
			nil, "10.0.0.4",
		},
		"another order of the families": {specOf("2001:db8::/126", "10.0.0.0/29"), nil, "2001:db8::1"},
		"a prefix length":               {with(spec, func(s *pool.Spec) { s.IPv4.Bits = 31 }), nil, "10.0.0.2/31"},
		"nothing is left": {
			with(specOf("10.0.0.0/29"), func(s *pool.Spec) { s.Exclude = ranges("10.0.0.0/29") }), nil, "invalid",
		},
		"no ranges": {pool.Spec{}, nil, "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			inMemoryAndStored(t, spec, func(t *testing.T, b *trial) {
				held := []pool.Allocation{
					allocate(t, b.Pool, pool.Claim{Owner: "a", Policy: pool.RequireDualStack}),
					allocate(t, b.Pool, pool.Claim{Owner: "b"}),
					allocate(t, b.Pool, claim("c", "10.0.0.7")),
				}
				before, err := b.Info(t.Context())
				require.NoError(t, err)
				b.faults.ResetCounts()
				err = b.Update(t.Context(), c.to)
				for _, want := range held { // whatever happened
					got, err := b.another(t).Get(t.Context(), pool.Held{Owner: want.Owner})
					require.NoError(t, err)
					require.Equal(t, want, got)
				}
				after, infoErr := b.another(t).Info(t.Context())
				require.NoError(t, infoErr)
				if c.stranded != nil || c.next == "invalid" {
					if c.stranded != nil {
						require.Equal(t, c.stranded, stranded(t, err))
					} else {
						require.ErrorIs(t, err, pool.ErrInvalid)
					}
					require.Equal(t, before, after, "nothing has changed")
					return
				}
				require.NoError(t, err)
				require.True(t, after.Spec.Equal(c.to))
				if b.memory != nil {
					require.Equal(t, 1, b.faults.Counts().Commit)
					require.Zero(t, b.faults.Counts().List, "no allocation is looked at")
				}
				a, err := b.another(t).Allocate(t.Context(), pool.Claim{Owner: "new"})
				if c.next == "" {
					require.ErrorIs(t, err, pool.ErrExhausted)
					return
				}
				require.NoError(t, err)
				require.Equal(t, c.next, texts(a))
			})
		})
	}
}

func TestUpdateThatAddsAFamily(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/30"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, pool.Claim{Owner: "a"})
		dual := pool.Claim{Owner: "b", Policy: pool.RequireDualStack}
		_, err := b.Allocate(t.Context(), dual)
		require.ErrorIs(t, err, pool.ErrFamily)
		require.NoError(t, b.Update(t.Context(), specOf("10.0.0.0/30", "2001:db8::/126")))
		require.Equal(t, "10.0.0.1 2001:db8::", texts(allocate(t, b.Pool, dual)))
		again := allocate(t, b.another(t), pool.Claim{Owner: "a", Policy: pool.PreferDualStack})
		require.Equal(t, "10.0.0.0", texts(again), "what is held answers")
	})
}

func TestDrain(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/29"), func(t *testing.T, b *trial) {
		for i := range 8 {
			allocate(t, b.Pool, pool.Claim{Owner: fmt.Sprint(i)})
		}
		err := b.Update(t.Context(), specOf("10.0.0.0/30"))
		require.Equal(t, []string{"4", "5", "6", "7"}, stranded(t, err))
		require.ErrorContains(t, err, "4: ")
		require.ErrorContains(t, err, ", …")
		require.NoError(t, b.Drain(t.Context(), specOf("10.0.0.0/30")))
		stats := b.stats(t)
		require.Equal(t, [4]uint64{4, 4, 0, 4},
			[4]uint64{stats.Total.Uint64(), stats.Used.Uint64(), stats.Free.Uint64(), stats.OutOfRange.Uint64()})
		again := allocate(t, b.another(t), pool.Claim{Owner: "6"})
		require.Equal(t, "10.0.0.6", texts(again), "it is kept until it is released")
		report, err := b.Verify(t.Context())
		require.NoError(t, err)
		require.True(t, report.OK())
		require.Len(t, report.OutOfRange, 4)

		release(t, b.another(t), "6")
		require.Equal(t, uint64(3), b.stats(t).OutOfRange.Uint64())
		_, err = b.Allocate(t.Context(), pool.Claim{Owner: "6"})
		require.ErrorIs(t, err, pool.ErrExhausted, "never handed out again")
		_, err = b.Allocate(t.Context(), claim("6", "10.0.0.6"))
		require.ErrorIs(t, err, pool.ErrNotInPool)

		require.NoError(t, b.Update(t.Context(), specOf("10.0.0.0/30")),
			"what is out of range already is no reason to refuse")
		require.NoError(t, b.Update(t.Context(), specOf("10.0.0.0/29")))
		require.True(t, b.stats(t).OutOfRange.IsZero())
		for _, held := range []string{"10.0.0.4", "10.0.0.5", "10.0.0.7"} {
			_, err = b.Allocate(t.Context(), claim("new", held))
			require.ErrorIs(t, err, pool.ErrTaken, "it is held, now that the range is back")
		}
		require.Equal(t, "10.0.0.6", texts(allocate(t, b.another(t), pool.Claim{Owner: "new"})))
		require.Equal(t, "10.0.0.7", texts(release(t, b.Pool, "7")))
		require.Equal(t, "10.0.0.7", texts(allocate(t, b.Pool, pool.Claim{Owner: "newer"})))
	})
}

func TestDrainOfAFamilyThatIsHeld(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/30", "2001:db8::/126"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, pool.Claim{Owner: "dual", Policy: pool.RequireDualStack})
		allocate(t, b.Pool, claim("six", "2001:db8::3"))
		named := pool.Claim{Owner: "named", Requests: []pool.Request{{Family: pool.IPv6}}}
		held := allocate(t, b.Pool, named)
		require.NoError(t, b.Drain(t.Context(), specOf("10.0.0.0/30")))
		require.Equal(t, held, allocate(t, b.another(t), named), "what is held is held by the same claim")
		release(t, b.Pool, "named")
		info, err := b.Info(t.Context())
		require.NoError(t, err)
		stats := info.Stats
		require.Len(t, stats, 2, "what is left of it is still counted")
		require.Equal(t, uint64(2), countsOf(stats, pool.IPv6).OutOfRange.Uint64())
		require.True(t, countsOf(stats, pool.IPv6).Total.IsZero())
		requireOK(t, b.Pool)
		require.Equal(t, "10.0.0.0 2001:db8::", texts(release(t, b.another(t), "dual")))
		require.Equal(t, "2001:db8::3", texts(release(t, b.another(t), "six")))
		info, err = b.Info(t.Context())
		require.NoError(t, err)
		stats = info.Stats
		require.Len(t, stats, 1)
	})
}

// What is partly out of range already strands with the rest.
func TestUpdateIsRefusedForTheRestOfWhatWasDrained(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/28", "2001:db8::/126"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, pool.Claim{Owner: "dual", Policy: pool.RequireDualStack})
		allocate(t, b.Pool, claim("wide", "10.0.0.8/30"))
		require.NoError(t, b.Drain(t.Context(), specOf("10.0.0.4-10.0.0.9", "2001:db8::/126")))
		require.NoError(t, b.Update(t.Context(), specOf("10.0.0.4-10.0.0.9", "2001:db8::/127")))
		require.Equal(t, []string{"dual"}, stranded(t, b.Update(t.Context(), specOf("10.0.0.4-10.0.0.9", "2001:db8::2"))))
		require.Equal(t, []string{"wide"}, stranded(t, b.Update(t.Context(), specOf("10.0.0.4-10.0.0.8", "2001:db8::/127"))))
		require.Equal(t, []string{"dual", "wide"}, stranded(t, b.Update(t.Context(), specOf("10.0.0.12"))))
	})
}

func TestLeaseThatHasEndedIsNotStranded(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/30"), func(t *testing.T, b *trial) {
		allocate(t, b.Pool, lease("a", time.Minute))
		require.Equal(t, []string{"a"}, stranded(t, b.Update(t.Context(), specOf("10.0.0.2/31"))))
		b.clock.Add(time.Minute)
		require.NoError(t, b.Update(t.Context(), specOf("10.0.0.2/31")))
		require.Equal(t, uint64(1), b.stats(t).OutOfRange.Uint64())
		expired, err := b.Expire(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, expired)
		require.True(t, b.stats(t).OutOfRange.IsZero())
	})
}

// An update meets claims through other handles: either a claim comes first and the update is refused, or
// the claim gets nothing out of range.
func TestUpdateWhileOthersAllocate(t *testing.T) {
	memory := store.NewMemory()
	p := create(t, memory, specOf("10.0.0.0/25"))
	var workers sync.WaitGroup
	for w := range 4 {
		handle := open(t, memory.Open())
		workers.Go(func() {
			for i := range 60 {
				owner := fmt.Sprintf("%d %d", w, i)
				_, err := handle.Allocate(t.Context(), pool.Claim{Owner: owner})
				if err != nil && !errors.Is(err, pool.ErrExhausted) {
					t.Error(err)
				}
				if i%2 == 1 {
					if _, err := handle.Release(t.Context(), pool.Held{Owner: owner, Optional: true}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	applied := 0
	for i := range 40 {
		spec := specOf("10.0.0.0/25")
		if i%2 == 0 {
			spec = specOf(fmt.Sprintf("10.0.0.0-10.0.0.%d", 4+2*i))
		}
		err := p.Update(t.Context(), spec)
		if err == nil {
			applied++
		} else if !errors.Is(err, pool.ErrOutOfRange) {
			require.NoError(t, err)
		}
	}
	workers.Wait()
	require.Positive(t, applied)
	info, err := p.Info(t.Context())
	require.NoError(t, err)
	stats := info.Stats
	require.True(t, countsOf(stats, pool.IPv4).OutOfRange.IsZero(), "Update strands nothing")
	requireOK(t, p)
}

func TestConflictAmidAnUpdate(t *testing.T) {
	memory := store.NewMemory()
	hooks := &hooked{Store: memory}
	create(t, memory, specOf("10.0.0.0/29"))
	p := open(t, hooks)
	other := open(t, memory.Open())
	hooks.beforeCommit = func(store.Record, []store.Write) error {
		hooks.beforeCommit = nil
		allocate(t, other, claim("late", "10.0.0.7"))
		return nil
	}
	require.Equal(t, []string{"late"}, stranded(t, p.Update(t.Context(), specOf("10.0.0.0/30"))),
		"what came in between counts")
	release(t, other, "late")
	require.NoError(t, p.Update(t.Context(), specOf("10.0.0.0/30")))
	_, err := other.Allocate(t.Context(), claim("late", "10.0.0.7"))
	require.ErrorIs(t, err, pool.ErrNotInPool, "another handle goes by the new spec at once")
}

func TestFaultsAmidAnUpdate(t *testing.T) {
	for _, effect := range []faults.Effect{faults.Refuse, faults.LoseRequest, faults.LoseReply, faults.LandLate} {
		t.Run(fmt.Sprint(effect), func(t *testing.T) {
			b := stored(t, specOf("10.0.0.0/29"))
			allocate(t, b.Pool, claim("a", "10.0.0.7"))
			b.faults.ResetCounts()
			b.faults.Choose = faults.Script(faults.Fault{Effect: effect, Late: 2})
			err := b.Drain(t.Context(), specOf("10.0.0.0/30"))
			if effect == faults.Refuse {
				require.ErrorIs(t, err, faults.ErrInjected)
				require.NotErrorIs(t, err, store.ErrUnknown)
			} else {
				require.NoError(t, err, "an unknown outcome is found out")
			}
			// Whatever came of it, the handle and the pool are of one mind, and asking again brings it about.
			requireOK(t, b.Pool)
			require.Equal(t, "10.0.0.0", texts(allocate(t, b.Pool, pool.Claim{Owner: "b"})))
			require.NoError(t, b.Drain(t.Context(), specOf("10.0.0.0/30")))
			require.Equal(t, uint64(1), b.stats(t).OutOfRange.Uint64())
			requireOK(t, b.another(t))
		})
	}
}

// A fragmented pool whose free space stands in records of its own leaves none of these behind.
func TestUpdateOfAFragmentedPool(t *testing.T) {
	b := stored(t, specOf("10.0.0.0/17"))
	var claims []pool.Claim
	for i := range 1 << 14 {
		claims = append(claims, claim(fmt.Sprint(i), fmt.Sprintf("10.0.%d.%d", i>>7, i<<1&0xff)))
	}
	_, err := allocateAll(t.Context(), b, claims)
	require.NoError(t, err)
	require.NoError(t, b.Update(t.Context(), specOf("10.0.0.0/16")))
	requireOK(t, b.another(t))
	named := 0
	for _, err := range b.memory.List(t.Context(), store.KindSpace, "blue") {
		require.NoError(t, err)
		named++
	}
	require.Positive(t, named)
	require.NoError(t, b.Drain(t.Context(), specOf("10.8.0.0/24")))
	for range b.memory.List(t.Context(), store.KindSpace, "blue") {
		require.Fail(t, "a piece of the old free space is left")
	}
	require.Equal(t, uint64(1<<14), b.stats(t).OutOfRange.Uint64())
	_, err = releaseMany(t.Context(), b, []string{"1", "2"})
	require.NoError(t, err)
	require.Equal(t, uint64(1<<14-2), b.stats(t).OutOfRange.Uint64())
}

func TestNextFreeKeepsItsPlaceOverAnUpdate(t *testing.T) {
	spec := with(specOf("10.0.0.0/29"), func(s *pool.Spec) { s.Strategy = pool.NextFree })
	inMemoryAndStored(t, spec, func(t *testing.T, b *trial) {
		for _, owner := range []string{"a", "b"} {
			allocate(t, b.Pool, pool.Claim{Owner: owner})
			release(t, b.Pool, owner)
		}
		spec.Ranges = ranges("10.0.0.0/28")
		require.NoError(t, b.Update(t.Context(), spec))
		require.Equal(t, "10.0.0.2", texts(allocate(t, b.another(t), pool.Claim{Owner: "c"})))
	})
}

// TestUpdateFunc has many handles each add a range to one pool at the same time. None undoes what another one added.
func TestUpdateFunc(t *testing.T) {
	db := store.NewMemory()
	p, err := pool.Create(t.Context(), db, "blue", specOf("10.0.0.0-10.0.0.1"), nil)
	require.NoError(t, err)
	claims := make([]string, 16)
	var wait sync.WaitGroup
	for i := range claims {
		claims[i] = fmt.Sprintf("10.0.%d.0-10.0.%d.1", i+1, i+1)
		wait.Go(func() {
			handle, err := pool.Open(t.Context(), db, "blue", nil)
			if err == nil {
				err = handle.UpdateFunc(t.Context(), func(s pool.Spec) (pool.Spec, error) {
					s.Ranges = append(s.Ranges, specOf(claims[i]).Ranges...)
					return s, nil
				})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	info, err := p.Info(t.Context())
	require.NoError(t, err)
	require.True(t, info.Spec.Equal(specOf(append(claims, "10.0.0.0-10.0.0.1")...)), "%v", info.Spec.Ranges)
}

// A change that fails, breaks a rule, strands what is held or changes nothing leaves the pool at its revision.
func TestUpdateFuncChangesNothing(t *testing.T) {
	p, err := pool.Create(t.Context(), store.NewMemory(), "blue", specOf("10.0.0.0/29"), nil)
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "a", Requests: []pool.Request{pool.ExactAddr(addr("10.0.0.5"))}})
	require.NoError(t, err)
	before, err := p.Info(t.Context())
	require.NoError(t, err)
	refused := errors.New("refused")
	for _, c := range []struct {
		change func(pool.Spec) (pool.Spec, error)
		want   error
	}{
		{func(s pool.Spec) (pool.Spec, error) { s.Ranges = nil; return s, refused }, refused},
		{func(pool.Spec) (pool.Spec, error) { return pool.Spec{}, nil }, pool.ErrInvalid},
		{func(pool.Spec) (pool.Spec, error) { return specOf("10.0.0.0/30"), nil }, pool.ErrOutOfRange},
		{func(s pool.Spec) (pool.Spec, error) { return s, nil }, nil},
		{func(s pool.Spec) (pool.Spec, error) { s.Ranges[0] = specOf("10.9.0.0/30").Ranges[0]; return s, refused }, refused},
	} {
		require.ErrorIs(t, p.UpdateFunc(t.Context(), c.change), c.want)
		after, err := p.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, before, after)
	}
}
