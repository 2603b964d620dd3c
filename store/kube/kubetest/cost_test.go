package kubetest_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/kube"
)

// crowd is handles of one process that allocate from one pool at once.
type crowd struct {
	handles, goroutines, each int // goroutines of each handle, allocations of each goroutine
}

// run allocates, and returns which requests that took, and how long.
func (c crowd) run(t testing.TB, server *server) (map[string]int, time.Duration) {
	t.Helper()
	count, namespace := &counter{}, newNamespace()
	createPool(t, open(t, server.config(writer), kube.Options{Namespace: namespace}), "10.0.0.0/16")
	var pools []*pool.Pool
	for range c.handles {
		s := open(t, count.wrap(server.config(writer)), kube.Options{Namespace: namespace})
		p, err := pool.Open(t.Context(), s, labPool, nil)
		require.NoError(t, err)
		pools = append(pools, p)
	}
	count.take()
	var all sync.WaitGroup
	start := time.Now()
	for h, p := range pools {
		for g := range c.goroutines {
			all.Go(func() {
				for i := range c.each {
					if _, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprintf("%d-%d-%d", h, g, i)}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	all.Wait()
	took := time.Since(start)
	verbs := map[string]int{}
	for _, verb := range count.take() {
		verbs[verb]++
	}
	return verbs, took
}

// TestCost counts the requests of an allocation: one handle alone, with many callers, and many handles at once.
func TestCost(t *testing.T) {
	for _, c := range []struct {
		crowd
		most float64 // requests an allocation
	}{
		{crowd{1, 1, size(100, 200)}, 3.1},
		{crowd{1, 64, size(10, 20)}, 2.2},
		{crowd{16, 4, 20}, 3},
	} {
		t.Run(fmt.Sprintf("handles=%d/goroutines=%d", c.handles, c.goroutines), func(t *testing.T) {
			verbs, took := c.run(t, sharedServer(t))
			total, n := 0, c.handles*c.goroutines*c.each
			for _, k := range verbs {
				total += k
			}
			t.Logf("%d allocations in %v: %v, %.2f each", n, took, verbs, float64(total)/float64(n))
			require.LessOrEqual(t, float64(total)/float64(n), c.most)
		})
	}
}

// BenchmarkCost is what an allocation takes beside what a bare create of an object takes.
func BenchmarkCost(b *testing.B) {
	server := ownServer(b)
	for _, c := range []crowd{{1, 64, 30}, {16, 4, 30}} {
		b.Run(fmt.Sprintf("handles=%d/goroutines=%d", c.handles, c.goroutines), func(b *testing.B) {
			var ours, bare []time.Duration
			for b.Loop() {
				_, took := c.run(b, server)
				ours = append(ours, took/time.Duration(c.handles*c.goroutines*c.each))
				bare = append(bare, c.bare(b, server))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(slices.Min(ours))/float64(slices.Min(bare)), "times-bare")
			b.ReportMetric(float64(slices.Min(ours)), "ns/allocation")
		})
	}
}

// bare returns what a bare create takes with as many goroutines.
func (c crowd) bare(b *testing.B, server *server) time.Duration {
	var all sync.WaitGroup
	start := time.Now()
	for range c.handles * c.goroutines {
		create := newBare(b, server)
		all.Go(func() {
			for range c.each {
				if err := create.create(b.Context()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(start) / time.Duration(c.handles*c.goroutines*c.each)
}
