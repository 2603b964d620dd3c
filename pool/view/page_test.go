package view_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/view"
	"github.com/ipalloc/ipalloc/store"
)

// full is a pool with n allocations, as an orchestrator makes them.
func full(t testing.TB, s store.Store, n int) *pool.Pool {
	t.Helper()
	ctx := context.Background()
	p, err := pool.Create(ctx, s, "full", must(pool.ParseSpec("10.0.0.0/15")), &pool.Options{Clock: clock})
	require.NoError(t, err)
	for first := 0; first < n; first += 1000 {
		var steps []pool.Step
		for i := first; i < min(n, first+1000); i++ {
			steps = append(steps, pool.Allocate(pool.Claim{Owner: fmt.Sprintf("6f1d2c3b-0000-4000-8000-%012d", i)}))
		}
		_, err := p.All(ctx, steps...)
		require.NoError(t, err)
	}
	return p
}

// discarded is a ResponseWriter that keeps nothing.
type discarded struct{ header http.Header }

func (d discarded) Header() http.Header         { return d.header }
func (d discarded) Write(b []byte) (int, error) { return len(b), nil }
func (d discarded) WriteHeader(int)             {}

// BenchmarkPage serves the page of a pool. What it allocates is told for each page.
func BenchmarkPage(b *testing.B) {
	for _, n := range []int{1000, 99_000} {
		s := store.NewMemory()
		full(b, s, n)
		h := view.Handler(view.Store(s, nil), nil)
		for _, format := range []string{"html", "text", "json", "svg"} {
			b.Run(fmt.Sprintf("allocations=%d/format=%s", n, format), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					h.ServeHTTP(discarded{http.Header{}}, httptest.NewRequest(http.MethodGet, "/pool/full?format="+format, nil))
				}
			})
		}
	}
}

// TestPageMemory serves the first page of a large pool. What it allocates is a fraction of what the pool's allocations
// take.
func TestPageMemory(t *testing.T) {
	const n, mostBytes = 20_000, 600 // of each allocation: about 330, and a third more under the race detector
	s := store.NewMemory()
	full(t, s, n)
	h := view.Handler(view.Store(s, nil), nil)
	for _, format := range []string{"html", "text", "json", "svg"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		w := get(t, h, "/pool/full?format="+format)
		runtime.ReadMemStats(&after)
		require.Equal(t, http.StatusOK, w.Code)
		t.Logf("%s: %d bytes for each allocation", format, (after.TotalAlloc-before.TotalAlloc)/n)
		require.Less(t, (after.TotalAlloc-before.TotalAlloc)/n, uint64(mostBytes), format)
	}
}

// TestPages lists all pages of a pool and expects each allocation once, in the order of the addresses.
func TestPages(t *testing.T) {
	s := store.NewMemory()
	busy24(t, s, "pods")
	p := must(pool.Open(context.Background(), s, "pods", nil))
	snapshot := must(p.Snapshot(context.Background()))
	h := view.Handler(view.Store(s, nil), &view.HandlerOptions{Rows: 7})
	var owners []string
	last := netip.Addr{}
	pages := 1
	for page := 1; page <= pages; page++ {
		var answer struct {
			Pages       int
			Allocations []struct {
				Owner    string
				Prefixes []netip.Prefix
			}
		}
		require.NoError(t, json.Unmarshal(get(t, h, fmt.Sprint("/pool/pods?format=json&page=", page)).Body.Bytes(), &answer))
		pages = answer.Pages
		for _, a := range answer.Allocations {
			owners = append(owners, a.Owner)
			require.True(t, last.Less(a.Prefixes[0].Addr()), "%v after %v", a.Prefixes, last)
			last = a.Prefixes[0].Addr()
		}
	}
	require.Len(t, owners, len(snapshot.Allocations)+len(snapshot.Cooling))
	require.NotEmpty(t, snapshot.Cooling)
	require.Greater(t, pages, 10)
}
