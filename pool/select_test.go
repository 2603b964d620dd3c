package pool_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// createLabelled creates a pool of that name with a range and the labels.
func createLabelled(t *testing.T, s store.Store, name, cidr string, labels map[string]string) *pool.Pool {
	t.Helper()
	spec := specOf(cidr)
	spec.Labels = labels
	p, err := pool.Create(t.Context(), s, name, spec, nil)
	require.NoError(t, err)
	return p
}

func TestCordonedPoolKeepsWhatIsHeld(t *testing.T) {
	s := store.NewMemory()
	p := create(t, s, specOf("10.0.0.0/28"))
	for _, owner := range []string{"kept", "released"} {
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner, TTL: time.Hour})
		require.NoError(t, err)
	}
	spec := specOf("10.0.0.0/28")
	spec.Cordoned = true
	require.NoError(t, p.Update(t.Context(), spec))

	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "new"})
	require.ErrorIs(t, err, pool.ErrCordoned)
	require.ErrorContains(t, err, `allocate for "new"`)
	_, err = p.AllocateWait(t.Context(), pool.Claim{Owner: "new"})
	require.ErrorIs(t, err, pool.ErrCordoned)
	_, err = p.DryRun(t.Context(), pool.Claim{Owner: "new"})
	require.ErrorIs(t, err, pool.ErrCordoned)
	_, _, err = pool.Delegate(t.Context(), p, ofBits("node", 30), "", everyAddress(), nil)
	require.ErrorIs(t, err, pool.ErrCordoned)
	blocks, err := pool.OpenBlocks(t.Context(), p, "node", ofBits("", 30), everyAddress(), nil)
	require.NoError(t, err)
	_, err = blocks.Allocate(t.Context(), pool.Claim{Owner: "pod"})
	require.ErrorIs(t, err, pool.ErrCordoned)

	again, err := p.Allocate(t.Context(), pool.Claim{Owner: "kept", TTL: 2 * time.Hour})
	require.NoError(t, err)
	require.Equal(t, "10.0.0.0", again.Addrs()[0].String())
	_, err = p.Renew(t.Context(), pool.Held{Owner: "kept"}, 3*time.Hour)
	require.NoError(t, err)
	_, err = p.Release(t.Context(), pool.Held{Owner: "released"})
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "released"})
	require.ErrorIs(t, err, pool.ErrCordoned)

	require.NoError(t, p.Update(t.Context(), specOf("10.0.0.0/28")))
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "new"})
	require.NoError(t, err)
	requireOK(t, p)
}

// TestOrdersAmongPools claims in three pools: one is almost full but large, one is small and free, and one is in
// between.
func TestOrdersAmongPools(t *testing.T) {
	for order, want := range map[pool.Order]string{
		pool.AsGiven: "small small small small", pool.MostFree: "large large large middle",
		pool.LeastUsed: "small middle small middle",
	} {
		t.Run(string(order), func(t *testing.T) {
			s := store.NewMemory()
			var pools []*pool.Pool
			for _, c := range []struct {
				name, cidr string
				held       int
			}{{"small", "10.0.1.0/29", 0}, {"middle", "10.0.2.0/28", 1}, {"large", "10.0.3.0/24", 254 - 16}} {
				p := createLabelled(t, s, c.name, c.cidr, nil)
				for i := range c.held {
					_, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint("held-", i)})
					require.NoError(t, err)
				}
				pools = append(pools, p)
			}
			var got []string
			for i := range 4 {
				step := pool.Allocate(pool.Claim{Owner: fmt.Sprint("new-", i)}).In(pools...)
				step.Order = order
				results, err := pools[0].All(t.Context(), step)
				require.NoError(t, err)
				got = append(got, results[0].Pool.Name())
			}
			require.Equal(t, want, strings.Join(got, " "))
		})
	}
	s := store.NewMemory()
	p := create(t, s, specOf("10.0.0.0/28"))
	larger, err := pool.Create(t.Context(), s, "larger", specOf("10.1.0.0/24"), nil)
	require.NoError(t, err)
	step := pool.Allocate(pool.Claim{Owner: "a"}).In(p, larger)
	for _, in := range step.Pools {
		allocate(t, in, pool.Claim{Owner: "a"})
	}
	for _, step.Order = range []pool.Order{pool.AsGiven, pool.MostFree, pool.LeastUsed} {
		results, err := p.All(t.Context(), step)
		require.NoError(t, err)
		require.Equal(t, p.Name(), results[0].Pool.Name(), "what is held in several pools does not go by the order")
	}
	step.Order = "alphabetical"
	_, err = p.All(t.Context(), step)
	require.ErrorIs(t, err, pool.ErrInvalid)
	require.ErrorContains(t, err, `"alphabetical" is not an order of pools, want ["as given" "most free" "least used"]`)
}

// A pool that goes with what an earlier step releases is the last one in an order by room.
func TestOrderWithoutThePoolThatGoes(t *testing.T) {
	s := store.NewMemory()
	parent := create(t, s, specOf("10.0.0.0/28"))
	for _, order := range []pool.Order{pool.MostFree, pool.LeastUsed} {
		block := pool.Claim{Owner: "node", Requests: []pool.Request{{Bits: 30}}}
		child, _, err := pool.Delegate(t.Context(), parent, block, "child", everyAddress(), nil)
		require.NoError(t, err)
		allocate(t, parent, pool.Claim{Owner: "other", Requests: []pool.Request{{Bits: 29}}})
		step := pool.Allocate(pool.Claim{Owner: "pod"}).In(child, parent)
		step.Order = order
		results, err := parent.All(t.Context(), pool.Release(pool.Held{Owner: "node"}), step)
		require.NoError(t, err)
		require.Equal(t, parent.Name(), results[1].Pool.Name())
		_, err = parent.Release(t.Context(), pool.Held{Owner: "pod"})
		require.NoError(t, err)
	}
}

func TestSelection(t *testing.T) {
	s := store.NewMemory()
	createLabelled(t, s, "b", "10.0.2.0/31", map[string]string{"zone": "eu", "tier": "gold"})
	createLabelled(t, s, "a", "10.0.1.0/31", map[string]string{"zone": "eu"})
	createLabelled(t, s, "c", "10.0.3.0/31", map[string]string{"zone": "us"})
	selection, err := pool.Select(s, map[string]string{"zone": "eu"}, pool.AsGiven, nil)
	require.NoError(t, err)
	names := func() (names []string) {
		pools, err := selection.Pools(t.Context())
		require.NoError(t, err)
		for _, p := range pools {
			names = append(names, p.Name())
		}
		return names
	}
	require.Equal(t, []string{"a", "b"}, names())

	claimed := func(owner string) string {
		got, err := selection.Allocate(t.Context(), pool.Claim{Owner: owner})
		require.NoError(t, err)
		return got.Pool.Name() + " " + got.Allocation.Addrs()[0].String()
	}
	for i, want := range []string{"a 10.0.1.0", "a 10.0.1.1", "b 10.0.2.0", "b 10.0.2.1"} {
		require.Equal(t, want, claimed(fmt.Sprint("owner-", i)))
		require.Equal(t, want, claimed(fmt.Sprint("owner-", i)), "again")
	}
	_, err = selection.Allocate(t.Context(), pool.Claim{Owner: "late"})
	require.ErrorIs(t, err, pool.ErrExhausted)
	got, err := selection.Get(t.Context(), pool.Held{Owner: "owner-2"})
	require.NoError(t, err)
	require.Equal(t, "b", got.Pool.Name())
	_, err = selection.Get(t.Context(), pool.Held{Owner: "late"})
	require.ErrorIs(t, err, pool.ErrNotFound)

	// Pools come and go, and handles stay.
	before, err := selection.Pools(t.Context())
	require.NoError(t, err)
	createLabelled(t, s, "d", "10.0.4.0/31", map[string]string{"zone": "eu"})
	require.Equal(t, "d 10.0.4.0", claimed("late"))
	after, err := selection.Pools(t.Context())
	require.NoError(t, err)
	require.Same(t, before[0], after[0])
	spec := specOf("10.0.4.0/31")
	require.NoError(t, after[2].Update(t.Context(), spec))
	require.Equal(t, []string{"a", "b"}, names())

	none, err := pool.Select(s, map[string]string{"zone": "mars"}, pool.AsGiven, nil)
	require.NoError(t, err)
	_, err = none.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.ErrorIs(t, err, pool.ErrNoPool)
	require.ErrorContains(t, err, `"zone"="mars"`)
	_, err = none.Allocate(t.Context(), pool.Claim{})
	require.ErrorIs(t, err, pool.ErrInvalid)
	_, err = none.Get(t.Context(), pool.Held{Owner: "a"})
	require.ErrorIs(t, err, pool.ErrNotFound)
	all, err := pool.Select(s, nil, pool.MostFree, nil)
	require.NoError(t, err)
	pools, err := all.Pools(t.Context())
	require.NoError(t, err)
	require.Len(t, pools, 4)
}

func TestSelectionsThatCannotBe(t *testing.T) {
	for _, labels := range []map[string]string{{"x": "\xff"}, {"x": strings.Repeat("x", pool.MaxLabelBytes)}} {
		_, err := pool.Select(store.NewMemory(), labels, pool.AsGiven, nil)
		require.ErrorIs(t, err, pool.ErrInvalid)
		spec := specOf("10.0.0.0/24")
		spec.Labels = labels
		require.ErrorIs(t, spec.Validate(), pool.ErrInvalid)
	}
	_, err := pool.Select(store.NewMemory(), nil, "alphabetical", nil)
	require.ErrorIs(t, err, pool.ErrInvalid)
}

// TestSelectionWhoseStoreFails loses the requests of a selection one after the other: it says so, and grants nothing
// twice.
func TestSelectionWhoseStoreFails(t *testing.T) {
	memory := store.NewMemory()
	createLabelled(t, memory, "a", "10.0.1.0/30", map[string]string{"zone": "eu"})
	createLabelled(t, memory, "b", "10.0.2.0/30", map[string]string{"zone": "eu"})
	for n := range 12 {
		calls := 0
		injector := &faults.Injector{Choose: func(faults.Call) faults.Fault {
			if calls++; calls == n+1 {
				return faults.Fault{Effect: faults.Refuse, Err: errors.New("unplugged")}
			}
			return faults.Fault{}
		}}
		selection, err := pool.Select(injector.Wrap(memory), map[string]string{"zone": "eu"}, pool.LeastUsed, nil)
		require.NoError(t, err)
		got, err := selection.Allocate(t.Context(), pool.Claim{Owner: "x"})
		if err != nil {
			require.ErrorContains(t, err, "unplugged")
			continue
		}
		require.Equal(t, "a", got.Pool.Name())
	}
	for info, err := range pool.List(t.Context(), memory) {
		require.NoError(t, err)
		require.Equal(t, map[string]int{"a": 1, "b": 0}[info.Name], info.Holders, info.Name)
	}
}
