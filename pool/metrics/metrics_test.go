package metrics_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/metrics"
	"github.com/ipalloc/ipalloc/store"
)

// spec is that of a pool.
func spec(t testing.TB, texts ...string) pool.Spec {
	t.Helper()
	s, err := pool.ParseSpec(texts...)
	require.NoError(t, err)
	return s
}

// gathered checks that the registry has exactly these lines for the metrics of those names.
func gathered(t *testing.T, m *metrics.Metrics, want string, names ...string) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m))
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(want), names...))
}

func TestCountsCallsAndCommits(t *testing.T) {
	ctx, db, m := t.Context(), store.NewMemory(), metrics.New(nil)
	m.AddStore(db)
	_, err := pool.Create(ctx, db, "pods", spec(t, "192.0.2.8-192.0.2.9", "2001:db8::5"), nil)
	require.NoError(t, err)
	p, err := pool.Open(ctx, db, "pods", &pool.Options{Observer: m})
	require.NoError(t, err)
	for _, owner := range []string{"a", "a", "b"} {
		_, err = p.Allocate(ctx, pool.Claim{Owner: owner, TTL: time.Hour})
		require.NoError(t, err)
	}
	_, err = p.Allocate(ctx, pool.Claim{Owner: "c"})
	require.ErrorIs(t, err, pool.ErrExhausted)
	_, err = p.Renew(ctx, pool.Held{Owner: "a"}, 2*time.Hour)
	require.NoError(t, err)
	_, err = p.Release(ctx, pool.Held{Owner: "b"})
	require.NoError(t, err)
	_, err = p.Release(ctx, pool.Held{Owner: "b"})
	require.ErrorIs(t, err, pool.ErrNotFound)

	gathered(t, m, `
# HELP ipalloc_addresses Addresses of the pool by their state.
# TYPE ipalloc_addresses gauge
ipalloc_addresses{family="IPv4",pool="pods",state="cooling"} 0
ipalloc_addresses{family="IPv4",pool="pods",state="free"} 1
ipalloc_addresses{family="IPv4",pool="pods",state="kept"} 0
ipalloc_addresses{family="IPv4",pool="pods",state="out_of_range"} 0
ipalloc_addresses{family="IPv4",pool="pods",state="reserved"} 0
ipalloc_addresses{family="IPv4",pool="pods",state="used"} 1
ipalloc_addresses{family="IPv6",pool="pods",state="cooling"} 0
ipalloc_addresses{family="IPv6",pool="pods",state="free"} 1
ipalloc_addresses{family="IPv6",pool="pods",state="kept"} 0
ipalloc_addresses{family="IPv6",pool="pods",state="out_of_range"} 0
ipalloc_addresses{family="IPv6",pool="pods",state="reserved"} 0
ipalloc_addresses{family="IPv6",pool="pods",state="used"} 0
# HELP ipalloc_calls_total Calls that allocate, release or renew, by how they ended.
# TYPE ipalloc_calls_total counter
ipalloc_calls_total{call="allocate",pool="pods",result="exhausted"} 1
ipalloc_calls_total{call="allocate",pool="pods",result="ok"} 3
ipalloc_calls_total{call="release",pool="pods",result="not_found"} 1
ipalloc_calls_total{call="release",pool="pods",result="ok"} 1
ipalloc_calls_total{call="renew",pool="pods",result="ok"} 1
# HELP ipalloc_commits_total Attempts to commit to the store, by how they ended.
# TYPE ipalloc_commits_total counter
ipalloc_commits_total{pool="pods",result="ok"} 5
# HELP ipalloc_up 1 if all pools could be read at this scrape, else 0.
# TYPE ipalloc_up gauge
ipalloc_up 1
`, "ipalloc_addresses", "ipalloc_calls_total", "ipalloc_commits_total", "ipalloc_up")
}

// Two handles of one pool: the one that does not know of the other's commit meets a conflict and tries
// again by itself. Both attempts are counted.
func TestCountsConflicts(t *testing.T) {
	ctx, db, m := t.Context(), store.NewMemory(), metrics.New(nil)
	there, err := pool.Create(ctx, db, "pods", spec(t, "192.0.2.0/24"), nil)
	require.NoError(t, err)
	here, err := pool.Open(ctx, db, "pods", &pool.Options{Observer: m})
	require.NoError(t, err)
	_, err = there.Allocate(ctx, pool.Claim{Owner: "a"})
	require.NoError(t, err)
	_, err = here.Allocate(ctx, pool.Claim{Owner: "b"})
	require.NoError(t, err)
	gathered(t, m, `
# HELP ipalloc_commits_total Attempts to commit to the store, by how they ended.
# TYPE ipalloc_commits_total counter
ipalloc_commits_total{pool="pods",result="conflict"} 1
ipalloc_commits_total{pool="pods",result="ok"} 1
`, "ipalloc_commits_total")
}

func TestResults(t *testing.T) {
	for _, test := range []struct {
		err          error
		call, commit string
	}{
		{nil, "ok", "ok"},
		{&pool.Error{Op: "allocate", Err: pool.ErrExhausted}, "exhausted", "error"},
		{fmt.Errorf("%w: cut off: %w", store.ErrUnknown, context.DeadlineExceeded), "unknown", "unknown"},
		{pool.ErrBusy, "conflict", "error"},
		{&store.ConflictError{}, "error", "conflict"},
		{&store.TooLargeError{}, "error", "too_large"},
		{pool.ErrTaken, "taken", "error"},
		{pool.ErrHeld, "held", "error"},
		{pool.ErrNotInPool, "not_in_pool", "error"},
		{pool.ErrNoPool, "not_found", "error"},
		{pool.ErrScope, "invalid", "error"},
		{pool.ErrCordoned, "cordoned", "error"},
		{context.Canceled, "canceled", "error"},
		{errors.New("disk on fire"), "error", "error"},
	} {
		m := metrics.New(nil)
		m.EndCommit(t.Context(), pool.Commit{Pool: "p", Err: test.err})
		m.EndCall(t.Context(), pool.Call{Pool: "p", Steps: allocates(1), Results: []pool.Result{{Err: test.err}}})
		gathered(t, m, fmt.Sprintf(`
# HELP ipalloc_calls_total Calls that allocate, release or renew, by how they ended.
# TYPE ipalloc_calls_total counter
ipalloc_calls_total{call="allocate",pool="p",result=%q} 1
# HELP ipalloc_commits_total Attempts to commit to the store, by how they ended.
# TYPE ipalloc_commits_total counter
ipalloc_commits_total{pool="p",result=%q} 1
`, test.call, test.commit), "ipalloc_calls_total", "ipalloc_commits_total")
	}
}

// allocates are n steps that allocate.
func allocates(n int) []pool.Step { return slices.Repeat([]pool.Step{pool.Allocate(pool.Claim{})}, n) }

func TestDurationsAreInSeconds(t *testing.T) {
	m := metrics.New(&metrics.Options{
		Namespace: "net", Buckets: []float64{0.1, 1}, ConstLabels: prometheus.Labels{"store": "main"},
	})
	m.EndCall(t.Context(), pool.Call{
		Pool: "p", Steps: []pool.Step{{Op: "renew"}}, Results: make([]pool.Result, 1), Duration: 250 * time.Millisecond,
	})
	m.EndCommit(t.Context(), pool.Commit{Pool: "p", Duration: 50 * time.Millisecond})
	gathered(t, m, `
# HELP net_call_duration_seconds How long calls took, waiting for their turn included.
# TYPE net_call_duration_seconds histogram
net_call_duration_seconds_bucket{call="renew",pool="p",store="main",le="0.1"} 0
net_call_duration_seconds_bucket{call="renew",pool="p",store="main",le="1"} 1
net_call_duration_seconds_bucket{call="renew",pool="p",store="main",le="+Inf"} 1
net_call_duration_seconds_sum{call="renew",pool="p",store="main"} 0.25
net_call_duration_seconds_count{call="renew",pool="p",store="main"} 1
# HELP net_commit_duration_seconds How long the store took for an attempt to commit.
# TYPE net_commit_duration_seconds histogram
net_commit_duration_seconds_bucket{pool="p",store="main",le="0.1"} 1
net_commit_duration_seconds_bucket{pool="p",store="main",le="1"} 1
net_commit_duration_seconds_bucket{pool="p",store="main",le="+Inf"} 1
net_commit_duration_seconds_sum{pool="p",store="main"} 0.05
net_commit_duration_seconds_count{pool="p",store="main"} 1
`, "net_call_duration_seconds", "net_commit_duration_seconds")
}

func TestLint(t *testing.T) {
	m := metrics.New(nil)
	p, err := pool.New(spec(t, "10.0.0.0/29"), &pool.Options{Observer: m.Named("memory")})
	require.NoError(t, err)
	m.AddPool("memory", p)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.NoError(t, err)
	require.Zero(t, testutil.CollectAndCount(m, "ipalloc_commits_total"), "none is to a store")
	m.EndCommit(t.Context(), pool.Commit{Pool: "memory"})
	problems, err := testutil.CollectAndLint(m)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// There are no more series than the option allows, however many pools there are, and the pools that
// are counted together lose no address.
func TestCardinalityIsBounded(t *testing.T) {
	ctx, db := t.Context(), store.NewMemory()
	m := metrics.New(&metrics.Options{MaxPools: 2})
	m.AddStore(db)
	for i := range 5 {
		name := fmt.Sprint("block-", i)
		p, err := pool.Create(ctx, db, name, spec(t, fmt.Sprintf("10.0.%d.0-10.0.%d.9", i, i)), &pool.Options{Observer: m})
		require.NoError(t, err)
		_, err = p.Allocate(ctx, pool.Claim{Owner: "someone"})
		require.NoError(t, err)
	}
	gathered(t, m, `
# HELP ipalloc_calls_total Calls that allocate, release or renew, by how they ended.
# TYPE ipalloc_calls_total counter
ipalloc_calls_total{call="allocate",pool="_other",result="ok"} 3
ipalloc_calls_total{call="allocate",pool="block-0",result="ok"} 1
ipalloc_calls_total{call="allocate",pool="block-1",result="ok"} 1
`, "ipalloc_calls_total")
	require.Equal(t, 3*6, testutil.CollectAndCount(m, "ipalloc_addresses"))
	require.InDelta(t, 50, sumOf(t, m, "used")+sumOf(t, m, "free"), 0)

	m.Forget("block-0")
	m.EndCall(t.Context(), pool.Call{Pool: "block-3", Steps: allocates(1), Results: make([]pool.Result, 1)})
	require.Equal(t, 3, testutil.CollectAndCount(m, "ipalloc_calls_total"),
		"block-1, block-3 in the place of block-0, and the others")
}

// sumOf adds the addresses of a state over all pools.
// slots returns how many pools have metrics of calls or commits of their own.
func slots(t *testing.T, m *metrics.Metrics) int {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m))
	families, err := registry.Gather()
	require.NoError(t, err)
	pools := map[string]bool{}
	for _, family := range families {
		if family.GetName() != "ipalloc_calls_total" && family.GetName() != "ipalloc_commits_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "pool" && label.GetValue() != "_other" {
					pools[label.GetValue()] = true
				}
			}
		}
	}
	return len(pools)
}

// TestDeletedPoolsLeave makes and deletes more pools than there is room for. Each has metrics of its own while it is
// there, and those of a pool that stays are kept.
func TestDeletedPoolsLeave(t *testing.T) {
	ctx, db := t.Context(), store.NewMemory()
	for _, added := range []string{"store", "pool"} {
		m := metrics.New(&metrics.Options{MaxPools: 3})
		if added == "store" {
			m.AddStore(db)
		}
		use := func(name string) *pool.Pool {
			p, err := pool.Ensure(ctx, db, name, spec(t, "192.0.2.0/24"), pool.Keep, &pool.Options{Observer: m})
			require.NoError(t, err)
			_, err = p.Allocate(ctx, pool.Claim{Owner: added})
			require.NoError(t, err)
			if added == "pool" {
				m.AddPool(name, p)
			}
			return p
		}
		use("stays")
		for i := range 10 {
			p := use(fmt.Sprint("goes-", i))
			require.Equal(t, 2, slots(t, m))
			_, err := p.Release(ctx, pool.Held{Owner: added})
			require.NoError(t, err)
			require.NoError(t, pool.Delete(ctx, db, fmt.Sprint("goes-", i), nil))
			_, err = p.Allocate(ctx, pool.Claim{Owner: "late"})
			require.ErrorIs(t, err, pool.ErrNoPool)
			slots(t, m) // finds that it is gone
			_, err = p.Allocate(ctx, pool.Claim{Owner: "late"})
			require.ErrorIs(t, err, pool.ErrNoPool)
			require.Equal(t, 1, slots(t, m))
		}
	}
}

// TestUnknownPoolsLeave observes pools in a store that no scrape reads. Those that do nothing any more leave when there
// is no room, and those that are in use stay.
func TestUnknownPoolsLeave(t *testing.T) {
	m := metrics.New(&metrics.Options{MaxPools: 3})
	for i := range 10 {
		m.EndCommit(t.Context(), pool.Commit{Pool: fmt.Sprint("goes-", i)})
		for range 4 {
			m.EndCommit(t.Context(), pool.Commit{Pool: "stays"})
			require.LessOrEqual(t, slots(t, m), 3)
		}
	}
	m.EndCommit(t.Context(), pool.Commit{Pool: "new"})
	gathered(t, m, `
# HELP ipalloc_commits_total Attempts to commit to the store, by how they ended.
# TYPE ipalloc_commits_total counter
ipalloc_commits_total{pool="goes-9",result="ok"} 1
ipalloc_commits_total{pool="new",result="ok"} 1
ipalloc_commits_total{pool="stays",result="ok"} 40
`, "ipalloc_commits_total")
}

// TestPoolsStayWhenAScrapeFails keeps the metrics of pools that a scrape could not find.
func TestPoolsStayWhenAScrapeFails(t *testing.T) {
	db, m := store.NewMemory(), metrics.New(nil)
	m.AddStore(db)
	p, err := pool.Create(t.Context(), db, "pods", spec(t, "192.0.2.0/24"), &pool.Options{Observer: m})
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.NoError(t, err)
	require.Equal(t, 1, slots(t, m))
	require.NoError(t, db.Close())
	require.Equal(t, 1, slots(t, m))
	require.Equal(t, 1, slots(t, m))
}

func sumOf(t *testing.T, m *metrics.Metrics, state string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(m))
	families, err := registry.Gather()
	require.NoError(t, err)
	sum := 0.0
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			for _, label := range metric.GetLabel() {
				if f.GetName() == "ipalloc_addresses" && label.GetName() == "state" && label.GetValue() == state {
					sum += metric.GetGauge().GetValue()
				}
			}
		}
	}
	return sum
}

func TestScrapeErrorLosesNothingElse(t *testing.T) {
	ctx, db, log := t.Context(), store.NewMemory(), new(bytes.Buffer)
	m := metrics.New(&metrics.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	m.AddStore(db)
	p, err := pool.Create(ctx, db, "pods", spec(t, "192.0.2.0/28"), &pool.Options{Observer: m})
	require.NoError(t, err)
	_, err = p.Allocate(ctx, pool.Claim{Owner: "a"})
	require.NoError(t, err)
	memory, err := pool.New(spec(t, "10.0.0.1"), nil)
	require.NoError(t, err)
	m.AddPool("memory", memory)
	require.NoError(t, db.Close())
	gathered(t, m, `
# HELP ipalloc_addresses Addresses of the pool by their state.
# TYPE ipalloc_addresses gauge
ipalloc_addresses{family="IPv4",pool="memory",state="cooling"} 0
ipalloc_addresses{family="IPv4",pool="memory",state="free"} 1
ipalloc_addresses{family="IPv4",pool="memory",state="kept"} 0
ipalloc_addresses{family="IPv4",pool="memory",state="out_of_range"} 0
ipalloc_addresses{family="IPv4",pool="memory",state="reserved"} 0
ipalloc_addresses{family="IPv4",pool="memory",state="used"} 0
# HELP ipalloc_calls_total Calls that allocate, release or renew, by how they ended.
# TYPE ipalloc_calls_total counter
ipalloc_calls_total{call="allocate",pool="pods",result="ok"} 1
# HELP ipalloc_up 1 if all pools could be read at this scrape, else 0.
# TYPE ipalloc_up gauge
ipalloc_up 0
`, "ipalloc_addresses", "ipalloc_calls_total", "ipalloc_up")
	require.Contains(t, log.String(), "closed")
}

// Calls, scrapes, added and forgotten pools at once, under the race detector.
func TestConcurrent(t *testing.T) {
	ctx, db := t.Context(), store.NewMemory()
	m := metrics.New(&metrics.Options{MaxPools: 3})
	m.AddStore(db)
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m))
	var wg sync.WaitGroup
	for i := range 4 {
		p, err := pool.Create(ctx, db, fmt.Sprint("pool-", i), spec(t, "192.0.2.0/24"), &pool.Options{Observer: m})
		require.NoError(t, err)
		wg.Go(func() {
			for j := range 50 {
				owner := fmt.Sprint(j)
				if _, err := p.Allocate(ctx, pool.Claim{Owner: owner}); err != nil {
					t.Error(err)
				}
				if _, err := p.Release(ctx, pool.Held{Owner: owner}); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 20 {
				if _, err := registry.Gather(); err != nil {
					t.Error(err)
				}
				m.AddPool("again", p)
				m.Forget("again")
			}
		})
	}
	wg.Wait()
}

func BenchmarkEndCall(b *testing.B) {
	m := metrics.New(nil)
	e := pool.Call{Pool: "pods", Steps: allocates(1), Results: make([]pool.Result, 1), Duration: time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		m.EndCall(b.Context(), e)
	}
}
