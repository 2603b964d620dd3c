package etcdtest_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
	"github.com/ipalloc/ipalloc/store/storetest"
	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// TestWatchAcrossCompaction cuts a watch off while the record changes and the history of that is compacted away: it
// cannot go on from where it was, and must look again.
func TestWatchAcrossCompaction(t *testing.T) {
	server := startServer(t)
	proxy := proxy.New(t, server.addr)
	writer, client := openStore(t, server.addr), connect(t, clientConfig(server.addr))
	watching, config := make(chan struct{}, 10), clientConfig(proxy.Addr())
	config.DialOptions = append(config.DialOptions, grpc.WithChainStreamInterceptor(
		func(
			ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer,
			options ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			stream, err := open(ctx, d, cc, method, options...)
			watching <- struct{}{}
			return stream, err
		}))
	ctx := t.Context()
	watcher, err := etcd.Open(ctx, config, nil)
	require.NoError(t, err)
	t.Cleanup(func() { watcher.Close() })
	h, err := storetest.CommitOne(ctx, writer, head("a"))
	require.NoError(t, err)
	type result struct {
		record store.Record
		err    error
	}
	results := make(chan result, 1)
	go func() {
		r, err := watcher.Watch(ctx, h.Key, h.Revision)
		results <- result{r, err}
	}()
	<-watching
	proxy.Refuse()
	proxy.Cut()
	for range 3 {
		h, err = storetest.CommitOne(ctx, writer, h)
		require.NoError(t, err)
	}
	_, err = client.Compact(ctx, h.Revision, clientv3.WithCompactPhysical())
	require.NoError(t, err)
	proxy.Heal()
	got := <-results
	require.NoError(t, got.err)
	require.Equal(t, h.Revision, got.record.Revision)
}

// TestListAcrossCompaction compacts, and changes what is listed, between the pages.
func TestListAcrossCompaction(t *testing.T) {
	server := startServer(t)
	s, client := openStore(t, server.addr), connect(t, clientConfig(server.addr))
	ctx := t.Context()
	h := head("a")
	var err error
	for i := range 10 {
		var writes []store.Write
		for j := range 30 {
			r := lease(string(rune('a'+i))+string(rune('a'+j)), j)
			writes = append(writes, create(r))
		}
		h, err = storetest.CommitOne(ctx, s, h, writes...)
		require.NoError(t, err)
	}
	for name, all := range map[string]func(func(store.Record, error) bool){
		"List": s.List(ctx, store.KindAllocation, "a"), "ByExpiry": s.ByExpiry(ctx, store.KindAllocation, "a"),
	} {
		times := map[string]int{}
		for r, err := range all {
			require.NoError(t, err, name)
			times[r.Name]++
			if len(times)%20 == 0 {
				r.State = "changed"
				h, err = storetest.CommitOne(context.WithoutCancel(ctx), s, h, put(r))
				require.NoError(t, err)
				_, err = client.Compact(ctx, h.Revision)
				require.NoError(t, err)
			}
		}
		require.Len(t, times, 300, name)
		for n, count := range times {
			require.Equal(t, 1, count, "%s: %s", name, n)
		}
	}
}
