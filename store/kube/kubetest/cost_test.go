package kubetest_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/kube"
)

// crowd is handles of one process that allocate from one pool at once.
type crowd struct {
	handles, goroutines, each int // goroutines of each handle, allocations of each goroutine
}

// tally counts requests.
type tally struct {
	mu      sync.Mutex
	verbs   map[string]int
	total   int
	tickets int // that were created
	queued  int // requests for tickets, these creates among them
	lost    int // updates of the head that were refused because it had changed
}

func (c *tally) wrap(config *rest.Config) *rest.Config {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			answer, err := next.RoundTrip(r)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.total++
			c.verbs[r.Method]++
			if strings.Contains(r.URL.Path, "/iprecords") && !isRoll(r) {
				c.queued++
				if r.Method == http.MethodPost {
					c.tickets++
				}
			}
			if strings.Contains(r.URL.Path, "/ippools/") && err == nil && answer.StatusCode == http.StatusConflict {
				c.lost++
			}
			return answer, err
		})
	})
	return config
}

// isRoll reports whether a request is about an object that names what a commit wrote.
func isRoll(r *http.Request) bool {
	if strings.Contains(r.URL.Path, "/roll--") {
		return true
	}
	if r.GetBody == nil {
		return false
	}
	body, err := r.GetBody()
	if err != nil {
		return false
	}
	text, err := io.ReadAll(body)
	return err == nil && bytes.Contains(text, []byte(`"name":"roll--`))
}

// restart returns what was counted, and begins anew.
func (c *tally) restart() *tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	counted := &tally{verbs: c.verbs, total: c.total, tickets: c.tickets, queued: c.queued, lost: c.lost}
	c.verbs, c.total, c.tickets, c.queued, c.lost = map[string]int{}, 0, 0, 0, 0
	return counted
}

// run allocates, and returns which requests that took, and how long, also until what was left is settled.
func (c crowd) run(t testing.TB, server *server) (made *tally, took, settled time.Duration) {
	t.Helper()
	count, namespace := &tally{verbs: map[string]int{}}, newNamespace()
	createPool(t, open(t, server.config(writer), kube.Options{Namespace: namespace}), "10.0.0.0/16")
	var pools []*pool.Pool
	var stores []*kube.Store
	for range c.handles {
		s := open(t, count.wrap(server.config(writer)), kube.Options{Namespace: namespace})
		p, err := pool.Open(t.Context(), s, labPool, nil)
		require.NoError(t, err)
		pools, stores = append(pools, p), append(stores, s)
	}
	count.restart()
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
	made, took = count.restart(), time.Since(start)
	for _, s := range stores {
		all.Go(func() { require.NoError(t, s.Close()) })
	}
	all.Wait()
	return made, took, time.Since(start)
}

// TestCost counts the requests of an allocation: one handle alone, with many callers, and many handles at once. Many
// handles wait for turns. How many of these a ticket serves, and how many of them are passed over, so that a commit
// loses the head, goes by time and so by the load of the machine; TestRequestsOfACrowd of store/kube counts that
// where time is not real. So what they take is counted apart.
func TestCost(t *testing.T) {
	for _, c := range []struct {
		crowd
		most float64 // requests an allocation
	}{
		{crowd{1, 1, size(100, 200)}, 3.1},
		{crowd{1, 64, size(10, 20)}, 1.3}, // what is settled comes later
		{crowd{16, 4, 20}, 2},
	} {
		t.Run(fmt.Sprintf("handles=%d/goroutines=%d", c.handles, c.goroutines), func(t *testing.T) {
			made, took, _ := c.run(t, sharedServer(t))
			n := c.handles * c.goroutines * c.each
			// A turn that was waited for reads the head. Who loses it updates it, reads it twice, and writes and takes back
			// the record of each of its callers.
			beside := made.queued + made.tickets + made.lost*(3+2*c.goroutines)
			each := float64(made.total-beside) / float64(n)
			t.Logf("%d allocations in %v: %v, %.2f each; %d requests for %d tickets, the head lost %d times; beside these %.2f",
				n, took, made.verbs, float64(made.total)/float64(n), made.queued, made.tickets, made.lost, each)
			require.LessOrEqual(t, each, c.most)
			require.LessOrEqual(t, made.tickets+made.lost, n, "each is for a commit, most of several callers")
			if c.handles == 1 {
				require.Zero(t, made.tickets+made.lost)
			}
		})
	}
}

// BenchmarkCost is what an allocation takes beside what a bare create of an object takes: until it is granted, and
// until nothing is left to be settled either.
func BenchmarkCost(b *testing.B) {
	server := ownServer(b)
	for _, c := range []crowd{{1, 64, 30}, {16, 4, 30}} {
		b.Run(fmt.Sprintf("handles=%d/goroutines=%d", c.handles, c.goroutines), func(b *testing.B) {
			var ours, whole, bare []time.Duration
			for n := time.Duration(c.handles * c.goroutines * c.each); b.Loop(); {
				_, took, settled := c.run(b, server)
				ours, whole = append(ours, took/n), append(whole, settled/n)
				bare = append(bare, c.bare(b, server))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(slices.Min(ours))/float64(slices.Min(bare)), "times-bare")
			b.ReportMetric(float64(slices.Min(whole))/float64(slices.Min(bare)), "times-bare-settled")
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
