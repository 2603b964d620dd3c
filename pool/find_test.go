package pool_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

func labelledClaim(owner string, labels ...string) pool.Claim {
	c := pool.Claim{Owner: owner, Labels: map[string]string{}}
	for _, l := range labels {
		name, value, _ := strings.Cut(l, "=")
		c.Labels[name] = value
	}
	return c
}

// findsOf are the owners that a query finds.
func findsOf(t *testing.T, p *pool.Pool, q pool.Query) (owners []string) {
	t.Helper()
	for a, err := range p.Find(t.Context(), q) {
		require.NoError(t, err)
		owners = append(owners, a.Owner)
	}
	return owners
}

func TestFindRefusesBadQueries(t *testing.T) {
	p := create(t, store.NewMemory(), specOf("10.0.0.0/28"))
	node := map[string]string{"node": "n1"}
	for want, q := range map[string]pool.Query{
		"names no label":                   {},
		`the label with the value "x" has`: {Labels: map[string]string{"": "x"}},
		`the label "node" with the value`:  {Labels: map[string]string{"node": "\xff"}},
		"there are 65 labels":              {Labels: manyLabels(pool.MaxLabels + 1)},
		`begins after the owner "a"`:       {Labels: node, ByAddress: true, AfterOwner: "a"},
		"begins after 10.0.0.1":            {Labels: node, AfterAddr: addr("10.0.0.1")},
		"::ffff:10.0.0.1, which is 4in6":   {ByAddress: true, AfterAddr: addr("::ffff:10.0.0.1")},
		`the owner "a\x00" is not UTF-8`:   {Labels: node, AfterOwner: "a\x00"},
	} {
		n := 0
		for _, err := range p.Find(t.Context(), q) {
			require.ErrorIs(t, err, pool.ErrInvalid)
			require.ErrorContains(t, err, want)
			require.ErrorContains(t, err, "find")
			n++
		}
		require.Equal(t, 1, n)
	}
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "a", Labels: manyLabels(pool.MaxLabels + 1)})
	require.ErrorIs(t, err, pool.ErrInvalid)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "a", Labels: manyLabels(pool.MaxLabels)})
	require.NoError(t, err)
}

func manyLabels(n int) map[string]string {
	labels := map[string]string{}
	for i := range n {
		labels[strconv.Itoa(i)] = ""
	}
	return labels
}

// TestFindLeavesOutWhatCoolsDown has what cools down, which is no allocation, keep its labels.
func TestFindLeavesOutWhatCoolsDown(t *testing.T) {
	spec := specOf("10.0.0.0/28")
	spec.Cooldown = time.Hour
	for name, p := range map[string]*pool.Pool{
		"in memory": must(pool.New(spec, nil)), "in a store": create(t, store.NewMemory(), spec),
	} {
		t.Run(name, func(t *testing.T) {
			q := pool.Query{Labels: map[string]string{"node": "n1"}}
			for _, owner := range []string{"a", "b", "c"} {
				_, err := p.Allocate(t.Context(), labelledClaim(owner, "node=n1"))
				require.NoError(t, err)
			}
			require.Equal(t, []string{"a", "b", "c"}, findsOf(t, p, q))
			_, err := p.Release(t.Context(), pool.Held{Owner: "b"})
			require.NoError(t, err)
			require.Equal(t, []string{"a", "c"}, findsOf(t, p, q))
			_, err = p.Allocate(t.Context(), labelledClaim("b", "node=n2"))
			require.NoError(t, err)
			require.Equal(t, []string{"a", "c"}, findsOf(t, p, q))
			q.Labels["node"] = "n2"
			require.Equal(t, []string{"b"}, findsOf(t, p, q))
		})
	}
}

// grantAll gives owners addresses in a random order, with labels.
func grantAll(t *testing.T, p *pool.Pool, n int, labels func(i int) []string) {
	t.Helper()
	var steps []pool.Step
	for _, i := range rand.New(rand.NewPCG(5, 5)).Perm(n) {
		c := labelledClaim(fmt.Sprint("owner ", i), labels(i)...)
		c.Requests = exactly(netip.PrefixFrom(addrOf(i), 32))
		steps = append(steps, pool.Allocate(c))
	}
	results, err := each(t.Context(), p, steps)
	require.NoError(t, err)
	require.Len(t, results, n)
}

// TestFindReadsNoMoreThanItFinds counts the records that are read: of a pool of which few have the label, when a page
// is read from the middle, and when the order is that of the addresses.
func TestFindReadsNoMoreThanItFinds(t *testing.T) {
	const held = 10_000
	injector := &faults.Injector{}
	spec := specOf("10.0.0.0/16")
	spec.IPv4.AllocateReserved = true
	p := create(t, injector.Wrap(store.NewMemory()), spec)
	grantAll(t, p, held, func(i int) []string {
		if i%10 == 0 {
			return []string{"every=one", fmt.Sprint("node=", i/100), "some=ten"}
		}
		return []string{"every=one"}
	})
	count := func(q pool.Query, most int) (found, read, lists int) {
		injector.ResetCounts()
		for a, err := range p.Find(t.Context(), q) {
			require.NoError(t, err)
			require.NotZero(t, a)
			if found++; found == most {
				break
			}
		}
		counts := injector.Counts()
		require.Equal(t, counts.ByLabel+counts.List, counts.RoundTrips())
		return found, counts.Listed, counts.RoundTrips()
	}
	found, read, lists := count(pool.Query{Labels: map[string]string{"node": "7"}}, held)
	require.Equal(t, []int{10, 10, 1}, []int{found, read, lists})
	// Of several labels the one with the longest value; "every" comes before "some" by name.
	found, read, lists = count(pool.Query{Labels: map[string]string{"some": "ten", "every": "one", "node": "99"}}, held)
	require.Equal(t, []int{10, 10_000, 1}, []int{found, read, lists})
	found, read, lists = count(pool.Query{Labels: map[string]string{"every": "one"}, AfterOwner: "owner 5"}, 100)
	require.Equal(t, []int{100, 100, 1}, []int{found, read, lists})
	byAddr := pool.Query{Labels: map[string]string{"every": "one"}, ByAddress: true}
	found, read, lists = count(byAddr, 4096)
	require.Equal(t, []int{4096, held, 1}, []int{found, read, lists})
	found, _, lists = count(byAddr, held)
	require.Equal(t, []int{held, 3}, []int{found, lists})
	found, _, lists = count(pool.Query{ByAddress: true}, held)
	require.Equal(t, []int{held, 3}, []int{found, lists})

	var addrs []netip.Addr
	for a, err := range p.Find(t.Context(), byAddr) {
		require.NoError(t, err)
		addrs = append(addrs, a.Addrs()[0])
	}
	require.Len(t, addrs, held)
	require.True(t, slices.IsSortedFunc(addrs, netip.Addr.Compare))
}

// TestLabelsCostNothingIfThereAreNone compares what is written.
func TestLabelsCostNothingIfThereAreNone(t *testing.T) {
	injector := &faults.Injector{}
	p := create(t, injector.Wrap(store.NewMemory()), specOf("10.0.0.0/24"))
	bytes := func(c pool.Claim) int64 {
		injector.ResetCounts()
		_, err := p.Allocate(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, 1, injector.Counts().Committed)
		return injector.Counts().Bytes
	}
	bare, labelled := bytes(pool.Claim{Owner: "a"}), bytes(labelledClaim("b", "node=n1"))
	require.Equal(t, int64(len("node")+len("n1")), labelled-bare)
}

func TestFindByAddressIgnoresZones(t *testing.T) {
	p := create(t, store.NewMemory(), specOf("fd00::/120", "10.0.0.0/24"))
	for _, c := range []pool.Claim{
		{Owner: "both", Policy: pool.RequireDualStack}, {Owner: "six"},
		{Owner: "four", Requests: []pool.Request{{Family: pool.IPv4}}},
	} {
		_, err := p.Allocate(t.Context(), c)
		require.NoError(t, err)
	}
	q := pool.Query{ByAddress: true}
	require.Equal(t, []string{"both", "four", "six"}, findsOf(t, p, q))
	q.AfterAddr = addr("10.0.0.2")
	require.Equal(t, []string{"six"}, findsOf(t, p, q))
	q.AfterAddr = addr("fd00::%eth0")
	require.Equal(t, []string{"six"}, findsOf(t, p, q))
	q.AfterAddr = addr("fd00::1%eth0")
	require.Empty(t, findsOf(t, p, q))
}

func TestSelectionFinds(t *testing.T) {
	s := store.NewMemory()
	north := map[string]string{"site": "north"}
	for i, name := range []string{"c", "a", "b"} {
		p := createLabelled(t, s, name, fmt.Sprintf("10.0.%d.0/24", i), north)
		for _, owner := range []string{"x", "y", "z"} {
			_, err := p.Allocate(t.Context(), labelledClaim(owner+" of "+name, "node="+owner))
			require.NoError(t, err)
		}
	}
	createLabelled(t, s, "south", "10.1.0.0/24", nil)
	selection, err := pool.Select(s, north, pool.AsGiven, nil)
	require.NoError(t, err)
	q := pool.Query{Labels: map[string]string{"node": "y"}}
	var got []string
	for r, err := range selection.Find(t.Context(), q) {
		require.NoError(t, err)
		require.Equal(t, r.Allocation.Owner, "y of "+r.Pool.Name())
		got = append(got, r.Pool.Name())
		if r.Pool.Name() == "b" {
			break
		}
	}
	require.Equal(t, []string{"a", "b"}, got)
	for _, q := range []pool.Query{
		{}, {Labels: q.Labels, AfterOwner: "y of a"}, {ByAddress: true, AfterAddr: addr("10.0.0.1")},
	} {
		n := 0
		for _, err := range selection.Find(t.Context(), q) {
			require.ErrorIs(t, err, pool.ErrInvalid)
			n++
		}
		require.Equal(t, 1, n)
	}
}

// TestFindEndsWithErrors has a store fail in the middle, and has records that cannot be read.
func TestFindEndsWithErrors(t *testing.T) {
	injector := &faults.Injector{}
	p := create(t, injector.Wrap(store.NewMemory()), specOf("10.0.0.0/24"))
	for i := range 10 {
		_, err := p.Allocate(t.Context(), labelledClaim(fmt.Sprint("owner ", i), "node=n1"))
		require.NoError(t, err)
	}
	for _, c := range []struct {
		cause     error
		byAddress bool
		found     int
	}{
		{faults.ErrInjected, false, 4}, {faults.ErrInjected, true, 0},
		{store.ErrDamaged, false, 4}, {store.ErrDamaged, true, 4},
	} {
		injector.Choose = func(call faults.Call) faults.Fault {
			return faults.Fault{Effect: faults.Refuse, After: 4, Err: c.cause}
		}
		n, failed := 0, false
		for _, err := range p.Find(t.Context(), pool.Query{Labels: map[string]string{"node": "n1"}, ByAddress: c.byAddress}) {
			require.False(t, failed)
			if failed = err != nil; failed {
				require.ErrorIs(t, err, c.cause)
				continue
			}
			n++
		}
		require.True(t, failed)
		require.Equal(t, c.found, n)
	}
	injector.Choose = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range p.Find(ctx, pool.Query{Labels: map[string]string{"node": "n1"}}) {
		require.ErrorIs(t, err, context.Canceled)
	}
}
