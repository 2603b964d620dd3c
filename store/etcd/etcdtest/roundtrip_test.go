package etcdtest_test

import (
	"context"
	"fmt"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// calls counts the calls that a client sends, by method.
type calls struct {
	mu sync.Mutex
	by map[string]int
}

func (c *calls) intercept(
	ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	c.mu.Lock()
	c.by[path.Base(method)]++
	c.mu.Unlock()
	return invoke(ctx, method, request, reply, cc, options...)
}

// during returns what was sent while do ran, such as "map[Range:1 Txn:1]".
func (c *calls) during(do func()) string {
	c.mu.Lock()
	c.by = map[string]int{}
	c.mu.Unlock()
	do()
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.by)
}

// counted opens a store whose calls are counted.
func counted(t *testing.T, addr string) (*etcd.Store, *calls) {
	t.Helper()
	c := &calls{by: map[string]int{}}
	config := clientConfig(addr)
	config.DialOptions = append(config.DialOptions, grpc.WithChainUnaryInterceptor(c.intercept))
	s, err := etcd.New(connect(t, config), nil)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s, c
}

func parseSpec(t testing.TB, ranges ...string) pool.Spec {
	t.Helper()
	spec, err := pool.ParseSpec(ranges...)
	require.NoError(t, err)
	return spec
}

const oneTxn = "map[Txn:1]"

// TestPoolRoundTrips counts what a pool sends to etcd when nobody else writes.
func TestPoolRoundTrips(t *testing.T) {
	server := startServer(t)
	s, sent := counted(t, server.addr)
	ctx := t.Context()
	var p *pool.Pool
	require.Equal(t, "map[Range:2 Txn:1]", sent.during(func() { // whether there are records without a head, of two kinds
		var err error
		p, err = pool.Create(ctx, s, "blue", parseSpec(t, "10.0.0.0/16", "fd00::/64"), nil)
		require.NoError(t, err)
	}))
	for i := range 20 {
		owner := fmt.Sprint("pod-", i)
		require.Equal(t, oneTxn, sent.during(func() {
			_, err := p.Allocate(ctx, pool.Claim{Owner: owner, Policy: pool.RequireDualStack})
			require.NoError(t, err)
		}), "allocate")
		if i%2 == 0 {
			require.Equal(t, oneTxn, sent.during(func() {
				_, err := p.Release(ctx, pool.Held{Owner: owner})
				require.NoError(t, err)
			}), "release")
		}
	}
	require.Equal(t, oneTxn, sent.during(func() {
		_, err := p.Allocate(ctx, pool.Claim{Owner: "lease", TTL: time.Hour})
		require.NoError(t, err)
	}), "allocate a lease")
	require.Equal(t, oneTxn, sent.during(func() {
		_, err := p.Renew(ctx, pool.Held{Owner: "lease"}, 2*time.Hour)
		require.NoError(t, err)
	}), "renew")
	require.Equal(t, "map[Range:1 Txn:1]", sent.during(func() {
		a, err := p.Get(ctx, pool.Held{Addr: parsePrefix("10.0.0.1/32").Addr()})
		require.NoError(t, err)
		require.Equal(t, "pod-1", a.Owner)
	}), "look up")

	cold, sentCold := counted(t, server.addr)
	require.Equal(t, "map[Range:1 Txn:1]", sentCold.during(func() {
		other, err := pool.Open(ctx, cold, "blue", nil)
		require.NoError(t, err)
		_, err = other.Allocate(ctx, pool.Claim{Owner: "first of a new process"})
		require.NoError(t, err)
	}))
	require.Equal(t, "map[Txn:2]", sent.during(func() {
		_, err := p.Allocate(ctx, pool.Claim{Owner: "conflict"})
		require.NoError(t, err)
	}), "the answer to a commit that comes too late has the head")
	report, err := p.Verify(ctx)
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report)
	requireExactIndexes(t, server, "/ipalloc/")
}

// TestStoreRoundTrips counts what commits cost whose records the handle has not seen.
func TestStoreRoundTrips(t *testing.T) {
	server := startServer(t)
	writer := openStore(t, server.addr)
	s, sent := counted(t, server.addr)
	ctx := t.Context()
	head, err := storetest.CommitOne(ctx, writer, head("a"), create(lease("x", 1)), create(lease("y", 1)))
	require.NoError(t, err)
	commit := func(writes ...store.Write) func() {
		return func() {
			t.Helper()
			var err error
			head, err = storetest.CommitOne(ctx, s, head, writes...)
			require.NoError(t, err)
		}
	}
	require.Equal(t, "map[Range:1 Txn:1]", sent.during(commit()), "a head that was not seen")
	require.Equal(t, oneTxn, sent.during(commit()))
	require.Equal(t, "map[Txn:2]", sent.during(commit(put(lease("x", 2)), remove("y"))), "records that were not seen")
	require.Equal(t, oneTxn, sent.during(commit(put(lease("x", 3)), remove("y"))))
	require.Equal(t, oneTxn, sent.during(commit(put(lease("new", 3)))))

	var many []store.Write
	for i := range 20 {
		many = append(many, create(lease(fmt.Sprint("many ", i), i)))
	}
	require.Equal(t, oneTxn, sent.during(commit(many...)))
	require.Equal(t, "map[Txn:2]", sent.during(func() {
		_, err := storetest.CommitOne(ctx, s, head, many...)
		var exists *store.ExistsError
		require.ErrorAs(t, err, &exists)
		require.Len(t, exists.Records, 20)
	}), "what exists, of many")
	newer, err := storetest.CommitOne(ctx, writer, head)
	require.NoError(t, err)
	require.Equal(t, oneTxn, sent.during(func() {
		_, err := storetest.CommitOne(ctx, s, head, many...)
		var conflict *store.ConflictError
		require.ErrorAs(t, err, &conflict)
		require.Equal(t, newer, conflict.Current)
	}), "a conflict, of many")
	requireExactIndexes(t, server, "/ipalloc/")
}
