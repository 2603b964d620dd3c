package poolfake_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/poolfake"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func specOf(t testing.TB, texts ...string) pool.Spec {
	t.Helper()
	spec, err := pool.ParseSpec(texts...)
	require.NoError(t, err)
	return spec
}

// created returns a fake, and a pool of that spec in it.
func created(t testing.TB, spec pool.Spec) (*poolfake.Fake, *pool.Pool) {
	t.Helper()
	fake := poolfake.New(noon)
	p, err := pool.Create(t.Context(), fake.Store(), "pods", spec, fake.Options())
	require.NoError(t, err)
	return fake, p
}

// two returns a fake and two pools that calls may name together, "pods" and "other".
func two(t testing.TB) (fake *poolfake.Fake, p, q *pool.Pool) {
	t.Helper()
	fake = poolfake.New(noon)
	s := fake.Store()
	p, err := pool.Create(t.Context(), s, "pods", specOf(t, "10.0.0.0/16"), fake.Options())
	require.NoError(t, err)
	q, err = pool.Create(t.Context(), s, "other", specOf(t, "10.1.0.0/16"), fake.Options())
	require.NoError(t, err)
	return fake, p, q
}

func allocate(t testing.TB, p *pool.Pool, owner string) pool.Allocation {
	t.Helper()
	a, err := p.Allocate(t.Context(), pool.Claim{Owner: owner})
	require.NoError(t, err)
	return a
}

func info(t testing.TB, p *pool.Pool) pool.Info {
	t.Helper()
	i, err := p.Info(t.Context())
	require.NoError(t, err)
	return i
}

// requireSound checks that nothing is wrong with the pool.
func requireSound(t testing.TB, p *pool.Pool) {
	t.Helper()
	report, err := p.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report)
}

func TestHandlesShareThePools(t *testing.T) {
	fake, p := created(t, specOf(t, "192.0.2.0/24"))
	s := fake.Store()
	other, err := pool.Open(t.Context(), s, "pods", fake.Options())
	require.NoError(t, err)
	require.Equal(t, allocate(t, p, "a").Addrs(), allocate(t, other, "a").Addrs())
	require.NotEqual(t, allocate(t, p, "b").Addrs(), allocate(t, other, "c").Addrs())
	require.NoError(t, s.Close())
	_, err = other.Allocate(t.Context(), pool.Claim{Owner: "d"})
	require.ErrorIs(t, err, store.ErrClosed)
	allocate(t, p, "d")
}

func TestTimeStandsStillUntilItIsMoved(t *testing.T) {
	fake, p := created(t, specOf(t, "192.0.2.1"))
	lease := func(owner string) error {
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner, TTL: time.Hour})
		return err
	}
	require.NoError(t, lease("a"))
	require.Equal(t, noon, fake.Now())
	fake.Advance(59 * time.Minute)
	require.ErrorIs(t, lease("b"), pool.ErrExhausted)
	fake.Advance(time.Minute)
	require.Equal(t, noon.Add(time.Hour), fake.Now())
	require.NoError(t, lease("b"))
	fake.Advance(-3 * time.Hour)
	require.ErrorIs(t, lease("c"), pool.ErrExhausted)
	a, err := p.Get(t.Context(), pool.Held{Owner: "b"})
	require.NoError(t, err)
	require.Equal(t, noon.Add(2*time.Hour), a.Expires)
	requireSound(t, p)
}

// TestAdvanceWakesAtOnce expects that nobody waits for a time-out.
func TestAdvanceWakesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, p := created(t, specOf(t, "192.0.2.1"))
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: "a", TTL: time.Hour})
		require.NoError(t, err)
		begin, done := time.Now(), make(chan error)
		go func() {
			_, err := p.AllocateWait(t.Context(), pool.Claim{Owner: "b"})
			done <- err
		}()
		synctest.Wait()
		fake.Advance(time.Hour)
		require.NoError(t, <-done)
		require.Equal(t, begin, time.Now())
	})
}

// TestAdvanceWakesWhoWaits lets the clock move at any moment of calls that wait, on handles of one store and of two.
func TestAdvanceWakesWhoWaits(t *testing.T) {
	for range 50 {
		fake, p := created(t, specOf(t, "192.0.2.1-192.0.2.2"))
		for _, owner := range []string{"a", "b"} {
			_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner, TTL: time.Hour})
			require.NoError(t, err)
		}
		other, err := pool.Open(t.Context(), fake.Store(), "pods", fake.Options())
		require.NoError(t, err)
		var wg sync.WaitGroup
		for i, handle := range []*pool.Pool{p, other} {
			wg.Go(func() {
				if _, err := handle.AllocateWait(t.Context(), pool.Claim{Owner: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Go(func() { fake.Advance(time.Hour) })
		wg.Wait()
		requireSound(t, p)
	}
}

// TestAdvanceAmidCommits moves the clock while others commit. Nothing fails or gets lost.
func TestAdvanceAmidCommits(t *testing.T) {
	fake, p := created(t, specOf(t, "10.0.0.0/16"))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				if _, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i, " ", j)}); err != nil {
					t.Error(err)
				}
				fake.Advance(time.Second)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 160, info(t, p).Holders)
	require.Equal(t, noon.Add(160*time.Second), fake.Now())
	requireSound(t, p)
}

// specs are pools in which something is in the way of filling them.
func specs(t testing.TB) map[string]pool.Spec {
	bounded := specOf(t, "10.0.0.0/16", "2001:db8::/48")
	bounded.IPv4 = pool.FamilySpec{Bits: 24, MinBits: 24, MaxBits: 28}
	bounded.IPv6 = pool.FamilySpec{Bits: 64, MinBits: 64, MaxBits: 64}
	banded := specOf(t, "192.0.2.0/24")
	banded.Bands = []pool.Band{{Name: "static", Exclusive: true, Ranges: []netipx.IPRange{
		netipx.MustParseIPRange("192.0.2.1-192.0.2.16"),
	}}}
	banded.Cooldown, banded.Scope, banded.Strategy = time.Hour, "team", pool.RandomFree
	inNetwork := specOf(t, "192.0.2.0/24", "2001:db8::/64")
	inNetwork.Network = "blue"
	single := specOf(t, "2001:db8::/64")
	single.Subnets[0].Gateway = netip.MustParseAddr("2001:db8::1")
	return map[string]pool.Spec{
		"both families": specOf(t, "192.0.2.0/24", "2001:db8::/64"), "bounded": bounded, "banded": banded,
		"in a network": inNetwork, "IPv6": single, "empty": {Families: []pool.Family{pool.IPv4}},
	}
}

// claims are the kinds of claims.
func claims() map[string]pool.Claim {
	within := &netipx.IPSetBuilder{}
	within.AddPrefix(netip.MustParsePrefix("192.0.2.0/25"))
	set, _ := within.IPSet()
	ask := func(r ...pool.Request) pool.Claim { return pool.Claim{Requests: r} }
	return map[string]pool.Claim{
		"plain": {}, "both": {Policy: pool.RequireDualStack}, "preferred": {Policy: pool.PreferDualStack},
		"IPv6": ask(pool.Request{Family: pool.IPv6}), "short": ask(pool.Request{Bits: 28}),
		"never": ask(pool.Request{Bits: 2}), "exact": ask(pool.ExactAddr(netip.MustParseAddr("192.0.2.77"))),
		"gateway": ask(pool.ExactAddr(netip.MustParseAddr("2001:db8::1"))),
		"outside": ask(pool.ExactAddr(netip.MustParseAddr("198.51.100.1"))),
		"within":  ask(pool.Request{Within: set}), "band": ask(pool.Request{Band: "static"}), "none": ask(pool.Request{}),
		"two": ask(pool.Request{}, pool.Request{}), "scope": {Scope: "other"},
		"invalid": ask(pool.Request{Bits: -1}),
	}
}

func TestFilledPoolIsFullUntilItIsEmptied(t *testing.T) {
	for name, spec := range specs(t) {
		t.Run(name, func(t *testing.T) {
			fake, p := created(t, spec)
			if spec.Network != "" {
				external := []netipx.IPRange{netipx.MustParseIPRange("192.0.2.100-192.0.2.120")}
				require.NoError(t, pool.SetExternal(t.Context(), fake.Store(), spec.Network, external, false, nil))
			}
			held, err := p.Allocate(t.Context(), pool.Claim{Owner: "held", Scope: spec.Scope})
			if name != "empty" {
				require.NoError(t, err)
			}
			before := info(t, p)
			for range 2 {
				require.NoError(t, fake.Fill(t.Context(), "pods"))
				filled := info(t, p)
				require.True(t, filled.Spec.Equal(before.Spec))
				for _, s := range filled.Stats {
					require.True(t, s.Free.IsZero())
					require.Equal(t, s.Total.Sub(s.Reserved), s.Used)
				}
				_, err = p.Allocate(t.Context(), pool.Claim{Owner: "new", Scope: spec.Scope})
				require.ErrorIs(t, err, pool.ErrExhausted)
				_, err = p.DryRun(t.Context(), pool.Claim{Owner: "new", Scope: spec.Scope})
				require.ErrorIs(t, err, pool.ErrExhausted)
				if name != "empty" {
					again, err := p.Allocate(t.Context(), pool.Claim{Owner: "held", Scope: spec.Scope})
					require.NoError(t, err)
					require.Equal(t, held.Prefixes, again.Prefixes)
				}
				requireSound(t, p)
			}
			require.NoError(t, fake.Empty(t.Context(), "pods"))
			after := info(t, p)
			require.True(t, after.Spec.Equal(before.Spec))
			require.Equal(t, before.Stats, after.Stats)
			require.Equal(t, before.Holders, after.Holders)
			requireSound(t, p)
		})
	}
}

func TestFillACordonedPool(t *testing.T) {
	spec := specOf(t, "192.0.2.0/24")
	spec.Cordoned = true
	fake, p := created(t, spec)
	require.NoError(t, fake.Fill(t.Context(), "pods"))
	filled := info(t, p)
	require.True(t, filled.StatsOf(pool.IPv4).Free.IsZero())
	require.True(t, filled.Spec.Equal(spec))
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "new"})
	require.ErrorIs(t, err, pool.ErrCordoned)
	require.NoError(t, fake.Empty(t.Context(), "pods"))
	require.Zero(t, info(t, p).Holders)
}

func TestFillADelegatedPoolAndManyHoles(t *testing.T) {
	fake, parent := created(t, specOf(t, "10.0.0.0/16"))
	claim := pool.Claim{Owner: "node", Requests: []pool.Request{{Bits: 18}}}
	p, _, err := pool.Delegate(t.Context(), parent, claim, "node", pool.Spec{}, fake.Options())
	require.NoError(t, err)
	holes := pool.Claim{Owner: "holes"}
	free, err := p.FreeSet(t.Context(), pool.IPv4)
	require.NoError(t, err)
	for addr := free.Ranges()[0].From(); len(holes.Requests) < pool.MaxRequests; addr = addr.Next().Next() {
		holes.Requests = append(holes.Requests, pool.ExactAddr(addr))
	}
	_, err = p.Allocate(t.Context(), holes)
	require.NoError(t, err)
	before := info(t, p).Stats
	require.NoError(t, fake.Fill(t.Context(), "node"))
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "new"})
	require.ErrorIs(t, err, pool.ErrExhausted)
	allocate(t, parent, "new")
	require.NoError(t, fake.Empty(t.Context(), "node"))
	require.Equal(t, before, info(t, p).Stats)
	for _, do := range []func(context.Context, string) error{fake.Fill, fake.Empty} {
		require.ErrorIs(t, do(t.Context(), "none"), pool.ErrNoPool)
	}
}

// TestFillADrainedPool has addresses out of range, and a cooldown and bounds, for which the spec changes for a moment.
func TestFillADrainedPool(t *testing.T) {
	fake, p := created(t, specOf(t, "192.0.2.0/24"))
	allocate(t, p, "a")
	narrow := specOf(t, "192.0.2.128-192.0.2.130")
	narrow.Cooldown, narrow.IPv4.MinBits = time.Hour, 32
	require.NoError(t, p.Drain(t.Context(), narrow))
	before := info(t, p)
	require.EqualValues(t, 1, before.StatsOf(pool.IPv4).OutOfRange.Uint64())
	require.NoError(t, fake.Fill(t.Context(), "pods"))
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "new"})
	require.ErrorIs(t, err, pool.ErrExhausted)
	require.NoError(t, fake.Empty(t.Context(), "pods"))
	require.Equal(t, before.Stats, info(t, p).Stats)
	requireSound(t, p)
}

// TestFillTakesWhatHasEnded does not take leases that go on.
func TestFillTakesWhatHasEnded(t *testing.T) {
	fake, p := created(t, specOf(t, "192.0.2.1-192.0.2.2"))
	for i, owner := range []string{"short", "long"} {
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner, TTL: time.Duration(i+1) * time.Hour})
		require.NoError(t, err)
	}
	fake.Advance(time.Hour)
	require.NoError(t, fake.Fill(t.Context(), "pods"))
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "new"})
	var exhausted *pool.Error
	require.ErrorAs(t, err, &exhausted)
	require.Equal(t, noon.Add(2*time.Hour), exhausted.Next)
	fake.Advance(time.Hour)
	allocate(t, p, "new")
}

func TestEmptyServesThoseThatWait(t *testing.T) {
	fake, p := created(t, specOf(t, "192.0.2.0/24"))
	require.NoError(t, fake.Fill(t.Context(), "pods"))
	done := make(chan error)
	go func() {
		_, err := p.AllocateWait(t.Context(), pool.Claim{Owner: "waits"})
		done <- err
	}()
	require.NoError(t, fake.Empty(t.Context(), "pods"))
	require.NoError(t, <-done)
}

// TestRefusalsAreThoseOfAFullPool compares, for each kind of claim and pool, the refusal with that of a pool that is
// full.
func TestRefusalsAreThoseOfAFullPool(t *testing.T) {
	for name, spec := range specs(t) {
		for kind, claim := range claims() {
			t.Run(name+"/"+kind, func(t *testing.T) {
				claim.Owner = "new"
				if claim.Scope == "" {
					claim.Scope = spec.Scope
				}
				refusing, p := created(t, spec)
				refusing.Refuse(func(name string, c pool.Claim) bool { return name == "pods" && c.Owner == "new" })
				before := info(t, p)
				_, got := p.Allocate(t.Context(), claim)
				require.Equal(t, before, info(t, p))
				filled, full := created(t, spec)
				require.NoError(t, filled.Fill(t.Context(), "pods"))
				_, want := full.Allocate(t.Context(), claim)
				require.Error(t, want)
				require.EqualError(t, got, want.Error())
				require.Equal(t, causeOf(t, want), causeOf(t, got))
			})
		}
	}
}

// causeOf returns what an error of a pool is about, and its cause if that has a type of its own.
func causeOf(t *testing.T, err error) []any {
	t.Helper()
	var failed *pool.Error
	require.ErrorAs(t, err, &failed)
	cause := []any{failed.Op, failed.Pool, failed.Owner, failed.Prefix}
	if errors.Is(err, pool.ErrExhausted) {
		return append(cause, failed.Family, failed.Bits, failed.Free, failed.Total, failed.Never)
	}
	if errors.Is(err, pool.ErrTaken) {
		return append(cause, failed.Until, failed.Next)
	}
	return append(cause, errors.Is(err, pool.ErrInvalid), errors.Is(err, pool.ErrScope))
}

func TestRefuseOnlyWhatItIsAskedFor(t *testing.T) {
	fake, p := created(t, specOf(t, "10.0.0.0/16"))
	held := allocate(t, p, "bad holder")
	count := 0
	fake.Refuse(func(_ string, c pool.Claim) bool { count++; return c.Owner[:3] == "bad" })
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			owner := []string{"good ", "bad "}[i%2] + fmt.Sprint(i)
			_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner})
			if errors.Is(err, pool.ErrExhausted) != (i%2 == 1) || i%2 == 0 && err != nil {
				t.Error(owner, err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 64, count, "one at a time")
	require.Equal(t, held.Addrs(), allocate(t, p, "bad holder").Addrs())
	require.Equal(t, 33, info(t, p).Holders)
	_, err := p.Release(t.Context(), pool.Held{Owner: "bad holder"})
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "bad holder"})
	require.ErrorIs(t, err, pool.ErrExhausted)
	fake.Refuse(nil)
	allocate(t, p, "bad holder")
	requireSound(t, p)
}

func TestRefuseCallsOfSeveralSteps(t *testing.T) {
	fake, p, q := two(t)
	fake.Refuse(func(name string, c pool.Claim) bool { return name == "other" })
	steps := []pool.Step{
		pool.Allocate(pool.Claim{Owner: "a"}), pool.Allocate(pool.Claim{Owner: "b"}).In(q),
	}
	_, err := p.All(t.Context(), steps...)
	require.ErrorIs(t, err, pool.ErrExhausted)
	require.Zero(t, info(t, p).Holders)
	_, _, err = pool.Delegate(t.Context(), q, pool.Claim{Owner: "c"}, "c", pool.Spec{}, fake.Options())
	require.ErrorIs(t, err, pool.ErrExhausted)
	var ended error
	for result, err := range q.Each(t.Context(), slices.Values([]pool.Step{pool.Allocate(pool.Claim{Owner: "d"})})) {
		require.ErrorIs(t, errors.Join(result.Err, err), pool.ErrExhausted)
		ended = err
	}
	require.ErrorIs(t, ended, pool.ErrExhausted)
	require.Zero(t, info(t, q).Holders)
	fake.Refuse(nil)
	_, err = p.All(t.Context(), steps...)
	require.NoError(t, err)
}

// waiting begins a call of AllocateWait that is refused, and returns when the fake knows of it.
func waiting(ctx context.Context, fake *poolfake.Fake, p *pool.Pool) (done chan error) {
	asked := make(chan struct{}, 1)
	fake.Refuse(func(_ string, c pool.Claim) bool {
		if c.Owner == "waits" {
			select {
			case asked <- struct{}{}:
			default:
			}
		}
		return c.Owner == "waits"
	})
	done = make(chan error)
	go func() {
		_, err := p.AllocateWait(ctx, pool.Claim{Owner: "waits"})
		done <- err
	}()
	<-asked
	return done
}

func TestRefusedCallsThatWait(t *testing.T) {
	fake, p := created(t, specOf(t, "192.0.2.0/24"))
	ctx, cancel := context.WithCancel(t.Context())
	done := waiting(ctx, fake, p)
	cancel()
	err := <-done
	require.ErrorIs(t, err, context.Canceled)
	full, q := created(t, specOf(t, "192.0.2.0/24"))
	require.NoError(t, full.Fill(t.Context(), "pods"))
	_, err = q.AllocateWait(ctx, pool.Claim{Owner: "waits"})
	require.ErrorIs(t, err, context.Canceled, "at once")

	done = waiting(t.Context(), fake, p)
	allocate(t, p, "other")
	fake.Refuse(func(_ string, c pool.Claim) bool { return c.Owner == "other" })
	require.NoError(t, <-done)
	require.Equal(t, 2, info(t, p).Holders)
}

// TestWaitsEndAsThoseOfAFullPool compares the errors.
func TestWaitsEndAsThoseOfAFullPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusing, p := created(t, specOf(t, "192.0.2.0/24"))
		refusing.Refuse(func(string, pool.Claim) bool { return true })
		filled, full := created(t, specOf(t, "192.0.2.0/24"))
		require.NoError(t, filled.Fill(t.Context(), "pods"))
		errs := make([]error, 2)
		for i, waits := range []*pool.Pool{p, full} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			_, errs[i] = waits.AllocateWait(ctx, pool.Claim{Owner: "waits"})
			cancel()
			require.ErrorIs(t, errs[i], context.DeadlineExceeded)
			require.ErrorIs(t, errs[i], pool.ErrExhausted)
		}
		require.EqualError(t, errs[0], errs[1].Error())
	})
}

func TestBusy(t *testing.T) {
	fake, p := created(t, specOf(t, "192.0.2.0/24"))
	allocate(t, p, "held")
	before := info(t, p)
	fake.Inject(poolfake.Busy)
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.ErrorIs(t, err, pool.ErrBusy)
	_, err = p.Release(t.Context(), pool.Held{Owner: "held"})
	require.ErrorIs(t, err, pool.ErrBusy)
	require.NotErrorIs(t, err, store.ErrUnknown)
	require.Equal(t, before, info(t, p), "which was read")
	fake.Inject(nil)
	allocate(t, p, "a")
}

func TestUnreachable(t *testing.T) {
	fake, p := created(t, specOf(t, "192.0.2.0/24"))
	fake.Inject(poolfake.Unreachable)
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.ErrorIs(t, err, faults.ErrInjected)
	require.NotErrorIs(t, err, store.ErrUnknown)
	_, err = p.Info(t.Context())
	require.ErrorIs(t, err, faults.ErrInjected)
	_, err = pool.Open(t.Context(), fake.Store(), "pods", nil)
	require.ErrorIs(t, err, faults.ErrInjected)
	fake.Inject(nil)
	require.Zero(t, info(t, p).Holders)
}

func TestUnknown(t *testing.T) {
	for _, done := range []bool{true, false} {
		fake, p := created(t, specOf(t, "192.0.2.0/24"))
		fake.Inject(poolfake.Unknown(done))
		info(t, p) // a read is not cut off yet
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: "a"})
		require.ErrorIs(t, err, store.ErrUnknown)
		_, err = p.Info(t.Context())
		require.ErrorIs(t, err, faults.ErrInjected)
		fake.Inject(nil)
		require.Equal(t, done, info(t, p).Holders == 1)
		allocate(t, p, "a") // settles it
		require.Equal(t, 1, info(t, p).Holders)
		requireSound(t, p)
	}
}

func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, p := created(t, specOf(t, "192.0.2.0/24"))
		fake.Inject(poolfake.Slow(5 * time.Second))
		begin := time.Now()
		allocate(t, p, "a")
		require.Equal(t, 5*time.Second, time.Since(begin))
		require.Equal(t, noon, fake.Now())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := p.Info(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// TestInjectNextEndsWithTheCall has each fault end with the call that meets it.
func TestInjectNextEndsWithTheCall(t *testing.T) {
	for want, fault := range map[error]func(faults.Call) faults.Fault{
		pool.ErrBusy: poolfake.Busy, faults.ErrInjected: poolfake.Unreachable, store.ErrUnknown: poolfake.Unknown(false),
	} {
		fake, p, q := two(t)
		fake.InjectNext(fault)
		steps := []pool.Step{
			pool.Allocate(pool.Claim{Owner: "a"}), pool.Allocate(pool.Claim{Owner: "b"}).In(q),
		}
		_, err := p.All(t.Context(), steps...) // which is one call, though both pools are told of it
		require.ErrorIs(t, err, want)
		_, err = p.All(t.Context(), steps...)
		require.NoError(t, err)
		fake.InjectNext(fault)
		fake.Inject(nil)
		allocate(t, p, "b")
		fake.InjectNext(fault)
		fake.Inject(poolfake.Unreachable)
		for range 2 {
			_, err = p.Allocate(t.Context(), pool.Claim{Owner: "c"})
			require.ErrorIs(t, err, faults.ErrInjected)
		}
	}
}

// TestInjectNextLastsForOneOfManyCalls expects that some call meets the faults and that they end, whatever else runs.
func TestInjectNextLastsForOneOfManyCalls(t *testing.T) {
	fake, p := created(t, specOf(t, "10.0.0.0/16"))
	fake.InjectNext(poolfake.Unreachable)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for { // as a program tries again
				_, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i)})
				if err == nil {
					return
				}
				if !errors.Is(err, faults.ErrInjected) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, 32, info(t, p).Holders)
	requireSound(t, p)
}

func TestInjectAnyFaults(t *testing.T) {
	fake, p := created(t, specOf(t, "10.0.0.0/16"))
	fake.Inject(faults.Random(1, faults.Rates{Refuse: 0.2, LoseReply: 0.2, LandLate: 0.2, LoseRequest: 0.1, Read: 0.1}))
	failed := 0
	for i := range 200 {
		if _, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i)}); err != nil {
			failed++
		}
	}
	require.Positive(t, failed)
	fake.Inject(nil)
	requireSound(t, p)
}
