package pool_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

const remembered = 30 * time.Minute

// grantOf identifies a grant, which is one tenure unless it was renumbered.
type grantOf struct {
	owner      string
	generation int64
}

// tenureOf identifies a tenure.
type tenureOf struct {
	grantOf
	began time.Time
}

func nameOf(t pool.Tenure) tenureOf { return tenureOf{grantOf{t.Owner, t.Generation}, t.Created} }

// sidesOf are the prefixes of an allocation, and what is beside them.
func sidesOf(a pool.Allocation) []netip.Prefix { return slices.Concat(a.Prefixes, a.Beside) }

// chronicle keeps naively what the history of a pool must be, by looking at the pool after each call.
type chronicle struct {
	now    time.Time
	pools  []*pool.Pool // handles
	store  *store.Memory
	held   map[grantOf]pool.Tenure
	ended  map[tenureOf]pool.Tenure
	ending map[string]pool.End // of the owners whose tenures the present call may end
}

func (c *chronicle) pool(t *rapid.T) *pool.Pool { return rapid.SampledFrom(c.pools).Draw(t, "handle") }

func anyOwner(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "owner")
}

func (c *chronicle) Allocate(t *rapid.T) {
	claim := labelledClaim(anyOwner(t), "node="+rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "node"))
	claim.TTL = time.Duration(rapid.SampledFrom([]int{0, 1, 5}).Draw(t, "minutes")) * time.Minute
	claim.Policy = rapid.SampledFrom([]pool.FamilyPolicy{"", pool.RequireDualStack}).Draw(t, "policy")
	claim.Share = rapid.SampledFrom([]string{"", "web"}).Draw(t, "share")
	_, err := c.pool(t).Allocate(t.Context(), claim)
	requireOneOf(t, err, pool.ErrExhausted, pool.ErrHeld, pool.ErrShared)
}

func (c *chronicle) Release(t *rapid.T) {
	owner := anyOwner(t)
	c.ending[owner] = pool.Released
	_, err := c.pool(t).Release(t.Context(), pool.Held{Owner: owner, Optional: true})
	requireOneOf(t, err)
}

func (c *chronicle) Decline(t *rapid.T) {
	owner := anyOwner(t)
	c.ending[owner] = pool.Declined
	if c.goesOnWithout(owner) {
		c.ending[owner] = pool.Released
	}
	_, err := c.pool(t).Decline(t.Context(), pool.Held{Owner: owner, Optional: true}, time.Minute)
	requireOneOf(t, err)
}

// goesOnWithout reports whether others share what the owner holds.
func (c *chronicle) goesOnWithout(owner string) bool {
	var sharers []string
	for g, a := range c.held {
		if a.Share != "" {
			sharers = append(sharers, g.owner)
		}
	}
	return len(sharers) > 1 && slices.Contains(sharers, owner)
}

func (c *chronicle) Renew(t *rapid.T) {
	_, err := c.pool(t).Renew(t.Context(), pool.Held{Owner: anyOwner(t), Optional: true}, 3*time.Minute)
	requireOneOf(t, err)
}

func (c *chronicle) Expire(t *rapid.T) {
	_, err := c.pool(t).Expire(t.Context())
	requireOneOf(t, err)
}

// Transfer gives what one owner holds to another one, in one commit.
func (c *chronicle) Transfer(t *rapid.T) {
	p, from, to := c.pool(t), anyOwner(t), anyOwner(t)
	a, err := p.Get(t.Context(), pool.Held{Owner: from})
	if err != nil || from == to {
		t.Skip("nothing to transfer")
	}
	c.ending[from] = pool.Released
	claim := pool.Claim{Owner: to, Requests: exactly(a.Prefixes...)}
	_, err = p.All(t.Context(), pool.Release(pool.Held{Owner: from}), pool.Allocate(claim))
	requireOneOf(t, err, pool.ErrHeld, pool.ErrTaken, pool.ErrExhausted, pool.ErrNotFound)
}

// Renumber begins a renumbering, of one family or the other, or ends one.
func (c *chronicle) Renumber(t *rapid.T) {
	c.now = c.now.Add(time.Millisecond) // so that tenures do not end when they begin
	p := c.pool(t)
	info, err := p.Info(t.Context())
	require.NoError(t, err)
	switch {
	case info.Renumbering == (pool.Renumbering{}):
		family := rapid.SampledFrom([]string{"10.0.0.%x/30", "fd00::%x/126"}).Draw(t, "family")
		from, to := prefix(fmt.Sprintf(family, 0)), prefix(fmt.Sprintf(family, 4))
		if !slices.ContainsFunc(info.Spec.Ranges, func(r netipx.IPRange) bool { return r.From() == from.Addr() }) {
			from, to = to, from
		}
		requireOneOf(t, p.Renumber(t.Context(), from, to))
	case rapid.Bool().Draw(t, "cancel"):
		requireOneOf(t, p.CancelRenumber(t.Context()))
	default:
		requireOneOf(t, p.FinishRenumber(t.Context()))
	}
}

func (c *chronicle) Tick(t *rapid.T) {
	c.now = c.now.Add(time.Duration(rapid.IntRange(1, 12).Draw(t, "minutes")) * time.Minute)
}

func requireOneOf(t *rapid.T, err error, may ...error) {
	if err != nil {
		require.True(t, slices.ContainsFunc(may, func(e error) bool { return errors.Is(err, e) }), "%v", err)
	}
}

// Check compares the history with what was seen.
func (c *chronicle) Check(t *rapid.T) {
	plain, err := pool.Open(t.Context(), c.store, "blue", &pool.Options{Clock: func() time.Time { return c.now }})
	require.NoError(t, err)
	held := map[grantOf]pool.Tenure{}
	for a, err := range plain.Allocations(t.Context()) {
		require.NoError(t, err)
		held[grantOf{a.Owner, a.Generation}] = pool.Tenure{Allocation: a}
	}
	for g, past := range c.held {
		now, goesOn := held[g]
		if goesOn && slices.Equal(sidesOf(now.Allocation), sidesOf(past.Allocation)) {
			now.Created = past.Created
			held[g] = now
			continue
		}
		past.To, past.End = c.now, c.ending[g.owner]
		if goesOn {
			past.End, now.Created = pool.Renumbered, c.now
			held[g] = now
		}
		if past.Expired(c.now) {
			past.To = past.Expires
		}
		if past.To.Before(past.Created) {
			past.To = past.Created
		}
		if past.End == "" || past.End != pool.Declined && past.Expired(c.now) {
			past.End = pool.Lapsed
		}
		c.ended[nameOf(past)] = past
	}
	c.held = held
	clear(c.ending)
	want := maps.Clone(c.ended)
	for _, goesOn := range held {
		want[nameOf(goesOn)] = goesOn
	}
	all := tenures(t, plain, pool.HistoryQuery{})
	for i, tenure := range all {
		name := nameOf(tenure)
		require.Equal(t, want[name], tenure)
		delete(want, name)
		require.False(t, i > 0 && all[i-1].To.IsZero() && !tenure.To.IsZero(), "those that go on come last")
	}
	c.ask(t, plain, all)
	for _, missing := range want {
		require.False(t, missing.To.IsZero(), "%v is missing", missing)
		require.False(t, missing.To.Add(remembered).After(c.now), "%v is missing", missing)
	}
}

// ask asks for some tenures of all there are, which come the oldest first.
func (c *chronicle) ask(t *rapid.T, p *pool.Pool, all []pool.Tenure) {
	var q pool.HistoryQuery
	if rapid.Bool().Draw(t, "by owner") {
		q.Owner = anyOwner(t)
	}
	if rapid.Bool().Draw(t, "by address") {
		q.Addr = rapid.SampledFrom([]netip.Addr{
			addr("10.0.0.1"), addr("10.0.0.2"), addr("10.0.0.5"), addr("fd00::1%eth0"), addr("fd00::5"),
		}).Draw(t, "addr")
	}
	if rapid.Bool().Draw(t, "by label") {
		q.Labels = map[string]string{"node": "n1"}
	}
	if rapid.Bool().Draw(t, "by time") {
		q.From = c.now.Add(-time.Duration(rapid.IntRange(0, 40).Draw(t, "minutes ago")) * time.Minute)
		q.Until = q.From.Add(time.Duration(rapid.IntRange(0, 9).Draw(t, "minutes long")) * time.Minute)
	}
	want := slices.DeleteFunc(slices.Clone(all), func(past pool.Tenure) bool {
		holds := func(p netip.Prefix) bool { return p.Contains(q.Addr.WithZone("")) }
		return q.Owner != "" && past.Owner != q.Owner ||
			q.Addr.IsValid() && !slices.ContainsFunc(sidesOf(past.Allocation), holds) ||
			q.Labels != nil && past.Labels["node"] != "n1" ||
			!q.From.IsZero() && (past.Created.After(q.Until) || !past.To.IsZero() && !past.To.After(q.From))
	})
	got := tenures(t, p, q)
	require.ElementsMatch(t, want, got)
	shared := func(past pool.Tenure) bool { return past.Share != "" }
	if q.Owner != "" || q.Addr.IsValid() && !slices.ContainsFunc(got, shared) {
		for i := range got[:max(0, len(got)-1)] {
			require.False(t, got[i].To.IsZero() || got[i].To.After(got[i+1].Created), "the oldest first")
		}
	}
}

func tenures(t require.TestingT, p *pool.Pool, q pool.HistoryQuery) (all []pool.Tenure) {
	for tenure, err := range p.History(context.Background(), q) {
		require.NoError(t, err)
		all = append(all, tenure)
	}
	return all
}

// TestHistoryIsWhatHappened runs calls through two handles, of which one loses answers of the store.
func TestHistoryIsWhatHappened(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &chronicle{
			now: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC), store: store.NewMemory(),
			held: map[grantOf]pool.Tenure{}, ended: map[tenureOf]pool.Tenure{}, ending: map[string]pool.End{},
		}
		options := &pool.Options{Clock: func() time.Time { return c.now }, Backoff: time.Nanosecond}
		spec := specOf("10.0.0.0/30", "fd00::/126")
		spec.IPv4.AllocateReserved, spec.IPv6.AllocateReserved = true, true
		spec.History = remembered
		spec.Cooldown = time.Duration(rapid.SampledFrom([]int{0, 2}).Draw(t, "cooldown")) * time.Minute
		p, err := pool.Create(context.Background(), c.store, "blue", spec, options)
		require.NoError(t, err)
		injector := &faults.Injector{}
		lossy, err := pool.Open(context.Background(), injector.Wrap(c.store), "blue", options)
		require.NoError(t, err)
		c.pools = []*pool.Pool{p, lossy}
		injector.Choose = func(call faults.Call) faults.Fault {
			if call.Method == faults.Commit && call.N%5 == 3 {
				return faults.Fault{Effect: faults.LoseReply}
			}
			return faults.Fault{}
		}
		t.Repeat(map[string]func(*rapid.T){
			"allocate": c.Allocate, "allocate too": c.Allocate, "release": c.Release, "decline": c.Decline,
			"renew": c.Renew, "expire": c.Expire, "transfer": c.Transfer, "time passes": c.Tick, "": c.Check,
			"renumber": c.Renumber,
		})
	})
}

// TestHistoryIsForgottenInPassing counts the records: what is due goes with what comes, and no faster.
func TestHistoryIsForgottenInPassing(t *testing.T) {
	now := time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	s := store.NewMemory()
	spec := specOf("10.0.0.0/24")
	spec.History = remembered
	p, err := pool.Create(t.Context(), s, "blue", spec, &pool.Options{Clock: func() time.Time { return now }})
	require.NoError(t, err)
	use := func(owner string) {
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner})
		require.NoError(t, err)
		_, err = p.Release(t.Context(), pool.Held{Owner: owner})
		require.NoError(t, err)
		now = now.Add(time.Second)
	}
	records := func() (n int) {
		for _, err := range s.List(t.Context(), store.KindHistory, "blue") {
			require.NoError(t, err)
			n++
		}
		return n
	}
	for i := range 20 {
		use(fmt.Sprint("early ", i))
	}
	require.Equal(t, 20, records())
	now = now.Add(remembered)
	for i := range 10 {
		use(fmt.Sprint("late ", i))
		require.Equal(t, 20-(i+1), records())
	}
	use("last")
	require.Equal(t, 11, records())

	var owners []string
	q := pool.HistoryQuery{Addr: addr("10.0.0.0"), From: now.Add(-3 * time.Second), Until: now}
	for tenure, err := range p.History(t.Context(), q) {
		require.NoError(t, err)
		owners = append(owners, tenure.Owner)
	}
	require.Equal(t, []string{"late 9", "last"}, owners)
}

func TestHistoryNeedsAStore(t *testing.T) {
	spec := specOf("10.0.0.0/24")
	p, err := pool.New(spec, nil)
	require.NoError(t, err)
	for _, err := range p.History(t.Context(), pool.HistoryQuery{}) {
		require.ErrorIs(t, err, pool.ErrInvalid)
	}
	spec.History = time.Hour
	_, err = pool.New(spec, nil)
	require.ErrorIs(t, err, pool.ErrInvalid)
	require.ErrorIs(t, p.Update(t.Context(), spec), pool.ErrInvalid)
	spec.History = time.Nanosecond
	require.ErrorIs(t, spec.Validate(), pool.ErrInvalid)
}
