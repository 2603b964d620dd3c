package kube_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

func createAlloc(name string) []store.Write {
	return []store.Write{{Op: store.Create, Record: record(allocKey(name), "held")}}
}

// lively returns a handle of a process of its own, as a real one.
func lively(server *simServer, name string) *kube.Store {
	return kube.NewLively(&simClient{server: server}, kube.Options{}, counterID(name))
}

// tickets counts those at the server.
func (s *simServer) tickets() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.objects {
		if o.Turn() != "" {
			n++
		}
	}
	return n
}

// listed returns how many pages of lists were asked for.
func (s *simServer) listed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists
}

// TestTurnsInOrder: processes get their turns in the order in which they asked for them, each with the head that the
// one before it left, and nothing stays. While they wait, each for longer than a turn may last, they ask the server
// nothing: many of them would keep it too busy.
func TestTurnsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newSimServer()
		first := lively(server, "first")
		_, err := storetest.CommitOne(t.Context(), first, record(poolKey("lab"), "none"))
		require.NoError(t, err)
		held, err := first.Turn(t.Context(), poolKey("lab"))
		require.NoError(t, err)
		var mu sync.Mutex
		var order []int
		var handles []*kube.Store
		var all sync.WaitGroup
		for i := range 8 {
			s := lively(server, fmt.Sprint("process-", i))
			handles = append(handles, s)
			all.Go(func() {
				turn, err := s.Turn(t.Context(), poolKey("lab"))
				require.NoError(t, err)
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				head := turn.Heads()[0]
				if i > 0 {
					require.Equal(t, fmt.Sprint(i-1), head.State)
				}
				head.State = fmt.Sprint(i)
				time.Sleep(store.MaxTurn * 3 / 4)
				_, err = s.Commit(t.Context(), store.Change{Head: head, Writes: createAlloc(head.State), Turn: turn})
				require.NoError(t, err)
			})
			synctest.Wait()
		}
		require.Equal(t, 9, server.tickets())
		asked := server.listed()
		time.Sleep(store.MaxTurn * 3 / 4)
		held.End()
		all.Wait()
		require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7}, order)
		require.Equal(t, asked, server.listed())
		synctest.Wait()
		require.Zero(t, server.tickets())
		for _, s := range append(handles, first) {
			require.NoError(t, s.Close())
		}
	})
}

// TestTurnsOnABusyServer: where requests take long, a turn may take as long as it needs for some of them, and the
// tickets of live processes stay. A client that limits itself does not wait for ever behind a dead one.
func TestTurnsOnABusyServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newSimServer()
		first := lively(server, "first")
		_, err := storetest.CommitOne(t.Context(), first, record(poolKey("lab"), "none"))
		require.NoError(t, err)
		handles := []*kube.Store{first}
		var all sync.WaitGroup
		for i := range 6 {
			client := &simClient{server: server, slow: store.MaxTurn / 2}
			s := kube.NewLively(client, kube.Options{}, counterID(fmt.Sprint("process-", i)))
			handles = append(handles, s)
			all.Go(func() {
				turn, err := s.Turn(t.Context(), poolKey("lab"))
				require.NoError(t, err)
				head := turn.Heads()[0]
				_, err = s.Commit(t.Context(), store.Change{Head: head, Writes: createAlloc(fmt.Sprint(i)), Turn: turn})
				require.NoError(t, err, "nobody has come between")
			})
			synctest.Wait()
		}
		all.Wait()
		time.Sleep(time.Minute) // for what is tidied up behind
		require.Zero(t, server.tickets())
		for _, s := range handles {
			require.NoError(t, s.Close())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		server, dead := deadInTurn(t)
		limited := &simClient{server: server, slow: time.Minute}
		heir := kube.NewLively(limited, kube.Options{}, counterID("heir"))
		begin := time.Now()
		turn, err := heir.Turn(t.Context(), poolKey("lab"))
		require.NoError(t, err)
		require.Equal(t, 20*store.MaxTurn+3*time.Minute, time.Since(begin), "a ticket, a dead one removed, the head")
		turn.End()
		time.Sleep(10 * time.Minute) // for what is tidied up behind
		for _, s := range []*kube.Store{dead, heir} {
			require.NoError(t, s.Close())
		}
	})
}

// TestTurnOfTheDead: others wait for the ticket of a process that has crashed for as long as a turn may last, and
// little longer, also where several have.
func TestTurnOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newSimServer()
		var handles []*kube.Store
		for i := range 2 {
			client := &simClient{server: server}
			dead := kube.NewLively(client, kube.Options{}, counterID(fmt.Sprint("dead-", i)))
			go func() { _, _ = dead.Turn(t.Context(), poolKey("lab")) }()
			synctest.Wait()
			client.mu.Lock()
			client.crashed = true
			client.mu.Unlock()
			handles = append(handles, dead)
		}
		start := time.Now()
		heir := lively(server, "heir")
		turn, err := heir.Turn(t.Context(), poolKey("lab"))
		require.NoError(t, err)
		require.Equal(t, 2*store.MaxTurn+store.MaxTurn/8, time.Since(start))
		turn.End()
		synctest.Wait()
		require.Zero(t, server.tickets())
		for _, s := range append(handles, heir) {
			require.NoError(t, s.Close())
		}
	})
}

// deadInTurn returns the handle of a process that has crashed in its turn.
func deadInTurn(t *testing.T) (*simServer, *kube.Store) {
	t.Helper()
	server := newSimServer()
	client := &simClient{server: server}
	dead := kube.NewLively(client, kube.Options{}, counterID("dead"))
	_, err := dead.Turn(t.Context(), poolKey("lab"))
	require.NoError(t, err)
	client.mu.Lock()
	client.crashed = true
	client.mu.Unlock()
	return server, dead
}

// TestTurnsBehindTheDead: of many who wait behind a process that has crashed, one removes its ticket, and the others
// know it from the server.
func TestTurnsBehindTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, dead := deadInTurn(t)
		start := time.Now()
		handles, clients := []*kube.Store{dead}, []*simClient{}
		var all sync.WaitGroup
		for i := range 20 {
			clients = append(clients, &simClient{server: server})
			s := kube.NewLively(clients[i], kube.Options{}, counterID(fmt.Sprint("process-", i)))
			handles = append(handles, s)
			all.Go(func() {
				turn, err := s.Turn(t.Context(), poolKey("lab"))
				if assert.NoError(t, err) {
					turn.End()
				}
			})
			synctest.Wait()
		}
		all.Wait()
		require.Equal(t, store.MaxTurn, time.Since(start))
		synctest.Wait()
		require.Zero(t, server.tickets())
		calls := 0
		for _, c := range clients {
			calls += c.calls
		}
		require.Equal(t, 3*20+1, calls, "each makes a ticket, reads the head and removes the ticket, beside that one")
		for _, s := range handles {
			require.NoError(t, s.Close())
		}
	})
}

// TestTurnGivenUp: a ticket goes when the context of a caller who waits ends, and when its handle is closed, whether it
// waits or has its turn.
func TestTurnGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newSimServer()
		first, second, third := lively(server, "first"), lively(server, "second"), lively(server, "third")
		_, err := first.Turn(t.Context(), poolKey("lab"))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		for i, c := range []context.Context{ctx, t.Context()} {
			s := []*kube.Store{second, third}[i]
			go func() {
				_, err := s.Turn(c, poolKey("lab"))
				errs <- err
			}()
			synctest.Wait()
		}
		require.Equal(t, 3, server.tickets())
		cancel()
		require.ErrorIs(t, <-errs, context.Canceled)
		synctest.Wait()
		require.Equal(t, 2, server.tickets())
		require.NoError(t, third.Close())
		require.ErrorIs(t, <-errs, store.ErrClosed)
		require.Equal(t, 1, server.tickets())
		require.NoError(t, first.Close())
		require.Zero(t, server.tickets())
		require.NoError(t, second.Close())
	})
}

// slow is a client whose requests take some time.
type slow struct {
	*simClient
	time time.Duration
}

func (c *slow) Get(ctx context.Context, r kube.Ref) (*kube.Object, error) {
	time.Sleep(c.time)
	return c.simClient.Get(ctx, r)
}

func (c *slow) Create(ctx context.Context, o *kube.Object) (*kube.Object, error) {
	time.Sleep(c.time)
	return c.simClient.Create(ctx, o)
}

func (c *slow) Update(ctx context.Context, o *kube.Object) (*kube.Object, error) {
	time.Sleep(c.time)
	return c.simClient.Update(ctx, o)
}

// TestFasterWithoutTurns: a process that commits again and again without turns, and is faster, does not keep one from
// its commit that takes turns.
func TestFasterWithoutTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newSimServer()
		fast := kube.NewLively(&slow{&simClient{server: server}, time.Millisecond}, kube.Options{}, counterID("fast"))
		patient := kube.NewLively(&slow{&simClient{server: server}, 2 * time.Millisecond}, kube.Options{},
			counterID("patient"))
		head, err := storetest.CommitOne(t.Context(), fast, record(poolKey("lab"), ""))
		require.NoError(t, err)
		stop, done, commits := make(chan struct{}), make(chan struct{}), 0
		go func() {
			defer close(done)
			for ; ; commits++ {
				select {
				case <-stop:
					return
				default:
				}
				next, err := storetest.CommitOne(t.Context(), fast, head, createAlloc(fmt.Sprint("f-", commits))...)
				if err != nil {
					next, err = fast.Get(t.Context(), head.Key)
				}
				if head = next; !assert.NoError(t, err) {
					return
				}
			}
		}()
		for i := range 20 {
			tries := 0
			for {
				tries++
				turn, err := patient.Turn(t.Context(), poolKey("lab"))
				require.NoError(t, err)
				_, err = patient.Commit(t.Context(),
					store.Change{Head: turn.Heads()[0], Writes: createAlloc(fmt.Sprint("p-", i)), Turn: turn})
				if err == nil {
					break
				}
				require.ErrorIs(t, err, store.ErrConflict)
				require.Less(t, tries, 3)
			}
		}
		close(stop)
		<-done
		require.Greater(t, commits, 20)
		require.NoError(t, fast.Close())
		require.NoError(t, patient.Close())
		require.Zero(t, server.tickets())
		requireNothingPending(t, server)
	})
}

// TestSweepTickets: Sweep removes the tickets of processes that have ended, if nobody waits behind them, and leaves
// those of the living.
func TestSweepTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, dead := deadInTurn(t)
		s := lively(server, "sweeper")
		for _, kind := range []store.Kind{"ticket", store.KindNetwork, store.KindSpace} {
			for range s.List(t.Context(), kind, "") {
				require.Fail(t, "a ticket is no record")
			}
		}
		changed, err := s.Sweep(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, changed)
		require.Zero(t, server.tickets())
		require.NoError(t, s.Close())
		require.NoError(t, dead.Close())
	})
}

// TestOneLine: callers commit for one another only if they are the same user of the same server.
func TestOneLine(t *testing.T) {
	base := func(change func(*rest.Config)) *rest.Config {
		config := &rest.Config{Host: "https://10.0.0.1:6443", BearerToken: "one"}
		change(config)
		return config
	}
	same := base(func(*rest.Config) {})
	require.True(t, kube.OneLine(same, base(func(*rest.Config) {})))
	require.True(t, kube.OneLine(same, base(func(c *rest.Config) { c.QPS = 20 })))
	for name, change := range map[string]func(*rest.Config){
		"server":      func(c *rest.Config) { c.Host = "https://10.0.0.2:6443" },
		"token":       func(c *rest.Config) { c.BearerToken = "two" },
		"token file":  func(c *rest.Config) { c.BearerTokenFile = "token" },
		"name":        func(c *rest.Config) { c.Username = "somebody" },
		"certificate": func(c *rest.Config) { c.CertData = []byte("certificate") },
		"impersonate": func(c *rest.Config) { c.Impersonate.UserName = "somebody" },
	} {
		require.False(t, kube.OneLine(same, base(change)), name)
	}
}

// TestTurnsSeveralPlaces: a process whose callers have several places in the line at the server, because the first of
// them has waited there for long, leaves each place when its own caller's turn ends, and no other.
func TestTurnsSeveralPlaces(t *testing.T) {
	const holds = store.MaxTurn * 4 / 5
	for _, test := range []struct{ first, forSecond time.Duration }{
		{holds / 4, holds / 4},
		{holds, holds},
		{2 * holds, store.MaxTurn}, // the second caller passes over the first, whose turn ends in that of the second
	} {
		synctest.Test(t, func(t *testing.T) {
			server := newSimServer()
			first, second, other := lively(server, "first"), lively(server, "second"), lively(server, "other")
			kube.OneProcess(first, second)
			start, at := time.Now(), map[string]time.Duration{}
			var mu sync.Mutex
			var all sync.WaitGroup
			enter := func(name string, s *kube.Store, holds time.Duration) {
				all.Go(func() {
					turn, err := s.Turn(t.Context(), poolKey("lab"))
					require.NoError(t, err)
					mu.Lock()
					at[name] = time.Since(start)
					mu.Unlock()
					time.Sleep(holds)
					turn.End()
				})
				synctest.Wait()
			}
			for i := range 3 {
				enter(fmt.Sprint("holder-", i), lively(server, fmt.Sprint("holder-", i)), holds)
			}
			enter("first", first, test.first)
			enter("second", second, holds) // it goes to the server when the first one has been there for 2 * MaxTurn
			time.Sleep(holds*3 - holds/4)
			enter("other", other, 0)
			all.Wait()
			require.Equal(t, map[string]time.Duration{
				"holder-0": 0, "holder-1": holds, "holder-2": 2 * holds, "first": 3 * holds,
				"second": 3*holds + test.forSecond, "other": 4*holds + test.forSecond,
			}, at)
			synctest.Wait()
			require.Zero(t, server.tickets())
		})
	}
}
