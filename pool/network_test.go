package pool_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

func inNetwork(network string, texts ...string) pool.Spec {
	spec := specOf(texts...)
	spec.Network = network
	return spec
}

func createNamed(t testing.TB, s store.Store, name string, spec pool.Spec) *pool.Pool {
	t.Helper()
	p, err := pool.Create(t.Context(), s, name, spec, nil)
	require.NoError(t, err)
	return p
}

// network returns what is stored of a network.
func network(t testing.TB, s store.Store, name string) (found pool.Network) {
	t.Helper()
	for n, err := range pool.Networks(t.Context(), s) {
		require.NoError(t, err)
		if n.Name == name {
			found = n
		}
	}
	return found
}

func TestPoolsOfOneNetworkDoNotOverlap(t *testing.T) {
	s := store.NewMemory()
	createNamed(t, s, "a", inNetwork("blue", "10.0.0.0/24", "2001:db8::/64"))
	for _, text := range []string{"10.0.0.0/24", "10.0.0.255-10.0.1.3", "10.0.0.0/8", "2001:db8::7"} {
		_, err := pool.Create(t.Context(), s, "b", inNetwork("blue", text), nil)
		require.ErrorIs(t, err, pool.ErrOverlap, text)
		require.ErrorContains(t, err, `of the pool "a" in the network "blue"`)
		_, err = pool.Open(t.Context(), s, "b", nil)
		require.ErrorIs(t, err, pool.ErrNoPool, "nothing of it stays")
	}
	createNamed(t, s, "b", inNetwork("blue", "10.0.1.0/24"))
	// Different networks are separate worlds, and so is no network.
	createNamed(t, s, "c", inNetwork("green", "10.0.0.0/24"))
	createNamed(t, s, "d", specOf("10.0.0.0/24"))
	createNamed(t, s, "e", specOf("10.0.0.0/24"))
	require.Equal(t, pool.Network{Name: "blue", Pools: map[string][]netipx.IPRange{
		"a": ranges("10.0.0.0/24", "2001:db8::/64"), "b": ranges("10.0.1.0/24"),
	}}, network(t, s, "blue"))
	// Also what is excluded belongs to the pool: the same address means the same host all over the network.
	spec := inNetwork("blue", "10.0.2.0/24")
	spec.Exclude = ranges("10.0.2.128/25")
	createNamed(t, s, "f", spec)
	_, err := pool.Create(t.Context(), s, "g", inNetwork("blue", "10.0.2.200"), nil)
	require.ErrorIs(t, err, pool.ErrOverlap)
}

func TestNetworkNeedsAStore(t *testing.T) {
	_, err := pool.New(inNetwork("blue", "10.0.0.0/24"), nil)
	require.ErrorIs(t, err, pool.ErrInvalid)
	p, err := pool.New(specOf("10.0.0.0/24"), nil)
	require.NoError(t, err)
	require.ErrorIs(t, p.Update(t.Context(), inNetwork("blue", "10.0.0.0/24")), pool.ErrInvalid)
}

// Two processes create at once pools that overlap, or update pools to that: exactly one of them wins.
func TestOverlapFromTwoProcessesAtOnce(t *testing.T) {
	for name, act := range map[string]func(t *testing.T, s store.Store, who int) error{
		"create": func(t *testing.T, s store.Store, who int) error {
			_, err := pool.Create(t.Context(), s, fmt.Sprint("new ", who), inNetwork("blue", "10.0.9.0/24"), nil)
			return err
		},
		"update": func(t *testing.T, s store.Store, who int) error {
			p, err := pool.Open(t.Context(), s, fmt.Sprint(who), nil)
			if err != nil {
				return err
			}
			return p.Update(t.Context(), inNetwork("blue", fmt.Sprintf("10.0.%d.0/24", who), "10.0.9.0/24"))
		},
		"move into the network": func(t *testing.T, s store.Store, who int) error {
			p, err := pool.Open(t.Context(), s, fmt.Sprint("outside ", who), nil)
			if err != nil {
				return err
			}
			return p.Update(t.Context(), inNetwork("blue", "10.0.9.0/24"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := store.NewMemory()
				injector := &faults.Injector{}
				setup := injector.Wrap(memory)
				for who := range 3 {
					createNamed(t, setup, fmt.Sprint(who), inNetwork("blue", fmt.Sprintf("10.0.%d.0/24", who)))
					createNamed(t, setup, fmt.Sprint("outside ", who), specOf("10.0.9.0/24"))
				}
				injector.Choose = faults.Random(1, faults.Rates{MaxDelay: 50 * time.Millisecond})
				errs := make([]error, 3)
				var calls sync.WaitGroup
				for who := range errs {
					calls.Go(func() { errs[who] = act(t, injector.Wrap(memory.Open()), who) })
				}
				calls.Wait()
				won := 0
				for _, err := range errs {
					if err == nil {
						won++
					} else {
						require.ErrorIs(t, err, pool.ErrOverlap)
					}
				}
				require.Equal(t, 1, won, "%v", errs)
			})
		})
	}
}

func TestUpdateInANetwork(t *testing.T) {
	s := store.NewMemory()
	a := createNamed(t, s, "a", inNetwork("blue", "10.0.0.0/24"))
	b := createNamed(t, s, "b", inNetwork("blue", "10.0.1.0/24"))
	require.ErrorIs(t, a.Update(t.Context(), inNetwork("blue", "10.0.0.0/23")), pool.ErrOverlap)
	require.ErrorIs(t, a.Drain(t.Context(), inNetwork("blue", "10.0.1.7")), pool.ErrOverlap)
	require.Equal(t, ranges("10.0.0.0/24"), network(t, s, "blue").Pools["a"], "nothing has changed")
	require.NoError(t, b.Update(t.Context(), inNetwork("blue", "10.0.1.128/25")))
	require.NoError(t, a.Update(t.Context(), inNetwork("blue", "10.0.0.0-10.0.1.127")), "b has given up what a gets")
	require.NoError(t, b.Update(t.Context(), inNetwork("green", "10.0.1.0/24")), "into another network")
	require.NotContains(t, network(t, s, "blue").Pools, "b")
	require.NoError(t, a.Update(t.Context(), inNetwork("blue", "10.0.0.0/23")))
	require.ErrorIs(t, b.Update(t.Context(), inNetwork("blue", "10.0.1.0/24")), pool.ErrOverlap)
	require.NoError(t, a.Update(t.Context(), specOf("10.0.0.0/23")), "out of every network")
	require.Empty(t, network(t, s, "blue").Name, "an empty network goes")
	require.NoError(t, b.Update(t.Context(), inNetwork("blue", "10.0.1.0/24")))
}

func TestDeleteFreesTheRangeInTheNetwork(t *testing.T) {
	s := store.NewMemory()
	createNamed(t, s, "a", inNetwork("blue", "10.0.0.0/24"))
	require.NoError(t, pool.Delete(t.Context(), s, "a", nil))
	requireNoRecords(t, s)
	createNamed(t, s, "b", inNetwork("blue", "10.0.0.0/24"))
}

func TestExternalRangesAreRespectedByAllPoolsOfTheNetwork(t *testing.T) {
	s := store.NewMemory()
	a := createNamed(t, s, "a", inNetwork("blue", "10.0.0.0/30"))
	elsewhere := createNamed(t, s, "elsewhere", inNetwork("green", "10.0.0.0/30"))
	require.NoError(t, pool.SetExternal(t.Context(), s, "blue", ranges("10.0.0.0-10.0.0.1", "10.0.1.0/24"), false, nil))
	require.Equal(t, ranges("10.0.0.0/31", "10.0.1.0/24"), network(t, s, "blue").External)
	require.Equal(t, "10.0.0.2", texts(allocate(t, a, pool.Claim{Owner: "x"})), "also by a handle that was open")
	_, err := a.Allocate(t.Context(), claim("y", "10.0.0.1"))
	require.ErrorIs(t, err, pool.ErrNotInPool)
	info, err := a.Info(t.Context())
	require.NoError(t, err)
	stats := info.Stats
	require.Equal(t, uint64(2), stats[0].Reserved.Uint64())
	info, err = a.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, ranges("10.0.0.0/31"), info.Withheld)
	require.Equal(t, "10.0.0.0", texts(allocate(t, elsewhere, pool.Claim{Owner: "x"})), "another world")

	later := createNamed(t, s, "later", inNetwork("blue", "10.0.1.254-10.0.2.7"))
	require.Equal(t, "10.0.2.0", texts(allocate(t, later, pool.Claim{Owner: "x"})), "also by pools that come later")
	_, err = pool.Create(t.Context(), s, "nothing left", inNetwork("blue", "10.0.1.0/30"), nil)
	require.ErrorIs(t, err, pool.ErrInvalid)
	require.NoError(t, later.Update(t.Context(), inNetwork("blue", "10.0.1.0-10.0.2.7")))
	_, err = later.Allocate(t.Context(), claim("y", "10.0.1.7"))
	require.ErrorIs(t, err, pool.ErrNotInPool, "also after it grew")
	moved := createNamed(t, s, "moved", specOf("10.0.3.0/30"))
	require.NoError(t, pool.SetExternal(t.Context(), s, "blue", ranges("10.0.3.0"), false, nil))
	require.NoError(t, moved.Update(t.Context(), inNetwork("blue", "10.0.3.0/30")))
	require.Equal(t, "10.0.3.1", texts(allocate(t, moved, pool.Claim{Owner: "x"})),
		"also by one that comes into the network")

	require.Equal(t, "10.0.0.0", texts(allocate(t, a, pool.Claim{Owner: "y"})), "what is external no more is free")
	require.NoError(t, pool.SetExternal(t.Context(), s, "blue", nil, false, nil))
	require.Equal(t, "10.0.3.0", texts(allocate(t, moved, pool.Claim{Owner: "y"})))
	for _, p := range []*pool.Pool{a, later, moved} {
		requireOK(t, p)
	}
	require.ErrorIs(t, pool.SetExternal(t.Context(), s, "", nil, false, nil), pool.ErrInvalid)
	require.ErrorIs(t, pool.SetExternal(t.Context(), s, "blue", ranges("10.0.0.0/8"), true, nil), pool.ErrInvalid,
		"nothing would be left")
}

func TestExternalRangesThatAreHeld(t *testing.T) {
	s := store.NewMemory()
	a := createNamed(t, s, "a", inNetwork("blue", "10.0.0.0/30"))
	b := createNamed(t, s, "b", inNetwork("blue", "10.0.1.0/30"))
	allocate(t, a, pool.Claim{Owner: "x"})
	err := pool.SetExternal(t.Context(), s, "blue", ranges("10.0.0.0", "10.0.1.0"), false, nil)
	require.Equal(t, []string{"x"}, stranded(t, err))
	var where *pool.Error
	require.ErrorAs(t, err, &where)
	require.Equal(t, "a", where.Pool)
	require.Equal(t, "10.0.1.0", texts(allocate(t, b, pool.Claim{Owner: "y"})), "nothing has changed in any pool")
	release(t, b, "y")

	require.NoError(t, pool.SetExternal(t.Context(), s, "blue", ranges("10.0.0.0", "10.0.1.0"), true, nil))
	info, err := a.Info(t.Context())
	require.NoError(t, err)
	stats := info.Stats
	require.Equal(t, uint64(1), stats[0].OutOfRange.Uint64())
	release(t, a, "x")
	require.Equal(t, "10.0.0.1", texts(allocate(t, a, pool.Claim{Owner: "x"})))
	require.Equal(t, "10.0.1.1", texts(allocate(t, b, pool.Claim{Owner: "y"})))
}

func TestExternalRangesAreRespectedByDelegatedPools(t *testing.T) {
	s := store.NewMemory()
	parent := createNamed(t, s, "parent", inNetwork("blue", "10.0.0.0/16"))
	child, _, err := pool.Delegate(t.Context(), parent, ofBits("n", 29), "child", everyAddress(), nil)
	require.NoError(t, err)
	err = pool.SetExternal(t.Context(), s, "blue", ranges("10.0.0.0-10.0.0.3"), false, nil)
	require.ErrorIs(t, err, pool.ErrOutOfRange, "the child holds them")
	require.NoError(t, pool.SetExternal(t.Context(), s, "blue", ranges("10.0.0.0-10.0.0.3"), true, nil))
	require.Equal(t, "10.0.0.4", texts(allocate(t, child, pool.Claim{Owner: "x"})))

	// Also one that was delegated later, and one that shrinks and grows again.
	require.NoError(t, child.Update(t.Context(), inNetwork("blue", "10.0.0.4-10.0.0.5")))
	require.NoError(t,
		pool.SetExternal(t.Context(), s, "blue", ranges("10.0.0.0-10.0.0.3", "10.0.0.7", "10.0.0.8"), true, nil))
	require.NoError(t, child.Update(t.Context(), inNetwork("blue", "10.0.0.0/29")))
	for _, external := range []string{"10.0.0.3", "10.0.0.7"} {
		_, err := child.Allocate(t.Context(), claim("y", external))
		require.ErrorIs(t, err, pool.ErrNotInPool, external)
	}
	requireOK(t, child)
	require.True(t, slices.ContainsFunc(network(t, s, "blue").External,
		func(r netipx.IPRange) bool { return cidr.FormatRange(r) == "10.0.0.7-10.0.0.8" }))
	require.NotContains(t, network(t, s, "blue").Pools, "child", "what is delegated is no pool of the network of its own")
}

// A pool is created in one process while another declares its range external. Whichever comes first, the
// pool hands out nothing of that range.
func TestExternalRangesFromAnotherProcessAtOnce(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			memory, injector := store.NewMemory(), &faults.Injector{
				Choose: faults.Random(seed, faults.Rates{MaxDelay: 50 * time.Millisecond}),
			}
			var calls sync.WaitGroup
			calls.Go(func() {
				s := injector.Wrap(memory.Open())
				if err := pool.SetExternal(t.Context(), s, "blue", ranges("10.0.0.0"), true, nil); err != nil {
					t.Error(err)
				}
			})
			calls.Go(func() {
				p, err := pool.Create(t.Context(), injector.Wrap(memory.Open()), "a", inNetwork("blue", "10.0.0.0/30"), nil)
				if err == nil {
					_, err = p.Allocate(t.Context(), pool.Claim{Owner: "x"})
				}
				if err != nil {
					t.Error(err)
				}
			})
			calls.Wait()
			p, err := pool.Open(t.Context(), memory, "a", nil)
			require.NoError(t, err)
			info, err := p.Info(t.Context())
			require.NoError(t, err)
			require.Equal(t, ranges("10.0.0.0"), info.Withheld)
			_, err = p.Allocate(t.Context(), claim("y", "10.0.0.0"))
			require.ErrorIs(t, err, pool.ErrNotInPool)
			requireOK(t, p)
		})
	}
}

// The process dies at each call to the store while it creates, updates or deletes a pool of a
// network. The next try completes it.
func TestCrashesInANetwork(t *testing.T) {
	for name, act := range map[string]func(t *testing.T, s store.Store) error{
		"create": func(t *testing.T, s store.Store) error {
			_, err := pool.Ensure(t.Context(), s, "new", inNetwork("blue", "10.0.9.0/24"), pool.Keep, nil)
			return err
		},
		"update": func(t *testing.T, s store.Store) error {
			p, err := pool.Open(t.Context(), s, "a", nil)
			if err != nil {
				return err
			}
			return p.Update(t.Context(), inNetwork("blue", "10.0.9.0/24"))
		},
		"delete": func(t *testing.T, s store.Store) error {
			err := pool.Delete(t.Context(), s, "a", nil)
			if errors.Is(err, pool.ErrNoPool) {
				return nil
			}
			return err
		},
		"external": func(t *testing.T, s store.Store) error {
			return pool.SetExternal(t.Context(), s, "blue", ranges("10.0.0.0-10.0.0.1"), false, nil)
		},
	} {
		for _, effect := range []faults.Effect{faults.Refuse, faults.LoseReply} {
			t.Run(fmt.Sprintf("%s, effect %v", name, effect), func(t *testing.T) {
				for n := 1; ; n++ {
					memory, injector := store.NewMemory(), &faults.Injector{}
					createNamed(t, memory, "a", inNetwork("blue", "10.0.0.0/24"))
					calls := 0
					injector.Choose = func(faults.Call) faults.Fault {
						if calls++; calls == n {
							return faults.Fault{Effect: effect}
						}
						return faults.Fault{}
					}
					err := act(t, injector.Wrap(memory))
					if calls < n {
						require.NoError(t, err)
						require.Greater(t, n, 2)
						return
					}
					require.NoError(t, act(t, memory), "call %d", n)
					listed := map[string][]netipx.IPRange{}
					for info, err := range pool.List(t.Context(), memory) {
						require.NoError(t, err)
						listed[info.Name] = info.Spec.Ranges
					}
					require.Len(t, network(t, memory, "blue").Pools, len(listed))
					for name, ranges := range network(t, memory, "blue").Pools {
						require.Equal(t, listed[name], ranges)
					}
				}
			})
		}
	}
}
