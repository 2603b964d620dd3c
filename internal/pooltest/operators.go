package pooltest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Operators does on a backend what operators of pools ask for: reservations, quotas, finding by label, sharing,
// renumbering, the history. It uses two handles, so that each learns from the store what the other did. Open returns a
// store, always of the same backend; it may be the same store.
func Operators(t *testing.T, open func() store.Store) {
	t.Helper()
	ranges, err := cidr.ParseRanges("10.1.0.0-10.1.0.63")
	require.NoError(t, err)
	spec := pool.Spec{
		Ranges: ranges, IPv4: pool.FamilySpec{AllocateReserved: true}, Cooldown: time.Hour,
		Quotas: []pool.Quota{{Label: "tenant", Addresses: cidr.CountOf(quota)}},
	}
	s := open()
	first, err := pool.Create(t.Context(), s, "operators", spec, nil)
	require.NoError(t, err)
	second, err := pool.Open(t.Context(), open(), "operators", nil)
	require.NoError(t, err)
	reservations(t, first, second)
	quotas(t, first, second)
	shares(t, first, second)
	require.NoError(t, world.Audit(t.Context(), s))
	renumber(t, first, second)
	require.NoError(t, world.Audit(t.Context(), s))
	released(t, first, second)
	require.NoError(t, world.Audit(t.Context(), s))
	history(t, open)
	require.NoError(t, world.Audit(t.Context(), s))
}

// quota is how many addresses a tenant may hold in [Operators].
const quota = 10

// reservations makes, uses and ends reservations, each step through another handle than the one before.
func reservations(t *testing.T, first, second *pool.Pool) {
	t.Helper()
	claim := func(owner string) pool.Claim {
		return pool.Claim{
			Owner: owner, TTL: time.Hour, Requests: []pool.Request{pool.ExactAddr(netip.MustParseAddr("10.1.0.7"))},
		}
	}
	reserved := claim("vm")
	reserved.TTL = 0
	kept, err := first.Reserve(t.Context(), reserved)
	require.NoError(t, err)
	_, err = second.Allocate(t.Context(), claim("other"))
	require.ErrorIs(t, err, pool.ErrTaken)
	held, err := second.Allocate(t.Context(), pool.Claim{Owner: "vm", TTL: time.Hour})
	require.NoError(t, err)
	require.Equal(t, kept.Prefixes, held.Prefixes)
	renewed, err := first.Renew(t.Context(), pool.Held{Owner: "vm"}, 2*time.Hour)
	require.NoError(t, err)
	require.True(t, renewed.Reserved && renewed.Expires.After(held.Expires))
	_, err = second.Release(t.Context(), pool.Held{Owner: "vm"})
	require.NoError(t, err)
	var all []pool.Allocation
	for a, err := range first.Reservations(t.Context()) {
		require.NoError(t, err)
		all = append(all, a)
	}
	require.Len(t, all, 1)
	require.True(t, all[0].Kept)
	_, err = second.Allocate(t.Context(), pool.Claim{Owner: "vm"})
	require.NoError(t, err)
	_, err = first.Decline(t.Context(), pool.Held{Owner: "vm"}, time.Hour)
	require.NoError(t, err)
	_, err = second.Allocate(t.Context(), pool.Claim{Owner: "vm"})
	require.ErrorIs(t, err, pool.ErrTaken)
	_, err = first.Unreserve(t.Context(), pool.Held{Owner: "vm"})
	require.NoError(t, err)
	info, err := second.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.Reservations)
	require.Equal(t, cidr.CountOf(1), info.StatsOf(pool.IPv4).Cooling)
}

// quotas has both handles claim more for a tenant than it may have, at once: exactly as many are granted as the quota
// says, and all of these are found by the tenant's label.
func quotas(t *testing.T, handles ...*pool.Pool) {
	t.Helper()
	var granted atomic.Int64
	var all sync.WaitGroup
	for h, p := range handles {
		for i := range quota {
			all.Go(func() {
				labels := map[string]string{"tenant": "acme"}
				_, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(h, "/", i), Labels: labels})
				switch {
				case err == nil:
					granted.Add(1)
				case !errors.Is(err, pool.ErrQuota):
					t.Errorf("handle %d: %v", h, err)
				}
			})
		}
	}
	all.Wait()
	require.EqualValues(t, quota, granted.Load())
	info, err := handles[0].Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, []pool.QuotaUse{{
		Label: "tenant", Value: "acme", Family: pool.IPv4, Held: cidr.CountOf(quota), Most: cidr.CountOf(quota),
	}}, info.Quotas)
	found := 0
	for a, err := range handles[1].Find(t.Context(), pool.Query{Labels: map[string]string{"tenant": "acme"}}) {
		require.NoError(t, err)
		require.Equal(t, "acme", a.Labels["tenant"])
		found++
	}
	require.Equal(t, quota, found)
}

// holder returns what an owner holds at an address, perhaps with others.
func holder(t *testing.T, p *pool.Pool, addr netip.Addr, owner string) pool.Allocation {
	t.Helper()
	all, err := p.Holders(t.Context(), addr)
	require.NoError(t, err)
	i := slices.IndexFunc(all, func(a pool.Allocation) bool { return a.Owner == owner })
	require.GreaterOrEqual(t, i, 0, "%q is none of %v", owner, all)
	return all[i]
}

// renumber moves the pool to another prefix through one handle, while the other one looks at it.
func renumber(t *testing.T, first, second *pool.Pool) {
	t.Helper()
	from, to := netip.MustParsePrefix("10.1.0.0/26"), netip.MustParsePrefix("10.2.0.0/24")
	n := pool.Renumbering{From: from, To: to}
	all := map[string]netip.Prefix{}
	for a, err := range first.Allocations(t.Context()) {
		require.NoError(t, err)
		all[a.Owner] = a.Prefixes[0]
	}
	require.NotEmpty(t, all)
	plan, err := second.PlanRenumber(t.Context(), from, to)
	require.NoError(t, err)
	require.True(t, plan.OK(), "%v", plan)

	require.NoError(t, first.Renumber(t.Context(), from, to))
	for owner, old := range all {
		moved, _ := n.New(old)
		for _, side := range []netip.Prefix{old, moved} {
			a := holder(t, second, side.Addr(), owner)
			require.Equal(t, []netip.Prefix{old}, a.Prefixes)
			require.Equal(t, []netip.Prefix{moved}, a.Beside)
		}
	}
	granted, err := second.Allocate(t.Context(), pool.Claim{Owner: "meanwhile", TTL: time.Hour})
	require.NoError(t, err)
	all["meanwhile"] = granted.Prefixes[0]
	require.Len(t, granted.Beside, 1)

	require.NoError(t, second.FinishRenumber(t.Context()))
	for owner, old := range all {
		moved, _ := n.New(old)
		a := holder(t, first, moved.Addr(), owner)
		require.Equal(t, []netip.Prefix{moved}, a.Prefixes)
		require.Empty(t, a.Beside)
		_, err = first.Get(t.Context(), pool.Held{Addr: old.Addr()})
		require.ErrorIs(t, err, pool.ErrNotFound)
	}
	info, err := first.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.Renumbering)
	require.Equal(t, "10.2.0.0/26", cidr.FormatRange(info.Spec.Ranges[0]))
}

// sharers is how many owners of each handle share an address in [Operators].
const sharers = 6

// sharer is a claim by the share key that they name.
func sharer(handle, i int) pool.Claim {
	return pool.Claim{Owner: fmt.Sprint("sharer ", handle, "/", i), Share: "web, \"ü\"", TTL: time.Hour}
}

// shares has owners of both handles share one address, all at once: each is found at it, it counts once, and nobody
// else gets it.
func shares(t *testing.T, handles ...*pool.Pool) {
	t.Helper()
	before, err := handles[0].Info(t.Context())
	require.NoError(t, err)
	var all sync.WaitGroup
	for h, p := range handles {
		for i := range sharers {
			all.Go(func() {
				if _, err := p.Allocate(t.Context(), sharer(h, i)); err != nil {
					t.Errorf("sharer %d/%d: %v", h, i, err)
				}
			})
		}
	}
	all.Wait()
	one, err := handles[0].Get(t.Context(), pool.Held{Owner: sharer(1, 0).Owner})
	require.NoError(t, err)
	holders, err := handles[1].Holders(t.Context(), one.Addrs()[0])
	require.NoError(t, err)
	require.Len(t, holders, sharers*len(handles))
	for _, a := range holders {
		require.Equal(t, one.Prefixes, a.Prefixes)
		require.Equal(t, one.Share, a.Share)
	}
	after, err := handles[1].Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, before.StatsOf(pool.IPv4).Used.Add(cidr.CountOf(1)), after.StatsOf(pool.IPv4).Used)
	require.Equal(t, before.Holders+len(holders), after.Holders)
	that := []pool.Request{{Exact: one.Prefixes[0]}}
	_, err = handles[0].Allocate(t.Context(), pool.Claim{Owner: "other", Requests: that})
	require.ErrorIs(t, err, pool.ErrTaken)
	require.ErrorContains(t, err, "shared by the key")
}

// released has those that share an address release it, each through the handle that did not claim it, all at once. The
// address is withheld only after the last.
func released(t *testing.T, handles ...*pool.Pool) {
	t.Helper()
	before, err := handles[0].Info(t.Context())
	require.NoError(t, err)
	last := sharer(0, 0).Owner
	var all sync.WaitGroup
	for h, p := range handles {
		for i := range sharers {
			if owner := sharer(1-h, i).Owner; owner != last {
				all.Go(func() {
					if _, err := p.Release(t.Context(), pool.Held{Owner: owner}); err != nil {
						t.Errorf("%s: %v", owner, err)
					}
				})
			}
		}
	}
	all.Wait()
	renewed, err := handles[1].Renew(t.Context(), pool.Held{Owner: last}, 2*time.Hour)
	require.NoError(t, err)
	holders, err := handles[0].Holders(t.Context(), renewed.Addrs()[0])
	require.NoError(t, err)
	require.Equal(t, []pool.Allocation{renewed}, holders)
	_, err = handles[1].Release(t.Context(), pool.Held{Owner: last})
	require.NoError(t, err)
	after, err := handles[0].Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, before.StatsOf(pool.IPv4).Cooling.Add(cidr.CountOf(1)), after.StatsOf(pool.IPv4).Cooling)
}

// history has two handles give an address to one owner after the other, more often than the history is long, and asks
// for the latest by owner, address, label and time; then it forgets them.
func history(t *testing.T, open func() store.Store) {
	t.Helper()
	spec, err := pool.ParseSpec("10.2.0.0/24")
	require.NoError(t, err)
	spec.History, spec.HistoryMost = time.Hour, 50
	s := open()
	first, err := pool.Create(t.Context(), s, "remembering", spec, nil)
	require.NoError(t, err)
	second, err := pool.Open(t.Context(), open(), "remembering", nil)
	require.NoError(t, err)
	handles, addr := []*pool.Pool{first, second}, netip.MustParseAddr("10.2.0.60")
	labels := map[string]string{"rack": "r 1/ü"}
	for i := range 60 {
		owner := fmt.Sprintf("tenure/%02d", i)
		claim := pool.Claim{Owner: owner, Requests: []pool.Request{pool.ExactAddr(addr)}, Labels: labels, TTL: time.Hour}
		_, err := handles[i%2].Allocate(t.Context(), claim)
		require.NoError(t, err)
		_, err = handles[(i+1)%2].Release(t.Context(), pool.Held{Owner: owner})
		require.NoError(t, err)
	}
	_, err = handles[0].Allocate(t.Context(), pool.Claim{Owner: "present", Requests: []pool.Request{pool.ExactAddr(addr)}})
	require.NoError(t, err)
	past := func(q pool.HistoryQuery) (owners []string) {
		for tenure, err := range handles[1].History(t.Context(), q) {
			require.NoError(t, err)
			require.Equal(t, tenure.Owner == "present", tenure.To.IsZero())
			require.False(t, tenure.To.Before(tenure.Created) && !tenure.To.IsZero())
			owners = append(owners, tenure.Owner)
		}
		return owners
	}
	var latest []string
	for i := range 50 {
		latest = append(latest, fmt.Sprintf("tenure/%02d", 10+i))
	}
	require.Equal(t, latest, past(pool.HistoryQuery{Labels: labels}))
	require.Equal(t, append(latest, "present"), past(pool.HistoryQuery{Addr: addr}))
	require.Equal(t, []string{"tenure/33"}, past(pool.HistoryQuery{Owner: "tenure/33"}))
	require.Empty(t, past(pool.HistoryQuery{Addr: addr.Next()}))
	require.Empty(t, past(pool.HistoryQuery{Addr: addr, Until: time.Now().Add(-time.Hour)}))
	require.Equal(t, latest, past(pool.HistoryQuery{})[:50])
	n, err := pool.ForgetHistory(t.Context(), s, handles[0].Name(), time.Now().Add(time.Hour), nil)
	require.NoError(t, err)
	require.Equal(t, 50, n)
	require.Equal(t, []string{"present"}, past(pool.HistoryQuery{Addr: addr}))
}

// RenumberOne makes a pool with a history in a store, in which one owner is renumbered, for tests of what people ask of
// the store: it has three tenures, of which one goes on.
func RenumberOne(t *testing.T, s store.Store) {
	t.Helper()
	spec, err := pool.ParseSpec("10.0.0.0/24")
	require.NoError(t, err)
	spec.History = time.Hour
	p, err := pool.Create(t.Context(), s, "renumbered", spec, nil)
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "vm"})
	require.NoError(t, err)
	require.NoError(t, p.Renumber(t.Context(), netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("10.9.0.0/24")))
	require.NoError(t, p.FinishRenumber(t.Context()))
}
