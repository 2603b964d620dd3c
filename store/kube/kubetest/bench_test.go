package kubetest_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
)

// heldOwner is as long as a UID.
func heldOwner(i int) string { return fmt.Sprintf("6f1d2c3b-0000-4000-8000-%012d", i) }

// bare creates objects as a controller would that keeps one object an allocation, and no more.
type bare struct {
	client *http.Client
	url    string
	n      int
}

func newBare(b *testing.B, server *server) *bare {
	b.Helper()
	config := server.config(writer)
	client, err := rest.HTTPClientFor(config)
	require.NoError(b, err)
	url := fmt.Sprintf("%s/apis/%s/%s/namespaces/%s/ipallocations",
		config.Host, kube.Group, kube.Version, newNamespace())
	return &bare{client: client, url: url}
}

func (c *bare) create(ctx context.Context) error {
	c.n++
	text := fmt.Sprintf(`{"apiVersion":"%s/%s","kind":"IPAllocation","metadata":{"name":"lab.%s","labels":{"pool":"lab"}},
		"key":{"kind":"allocation","pool":"lab","name":"%[3]s"},"spec":{"prefixes":["10.0.0.1/32"],"state":"allocated"}}`,
		kube.Group, kube.Version, heldOwner(c.n))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(text))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		return fmt.Errorf("the server said %s", answer.Status)
	}
	return nil
}

func median(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)/2]
}

// filledPool returns a pool of which so many addresses are held.
func filledPool(b *testing.B, server *server, held int) *pool.Pool {
	b.Helper()
	s := open(b, server.config(writer), kube.Options{Namespace: newNamespace()})
	p := createPool(b, s, "10.0.0.0/16")
	for first := 0; first < held; first += 2000 {
		claims := make([]pool.Claim, 2000)
		for i := range claims {
			claims[i].Owner = heldOwner(first + i)
		}
		_, err := p.All(b.Context(), pooltest.Allocations(claims)...)
		require.NoError(b, err)
	}
	head, err := s.Get(b.Context(), poolKey(labPool))
	require.NoError(b, err)
	_, err = s.Commit(b.Context(), store.Change{Head: head}) // which settles the last of them
	require.NoError(b, err)
	p, err = pool.Open(b.Context(), s, labPool, nil)
	require.NoError(b, err)
	return p
}

// BenchmarkAllocate is one caller who allocates, beside one bare object create, in turns, with an empty pool and with
// one of 60,000 held.
func BenchmarkAllocate(b *testing.B) {
	server, start := ownServer(b), time.Now()
	create, empty, full := newBare(b, server), filledPool(b, server, 0), filledPool(b, server, 60_000)
	took := map[string][]time.Duration{}
	measure := func(name string, do func() error) {
		start := time.Now()
		require.NoError(b, do())
		took[name] = append(took[name], time.Since(start))
	}
	n := 100_000
	b.Logf("filled in %v", time.Since(start).Round(time.Second))
	for b.Loop() {
		n++
		measure("bare", func() error { return create.create(b.Context()) })
		for name, p := range map[string]*pool.Pool{"empty": empty, "full": full} {
			measure(name, func() error {
				_, err := p.Allocate(b.Context(), pool.Claim{Owner: heldOwner(n)})
				return err
			})
		}
	}
	b.ReportMetric(0, "ns/op")
	for name, times := range took {
		b.ReportMetric(float64(median(times).Nanoseconds()), name+"-ns")
	}
	b.ReportMetric(float64(median(took["empty"]))/float64(median(took["bare"])), "empty/bare")
	b.ReportMetric(float64(median(took["full"]))/float64(median(took["empty"])), "full/empty")
}

// BenchmarkGoroutines is how many allocations a second 1 and 64 goroutines get from one pool through one handle.
func BenchmarkGoroutines(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			p := filledPool(b, sharedServer(b), 0)
			var next atomic.Int64
			b.ResetTimer()
			var all sync.WaitGroup
			for range goroutines {
				all.Go(func() {
					for n := int(next.Add(1)); n <= b.N; n = int(next.Add(1)) {
						if _, err := p.Allocate(b.Context(), pool.Claim{Owner: heldOwner(n)}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "allocations/s")
		})
	}
}
