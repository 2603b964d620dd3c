package pool_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// remembering makes a pool with a history in a store, whose clock stands still until it is moved.
func remembering(t require.TestingT, s store.Store, most int) (p *pool.Pool, now *time.Time) {
	start := time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	now = &start
	spec := specOf("10.0.0.0/16", "2001:db8::/32")
	spec.History, spec.HistoryMost = remembered, most
	spec.IPv4.MinBits, spec.IPv6.MinBits = 24, 40
	p, err := pool.Create(context.Background(), s, "blue", spec, &pool.Options{Clock: func() time.Time { return *now }})
	require.NoError(t, err)
	return p, now
}

// comeAndGo has an owner hold what it claims for a second.
func comeAndGo(t require.TestingT, p *pool.Pool, now *time.Time, claim pool.Claim) pool.Allocation {
	a, err := p.Allocate(context.Background(), claim)
	require.NoError(t, err)
	*now = now.Add(time.Second)
	_, err = p.Release(context.Background(), pool.Held{Owner: claim.Owner})
	require.NoError(t, err)
	return a
}

func holdersOf(all []pool.Tenure) (owners []string) {
	for _, t := range all {
		owners = append(owners, t.Owner)
	}
	return owners
}

// TestHistoryFindsAddresses asks for addresses that were held in prefixes of any length, and in many at once.
func TestHistoryFindsAddresses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, now := remembering(t, store.NewMemory(), 0)
		var held []netip.Prefix
		for i := range rapid.IntRange(1, 12).Draw(t, "tenures") {
			claim := pool.Claim{Owner: fmt.Sprint("owner ", i)}
			for range rapid.SampledFrom([]int{1, 1, 2, 40}).Draw(t, "requests") {
				request := pool.Request{Family: pool.IPv4, Bits: rapid.IntRange(24, 32).Draw(t, "length")}
				if rapid.Bool().Draw(t, "IPv6") {
					request = pool.Request{Family: pool.IPv6, Bits: rapid.IntRange(44, 128).Draw(t, "length")}
				}
				claim.Requests = append(claim.Requests, request)
			}
			a := comeAndGo(t, p, now, claim)
			held = append(held, a.Prefixes...)
		}
		all := tenures(t, p, pool.HistoryQuery{})
		for range 10 {
			prefix := rapid.SampledFrom(held).Draw(t, "prefix")
			addr := rapid.SampledFrom([]netip.Addr{
				prefix.Addr(), prefix.Addr().Next(), netipxLast(prefix), netipxLast(prefix).Next(),
			}).Draw(t, "address")
			want := slices.DeleteFunc(slices.Clone(all), func(past pool.Tenure) bool {
				return !slices.ContainsFunc(past.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
			})
			require.Equal(t, holdersOf(want), holdersOf(tenures(t, p, pool.HistoryQuery{Addr: addr})))
		}
	})
}

func netipxLast(p netip.Prefix) netip.Addr {
	set, err := cidr.ParseRanges(p.String())
	if err != nil {
		panic(err)
	}
	return set[0].To()
}

// TestHistoryKeepsLabels has claims with labels that look like those of the history's own.
func TestHistoryKeepsLabels(t *testing.T) {
	p, now := remembering(t, store.NewMemory(), 0)
	labels := map[string]string{
		"ipalloc.owner": "somebody else", "ipalloc.in.10.0.0.9/32": "", "ipalloc.label.ipalloc.owner": "x",
		"ipalloc.history": "no", "node": "n1",
	}
	comeAndGo(t, p, now, pool.Claim{Owner: "vm", Labels: labels})
	comeAndGo(t, p, now, pool.Claim{Owner: "other"})
	for name, value := range labels {
		all := tenures(t, p, pool.HistoryQuery{Labels: map[string]string{name: value}})
		require.Equal(t, []string{"vm"}, holdersOf(all))
		require.Equal(t, labels, all[0].Labels)
	}
	require.Empty(t, tenures(t, p, pool.HistoryQuery{Owner: "somebody else"}))
	require.Empty(t, tenures(t, p, pool.HistoryQuery{Addr: addr("10.0.0.9")}))
	require.Empty(t, tenures(t, p, pool.HistoryQuery{Labels: map[string]string{"ipalloc.history": ""}}))
	require.Nil(t, tenures(t, p, pool.HistoryQuery{Owner: "other"})[0].Labels)
	require.Len(t, tenures(t, p, pool.HistoryQuery{}), 2)
}

func TestLongestLabelsHaveAHistory(t *testing.T) {
	p, now := remembering(t, store.NewMemory(), 0)
	claim := pool.Claim{Owner: fmt.Sprintf("%01024d", 1), Labels: map[string]string{}}
	for i := range pool.MaxLabels {
		claim.Labels[fmt.Sprintf("ipalloc.%02d", i)] = fmt.Sprintf("%054d", i)
	}
	for range 40 {
		claim.Requests = append(claim.Requests, pool.Request{Family: pool.IPv6})
	}
	comeAndGo(t, p, now, claim)
	require.Equal(t, claim.Labels, tenures(t, p, pool.HistoryQuery{Owner: claim.Owner})[0].Labels)
	claim.Labels["one more"] = ""
	_, err := p.Allocate(t.Context(), claim)
	require.ErrorIs(t, err, pool.ErrInvalid)
}

// TestHistoryIsBounded has a pool remember the latest only, and counts what is stored.
func TestHistoryIsBounded(t *testing.T) {
	s := store.NewMemory()
	p, now := remembering(t, s, 5)
	for i := range 20 {
		comeAndGo(t, p, now, pool.Claim{Owner: fmt.Sprint("owner ", i)})
		info, err := p.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, min(i+1, 5), info.History)
	}
	want := []string{"owner 15", "owner 16", "owner 17", "owner 18", "owner 19"}
	require.Equal(t, want, holdersOf(tenures(t, p, pool.HistoryQuery{})))

	spec := must(p.Info(t.Context())).Spec
	spec.HistoryMost = 2
	require.NoError(t, p.Update(t.Context(), spec))
	comeAndGo(t, p, now, pool.Claim{Owner: "next"})
	require.Equal(t, []string{"owner 17", "owner 18", "owner 19", "next"}, holdersOf(tenures(t, p, pool.HistoryQuery{})),
		"two go for each that comes")
	comeAndGo(t, p, now, pool.Claim{Owner: "last"})
	comeAndGo(t, p, now, pool.Claim{Owner: "very last"})
	require.Equal(t, []string{"last", "very last"}, holdersOf(tenures(t, p, pool.HistoryQuery{})))
}

// TestNextPoolGoesOnWithTheHistory deletes a pool, and makes one of the same name.
func TestNextPoolGoesOnWithTheHistory(t *testing.T) {
	s := store.NewMemory()
	p, now := remembering(t, s, 0)
	for _, owner := range []string{"a", "b", "c"} {
		comeAndGo(t, p, now, pool.Claim{Owner: owner})
	}
	require.NoError(t, pool.Delete(t.Context(), s, "blue", nil))
	next, now := remembering(t, s, 0)
	*now = now.Add(time.Minute)
	require.Equal(t, []string{"a", "b", "c"}, holdersOf(tenures(t, next, pool.HistoryQuery{})))
	comeAndGo(t, next, now, pool.Claim{Owner: "d"})
	require.Equal(t, []string{"a", "b", "c", "d"}, holdersOf(tenures(t, next, pool.HistoryQuery{})))
	*now = now.Add(2 * remembered)
	comeAndGo(t, next, now, pool.Claim{Owner: "e"})
	require.Equal(t, []string{"c", "d", "e"}, holdersOf(tenures(t, next, pool.HistoryQuery{})))
}

// TestHistoryBesideAnOlderHead restores the head of a pool, and the records of its owners, from an earlier copy.
func TestHistoryBesideAnOlderHead(t *testing.T) {
	s := store.NewMemory()
	p, now := remembering(t, s, 0)
	comeAndGo(t, p, now, pool.Claim{Owner: "a"})
	key := store.Key{Kind: store.KindPool, Pool: "blue"}
	old, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	comeAndGo(t, p, now, pool.Claim{Owner: "b"})
	head, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	old.Revision = head.Revision
	_, err = storetest.CommitOne(t.Context(), s, old)
	require.NoError(t, err)
	for _, owner := range []string{"c", "d"} {
		comeAndGo(t, p, now, pool.Claim{Owner: owner})
	}
	require.Equal(t, []string{"a", "b", "c", "d"}, holdersOf(tenures(t, p, pool.HistoryQuery{})))
}

func TestForgetHistory(t *testing.T) {
	s := store.NewMemory()
	p, now := remembering(t, s, 0)
	for i := range 200 {
		comeAndGo(t, p, now, pool.Claim{Owner: fmt.Sprint(i)})
	}
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "goes on"})
	require.NoError(t, err)
	n, err := pool.ForgetHistory(t.Context(), s, "blue", now.Add(-50*time.Second), nil)
	require.NoError(t, err)
	require.Equal(t, 150, n)
	require.Len(t, tenures(t, p, pool.HistoryQuery{}), 51)
	comeAndGo(t, p, now, pool.Claim{Owner: "another"})
	all := tenures(t, p, pool.HistoryQuery{})
	require.Len(t, all, 52)
	require.Equal(t, "150", all[0].Owner)
	require.Equal(t, "goes on", all[51].Owner)

	_, err = p.Release(t.Context(), pool.Held{Owner: "goes on"})
	require.NoError(t, err)
	require.NoError(t, pool.Delete(t.Context(), s, "blue", nil))
	n, err = pool.ForgetHistory(t.Context(), s, "blue", *now, nil)
	require.NoError(t, err)
	require.Equal(t, 52, n)
	for r, err := range s.List(t.Context(), store.KindHistory, "") {
		require.NoError(t, err)
		require.Fail(t, "a record is left", "%v", r)
	}
	n, err = pool.ForgetHistory(t.Context(), s, "nobody's", *now, nil)
	require.NoError(t, err)
	require.Zero(t, n)
	_, err = pool.ForgetHistory(t.Context(), s, "", *now, nil)
	require.ErrorIs(t, err, pool.ErrInvalid)
}

// small is a store that takes few records of a history.
type small struct{ store.Store }

func (small) Limit(kind store.Kind) int {
	if kind == store.KindHistory {
		return 10
	}
	return 0
}

// TestSmallStoresBoundTheHistory has each call that takes a spec refuse what the store does not take.
func TestSmallStoresBoundTheHistory(t *testing.T) {
	memory := store.NewMemory()
	s := (&faults.Injector{}).Wrap(small{memory})
	p, err := pool.Create(t.Context(), s, "blue", specOf("10.0.0.0/24"), nil)
	require.NoError(t, err)
	snapshot, err := p.Snapshot(t.Context())
	require.NoError(t, err)
	spec := specOf("10.0.0.0/24")
	spec.History = remembered
	for _, most := range []int{0, 11} {
		spec.HistoryMost, snapshot.Spec = most, spec
		snapshot.Spec.HistoryMost = most
		_, err := pool.Create(t.Context(), s, "green", spec, nil)
		require.ErrorIs(t, err, pool.ErrInvalid)
		_, err = pool.Import(t.Context(), s, "green", snapshot, nil)
		require.ErrorIs(t, err, pool.ErrInvalid)
		_, err = pool.Recover(t.Context(), s, "green", spec, nil)
		require.ErrorIs(t, err, pool.ErrInvalid)
		require.ErrorIs(t, p.Update(t.Context(), spec), pool.ErrInvalid)
	}
	spec.HistoryMost = 10
	require.NoError(t, p.Update(t.Context(), spec))
	spec.HistoryMost = -1
	require.ErrorIs(t, spec.Validate(), pool.ErrInvalid)
	spec.History, spec.HistoryMost = 0, 1
	require.ErrorIs(t, spec.Validate(), pool.ErrInvalid)
}

// TestHistoryCosts counts what is asked of the store: nothing to record, and what is found to answer.
func TestHistoryCosts(t *testing.T) {
	var counts faults.Injector
	p, now := remembering(t, counts.Wrap(store.NewMemory()), 0)
	first := comeAndGo(t, p, now, pool.Claim{Owner: "first"}) // which takes stock
	for i := range 100 {
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint("owner ", i), Labels: map[string]string{"node": "n1"}})
		require.NoError(t, err)
		before := counts.Counts()
		_, err = p.Release(t.Context(), pool.Held{Owner: fmt.Sprint("owner ", i)})
		require.NoError(t, err)
		after := counts.Counts()
		require.Equal(t, before.RoundTrips()+1, after.RoundTrips())
		require.Equal(t, before.Writes+2, after.Writes)
	}
	*now = now.Add(time.Minute)
	for _, ask := range []struct {
		query pool.HistoryQuery
		found int
		trips int
	}{
		{pool.HistoryQuery{Owner: "owner 7"}, 1, 2},
		{pool.HistoryQuery{Addr: first.Prefixes[0].Addr()}, 101, 7},
		{pool.HistoryQuery{Addr: addr("2001:db8::1")}, 0, 19},
		{pool.HistoryQuery{Labels: map[string]string{"node": "n1"}}, 100, 2},
	} {
		before := counts.Counts()
		require.Len(t, tenures(t, p, ask.query), ask.found)
		after := counts.Counts()
		require.Equal(t, ask.trips, after.RoundTrips()-before.RoundTrips())
		require.Equal(t, ask.found, after.Listed-before.Listed)
	}
	*now = now.Add(remembered)
	before := counts.Counts()
	comeAndGo(t, p, now, pool.Claim{Owner: "late"})
	after := counts.Counts()
	require.Equal(t, 3, after.RoundTrips()-before.RoundTrips(), "one to claim, one to release, one to look at what is due")
}
