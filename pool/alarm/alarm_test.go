package alarm_test

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/alarm"
	"github.com/ipalloc/ipalloc/pool/poolfake"
	"github.com/ipalloc/ipalloc/store"
)

func specOf(t testing.TB, texts ...string) pool.Spec {
	t.Helper()
	spec, err := pool.ParseSpec(texts...)
	require.NoError(t, err)
	return spec
}

// told are the events of alarms.
type told struct{ events []alarm.Event }

func newAlarms(t testing.TB, rules ...alarm.Rule) (*told, *alarm.Alarms) {
	t.Helper()
	seen := &told{}
	alarms, err := alarm.New(func(e alarm.Event) { seen.events = append(seen.events, e) }, rules...)
	require.NoError(t, err)
	return seen, alarms
}

// take returns the events since the last take, as text.
func (s *told) take() (texts []string) {
	for _, e := range s.events {
		texts = append(texts, e.String())
	}
	s.events = nil
	return texts
}

func allocate(t testing.TB, p *pool.Pool, owners ...string) {
	t.Helper()
	for _, owner := range owners {
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner})
		require.NoError(t, err)
	}
}

func release(t testing.TB, p *pool.Pool, owners ...string) {
	t.Helper()
	for _, owner := range owners {
		_, err := p.Release(t.Context(), pool.Held{Owner: owner})
		require.NoError(t, err)
	}
}

func TestToldOnceAtEachLevel(t *testing.T) {
	seen, alarms := newAlarms(t, alarm.Used(75, 50), alarm.Free(1, 3))
	p, err := pool.Create(t.Context(), store.NewMemory(), "pods", specOf(t, "192.0.2.1-192.0.2.4"),
		&pool.Options{Observer: alarms})
	require.NoError(t, err)
	allocate(t, p, "a", "b")
	require.Empty(t, seen.take())
	allocate(t, p, "c")
	require.Equal(t, []string{
		`pool "pods": IPv4: raised: used 75 % (cleared at 50 %); 1 of 4 addresses are free`,
	}, seen.take())
	for range 3 {
		allocate(t, p, "d")
		release(t, p, "d")
	}
	require.Equal(t, []string{
		`pool "pods": IPv4: raised: fewer than 1 free (cleared at 3); 0 of 4 addresses are free`,
	}, seen.take(), "once")
	release(t, p, "c")
	require.Equal(t, []string{
		`pool "pods": IPv4: cleared: used 75 % (cleared at 50 %); 2 of 4 addresses are free`,
	}, seen.take())
	release(t, p, "b")
	require.Equal(t, []string{
		`pool "pods": IPv4: cleared: fewer than 1 free (cleared at 3); 3 of 4 addresses are free`,
	}, seen.take())
	release(t, p, "a")
	require.Empty(t, seen.take())
}

func TestEachFamilyByItself(t *testing.T) {
	seen, alarms := newAlarms(t, alarm.Used(100, 0).In(pool.IPv6), alarm.Free(1, 1))
	p, err := pool.New(specOf(t, "192.0.2.1", "2001:db8::1"), &pool.Options{Observer: alarms.Named("memory")})
	require.NoError(t, err)
	allocate(t, p, "a")
	require.Equal(t, []string{
		`pool "memory": IPv4: raised: fewer than 1 free (cleared at 1); 0 of 1 addresses are free`,
	}, seen.take())
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "b", Requests: []pool.Request{{Family: pool.IPv6}}})
	require.NoError(t, err)
	require.Equal(t, []string{
		`pool "memory": IPv6: raised: used 100 % in IPv6 (cleared at 0 %); 0 of 1 addresses are free`,
		`pool "memory": IPv6: raised: fewer than 1 free (cleared at 1); 0 of 1 addresses are free`,
	}, seen.take())
	require.NoError(t, p.Drain(t.Context(), specOf(t, "192.0.2.1")))
	require.Len(t, seen.take(), 2, "IPv6 is no longer handed out")
}

func TestRulesThatMakeNoSense(t *testing.T) {
	for _, r := range []alarm.Rule{
		{}, alarm.Used(80, 80), alarm.Used(80, 90), alarm.Used(101, 80), alarm.Used(80, -1), alarm.Used(-1, -2),
		alarm.Used(0, 0), alarm.Free(0, 0), alarm.Free(2, 1), alarm.Free(1, 1).In(5),
	} {
		_, err := alarm.New(func(alarm.Event) {}, r)
		require.ErrorIs(t, err, pool.ErrInvalid, "%v", r)
	}
	_, err := alarm.New(nil, alarm.Used(80, -1))
	require.ErrorContains(t, err, "Used(80, -1)")
}

// TestWhatOthersDoIsSeenLater is about what an observer of one process cannot see, as the package says.
func TestWhatOthersDoIsSeenLater(t *testing.T) {
	seen, alarms := newAlarms(t, alarm.Free(2, 2))
	fake := poolfake.New(time.Now())
	options := fake.Options()
	options.Observer = alarms
	p, err := pool.Create(t.Context(), fake.Store(), "pods", specOf(t, "192.0.2.1-192.0.2.3"), options)
	require.NoError(t, err)
	other, err := pool.Open(t.Context(), fake.Store(), "pods", fake.Options())
	require.NoError(t, err)
	allocate(t, other, "a", "b")
	require.Empty(t, seen.take())
	info, err := p.Info(t.Context())
	require.NoError(t, err)
	alarms.Look(info)
	require.Len(t, seen.take(), 1)
	alarms.Look(info)
	require.Empty(t, seen.take(), "again")

	release(t, other, "a", "b")
	allocate(t, p, "c")
	require.Len(t, seen.take(), 1, "with the next commit")
	alarms.Look(info)
	require.Empty(t, seen.take(), "it is old")

	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "d", TTL: time.Hour})
	require.NoError(t, err)
	fake.Advance(time.Hour)
	require.Len(t, seen.take(), 1)
	_, err = p.Expire(t.Context())
	require.NoError(t, err)
	require.Len(t, seen.take(), 1, "the lease has ended")
}

func TestFailedCommitsTellNothing(t *testing.T) {
	seen, alarms := newAlarms(t, alarm.Free(1, 1))
	fake := poolfake.New(time.Now())
	options := fake.Options()
	options.Observer = alarms
	p, err := pool.Create(t.Context(), fake.Store(), "pods", specOf(t, "192.0.2.1"), options)
	require.NoError(t, err)
	fake.Inject(poolfake.Unknown(false))
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.ErrorIs(t, err, store.ErrUnknown)
	require.Empty(t, seen.take())
	fake.Inject(nil)
	allocate(t, p, "a")
	require.Len(t, seen.take(), 1)
}

func TestDeletedPoolsAreForgotten(t *testing.T) {
	seen, alarms := newAlarms(t, alarm.Free(1, 1))
	s, options := store.NewMemory(), &pool.Options{Observer: alarms}
	for range 2 {
		p, err := pool.Create(t.Context(), s, "pods", specOf(t, "192.0.2.1"), options)
		require.NoError(t, err)
		allocate(t, p, "a")
		require.Len(t, seen.take(), 1)
		alarms.Forget("pods")
		require.Equal(t, []alarm.Event{{
			Pool: "pods", Rule: alarm.Free(1, 1), Stats: pool.Stats{Family: pool.IPv4},
		}}, seen.events)
		seen.take()
		alarms.Forget("pods")
		require.Empty(t, seen.take())
		release(t, p, "a")
		require.NoError(t, pool.Delete(t.Context(), s, "pods", options))
	}
	spec := specOf(t, "192.0.2.1")
	spec.Cooldown = time.Hour
	p, err := pool.Create(t.Context(), s, "pods", spec, options)
	require.NoError(t, err)
	allocate(t, p, "a")
	release(t, p, "a")
	require.Len(t, seen.take(), 1, "which cools down")
	require.NoError(t, pool.Delete(t.Context(), s, "pods", options))
	require.Equal(t, `pool "pods": IPv4: cleared: fewer than 1 free (cleared at 1); 0 of 0 addresses are free`,
		seen.take()[0])
}

func TestZeroAlarms(t *testing.T) {
	var alarms alarm.Alarms
	p, err := pool.New(specOf(t, "192.0.2.1"), &pool.Options{Observer: &alarms})
	require.NoError(t, err)
	allocate(t, p, "a")
	alarms.Forget("")
}

// naive is whether an alarm is raised, by the definition of its levels.
func naive(percent bool, raise, clearAt uint64, s pool.Stats, before bool) bool {
	size, _ := new(big.Int).SetString(s.Total.Sub(s.Reserved).String(), 10)
	left, _ := new(big.Int).SetString(s.Free.String(), 10)
	if size.Sign() == 0 {
		return false
	}
	if !percent {
		level := raise
		if before {
			level = clearAt
		}
		return left.Cmp(new(big.Int).SetUint64(level)) < 0
	}
	fill := new(big.Rat).SetFrac(new(big.Int).Sub(size, left), size)
	of := func(level uint64) int { return fill.Cmp(big.NewRat(int64(level), 100)) }
	return of(raise) >= 0 || before && of(clearAt) > 0
}

// TestAgreesWithNaive compares alarms with the definition of the levels, at any size and in any order of revisions.
func TestAgreesWithNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		percent := rapid.Bool().Draw(t, "percent")
		var raise, clearAt uint64
		var rule alarm.Rule
		if percent {
			raise = rapid.Uint64Range(1, 100).Draw(t, "raise")
			clearAt = rapid.Uint64Range(0, raise-1).Draw(t, "clear")
			rule = alarm.Used(int(raise), int(clearAt))
		} else {
			raise = rapid.Uint64Range(1, 1<<40).Draw(t, "raise")
			clearAt = rapid.Uint64Range(raise, 1<<41).Draw(t, "clear")
			rule = alarm.Free(raise, clearAt)
		}
		var events []alarm.Event
		alarms, err := alarm.New(func(e alarm.Event) { events = append(events, e) }, rule)
		require.NoError(t, err)
		latest, raised := int64(0), false
		for range rapid.IntRange(1, 20).Draw(t, "commits") {
			s := drawStats(t)
			info := pool.Info{Name: "p", Revision: rapid.Int64Range(1, 100).Draw(t, "revision"), Stats: []pool.Stats{s}}
			events = nil
			alarms.Look(info)
			if info.Revision <= latest {
				require.Empty(t, events)
				continue
			}
			latest = info.Revision
			if now := naive(percent, raise, clearAt, s, raised); now != raised {
				raised = now
				require.Equal(t,
					[]alarm.Event{{Pool: "p", Rule: rule, Raised: now, Stats: s, Revision: info.Revision}}, events)
			} else {
				require.Empty(t, events)
			}
		}
	})
}

// drawStats draws counts of a family, up to those of all addresses.
func drawStats(t *rapid.T) pool.Stats {
	size := cidr.Pow2(rapid.IntRange(0, 128).Draw(t, "bits")).Sub(cidr.CountOf(rapid.Uint64Range(0, 3).Draw(t, "less")))
	left, _ := size.Div(cidr.CountOf(rapid.Uint64Range(1, 200).Draw(t, "part")))
	left = left.Add(cidr.CountOf(rapid.Uint64Range(0, 3).Draw(t, "more")))
	if left.Cmp(size) > 0 {
		left = size
	}
	reserved := cidr.CountOf(rapid.Uint64Range(0, 5).Draw(t, "reserved"))
	return pool.Stats{
		Family: pool.IPv4, Total: size.Add(reserved), Reserved: reserved, Used: size.Sub(left), Free: left,
	}
}

// TestManyHandlesAtOnce has the events of each pool alternate, and agree with the pool at the end.
func TestManyHandlesAtOnce(t *testing.T) {
	last, wrong := map[string]alarm.Event{}, []string(nil)
	alarms, err := alarm.New(func(e alarm.Event) { // one at a time, or the race detector says so
		if before := last[e.Pool]; before.Raised == e.Raised || before.Revision >= e.Revision {
			wrong = append(wrong, fmt.Sprint(before, " then ", e))
		}
		last[e.Pool] = e
	}, alarm.Used(60, 40))
	require.NoError(t, err)
	memory := store.NewMemory()
	var handles []*pool.Pool
	for i := range 6 {
		p, err := pool.Ensure(t.Context(), memory.Open(), fmt.Sprint("pool-", i%2), specOf(t, "192.0.2.1-192.0.2.5"),
			pool.Update, &pool.Options{Observer: alarms})
		require.NoError(t, err)
		handles = append(handles, p)
	}
	var wg sync.WaitGroup
	for i, p := range handles {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range 100 {
				owner := fmt.Sprint(random.IntN(5))
				_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner})
				if random.IntN(2) == 0 {
					_, err = p.Release(t.Context(), pool.Held{Owner: owner, Optional: true})
				}
				if err != nil && !errors.Is(err, pool.ErrExhausted) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Empty(t, wrong)
	for _, p := range handles[:2] {
		info, err := p.Info(t.Context())
		require.NoError(t, err)
		used := info.StatsOf(pool.IPv4).Used.Uint64()
		require.Equal(t, used >= 3, last[p.Name()].Raised, "%d used: %v", used, last)
	}
}

func BenchmarkEndCommit(b *testing.B) {
	alarms, err := alarm.New(func(alarm.Event) {}, alarm.Used(90, 80), alarm.Free(16, 64))
	require.NoError(b, err)
	stats := []pool.Stats{{
		Family: pool.IPv4, Total: cidr.CountOf(254), Used: cidr.CountOf(100), Free: cidr.CountOf(154),
	}}
	revision := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		revision++
		alarms.EndCommit(b.Context(), pool.Commit{Pool: "pods", Revision: revision, Stats: stats})
	}
}
