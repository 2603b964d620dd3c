package kube_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// counting notes the requests that change or read one object.
type counting struct {
	kube.API
	mu    sync.Mutex
	verbs []string
}

func (c *counting) note(verb string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verbs = append(c.verbs, verb)
}

// take returns what was noted since the last call, sorted. It waits until nothing is under way.
func (c *counting) take() []string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	verbs := c.verbs
	c.verbs = nil
	slices.Sort(verbs)
	return verbs
}

func (c *counting) Get(ctx context.Context, r kube.Ref) (*kube.Object, error) {
	c.note("get")
	return c.API.Get(ctx, r)
}

func (c *counting) Create(ctx context.Context, o *kube.Object) (*kube.Object, error) {
	c.note("create")
	return c.API.Create(ctx, o)
}

func (c *counting) Update(ctx context.Context, o *kube.Object) (*kube.Object, error) {
	c.note("update")
	return c.API.Update(ctx, o)
}

func (c *counting) Remove(ctx context.Context, o *kube.Object) error {
	c.note("remove")
	return c.API.Remove(ctx, o)
}

func (c *counting) List(ctx context.Context, resource, selector, token string) (kube.Page, error) {
	c.note("list")
	return c.API.List(ctx, resource, selector, token)
}

func (c *counting) Gone(ctx context.Context, resource, selector, version string, gone func(string) bool) error {
	c.note("watch")
	return c.API.Gone(ctx, resource, selector, version, gone)
}

// TestRequests counts the requests of calls on a warm handle. Little time passes between them, so nothing is settled
// behind them.
func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newSimServer()
		count := &counting{API: &slow{&simClient{server: server}, time.Millisecond}}
		s := kube.NewLively(count, kube.Options{}, counterID("one"))
		ranges, err := cidr.ParseRanges("10.0.0.0/24")
		require.NoError(t, err)
		p, err := pool.Create(t.Context(), s, "lab", pool.Spec{Ranges: ranges}, nil)
		require.NoError(t, err)
		allocate := func(owner string) {
			_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner})
			require.NoError(t, err)
		}
		allocate("first")
		count.take()
		allocate("second")
		require.Equal(t, []string{"create", "update", "update"}, count.take(),
			"create the allocation, settle the one before, update the head")
		head, err := s.Get(t.Context(), poolKey("lab"))
		require.NoError(t, err)
		require.Equal(t, []string{"get"}, count.take())
		_, err = s.Get(t.Context(), allocKey("second"))
		require.NoError(t, err)
		require.Equal(t, []string{"get"}, count.take(), "this handle's own commit")
		head, err = storetest.CommitOne(t.Context(), s, head)
		require.NoError(t, err)
		require.Equal(t, []string{"update", "update"}, count.take(), "settle, update the head")
		head, err = storetest.CommitOne(t.Context(), s, head)
		require.NoError(t, err)
		require.Equal(t, []string{"update"}, count.take())
		renewed := record(allocKey("second"), "renewed")
		for _, op := range []store.Op{store.Put, store.Put, store.Delete} {
			head, err = storetest.CommitOne(t.Context(), s, head, store.Write{Op: op, Record: renewed})
			require.NoError(t, err)
			require.Equal(t, []string{"update", "update"}, count.take(), "what is written again need not be settled")
		}
		time.Sleep(time.Second)
		require.Equal(t, []string{"remove", "update"}, count.take(), "behind the last commit: settle, trim the log")

		coldCount := &counting{API: &slow{&simClient{server: server}, time.Millisecond}}
		cold := kube.NewLively(coldCount, kube.Options{}, counterID("cold"))
		_, err = cold.Get(t.Context(), renewed.Key)
		require.ErrorIs(t, err, store.ErrNotFound)
		require.Equal(t, []string{"get"}, coldCount.take(), "nothing is pending")
		require.NoError(t, s.Close())
		require.NoError(t, cold.Close())
	})
}

// TestNoReadsBesides: a handle that fills a pool by large commits reads no object to settle it, however many there are.
func TestNoReadsBesides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		count := &counting{API: &slow{&simClient{server: newSimServer()}, time.Millisecond}}
		s := kube.NewLively(count, kube.Options{}, counterID("one"))
		ranges, err := cidr.ParseRanges("10.0.0.0/16")
		require.NoError(t, err)
		p, err := pool.Create(t.Context(), s, "lab", pool.Spec{Ranges: ranges}, nil)
		require.NoError(t, err)
		count.take()
		const rounds, each = 3, 3000
		for round := range rounds {
			claims := make([]pool.Claim, each)
			for i := range claims {
				claims[i].Owner = string(rune('a'+round)) + time.Duration(i).String()
			}
			_, err := p.All(t.Context(), pooltest.Allocations(claims)...)
			require.NoError(t, err)
		}
		time.Sleep(time.Second)
		verbs := count.take()
		require.False(t, slices.Contains(verbs, "get"))
		require.LessOrEqual(t, len(verbs), 2*rounds*each+2*rounds+1)
		require.NoError(t, s.Close())
	})
}

// TestRequestsOfACrowd counts the requests of many handles of one process that allocate from one pool at once, with a
// server that answers at once and with one so slow that no turn is passed on. They commit for one another, so that an
// allocation takes little more than a request. Time is not real, so no load of the machine counts.
func TestRequestsOfACrowd(t *testing.T) {
	for request, most := range map[time.Duration]float64{
		time.Millisecond: 1.7, 10 * time.Millisecond: 2, 100 * time.Millisecond: 6,
	} {
		t.Run(request.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { requireFewRequests(t, request, most) })
		})
	}
}

func requireFewRequests(t *testing.T, request time.Duration, most float64) {
	t.Helper()
	const handles, callers, each = 16, 4, 20
	count := &counting{API: &slow{&simClient{server: newSimServer()}, request}}
	stores, pools := onePool(t, count, handles)
	count.take()
	var all sync.WaitGroup
	start := time.Now()
	for h, p := range pools {
		for c := range callers {
			all.Go(func() {
				for i := range each {
					_, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprintf("%d-%d-%d", h, c, i)})
					assert.NoError(t, err)
				}
			})
		}
	}
	all.Wait()
	took := time.Since(start)
	verbs := map[string]int{}
	total := 0
	for _, verb := range count.take() {
		verbs[verb]++
		total++
	}
	t.Logf("%v, %.2f each, in %v", verbs, float64(total)/(handles*callers*each), took)
	require.LessOrEqual(t, float64(total)/(handles*callers*each), most)
	for _, s := range stores {
		require.NoError(t, s.Close())
	}
}

// onePool opens a pool through so many handles of one process.
func onePool(t *testing.T, api kube.API, handles int) (stores []*kube.Store, pools []*pool.Pool) {
	t.Helper()
	ranges, err := cidr.ParseRanges("10.0.0.0/16")
	require.NoError(t, err)
	for h := range handles {
		s := kube.NewLively(api, kube.Options{}, counterID(fmt.Sprint("handle-", h)))
		if h == 0 {
			_, err := pool.Create(t.Context(), s, "lab", pool.Spec{Ranges: ranges}, nil)
			require.NoError(t, err)
		}
		p, err := pool.Open(t.Context(), s, "lab", nil)
		require.NoError(t, err)
		stores, pools = append(stores, s), append(pools, p)
	}
	kube.OneProcess(stores...)
	return stores, pools
}

// TestNobodyWaitsForItself: a process never waits behind a ticket of its own, which would go only when others have lost
// their patience, however its callers answer one another.
func TestNobodyWaitsForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stores, pools := onePool(t, &slow{&simClient{server: newSimServer()}, 4 * time.Millisecond}, 4)
		var all sync.WaitGroup
		for h, p := range pools {
			all.Go(func() {
				for range 500 {
					owner, begin := fmt.Sprint("owner-", h), time.Now()
					_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner})
					if err == nil {
						_, err = p.Release(t.Context(), pool.Held{Owner: owner})
					}
					if took := time.Since(begin); err != nil || took >= store.MaxTurn {
						t.Errorf("a pair took %v, error: %v", took, err)
						return
					}
				}
			})
		}
		all.Wait()
		for _, s := range stores {
			require.NoError(t, s.Close())
		}
	})
}
