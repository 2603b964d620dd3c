package kubetest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// fragmented returns a store in memory with a pool of 2^bits addresses, of which every other one is held: the most that
// its free space can take.
func fragmented(t testing.TB, bits int) *store.Memory {
	t.Helper()
	memory := store.NewMemory()
	p := createPool(t, memory, fmt.Sprintf("10.0.0.0/%d", 32-bits))
	addr := netip.MustParseAddr("10.0.0.0")
	for range 32 {
		claims := make([]pool.Claim, 1<<bits/2/32)
		for i := range claims {
			claims[i] = pool.Claim{Owner: addr.String(), Requests: []pool.Request{pool.ExactAddr(addr)}}
			addr = addr.Next().Next()
		}
		_, err := p.All(t.Context(), pooltest.Allocations(claims)...)
		require.NoError(t, err)
	}
	return memory
}

// TestMillion takes over the head of such a pool and the pieces of its free space, and goes on with it. For a million
// addresses: go test -run TestMillion -args -long.
func TestMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a large pool")
	}
	memory, server := fragmented(t, size(18, 20)), sharedServer(t)
	var largest atomic.Int64
	config := server.config(writer)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			for size := largest.Load(); r.ContentLength > size && !largest.CompareAndSwap(size, r.ContentLength); {
				size = largest.Load()
			}
			return next.RoundTrip(r)
		})
	})
	s := open(t, config, kube.Options{Namespace: newNamespace(), Parallel: 1})
	head, err := memory.Get(t.Context(), poolKey(labPool))
	require.NoError(t, err)
	head.Revision = 0
	var writes []store.Write
	for r, err := range memory.List(t.Context(), store.KindSpace, labPool) {
		require.NoError(t, err)
		writes = append(writes, store.Write{Op: store.Create, Record: r})
	}
	_, err = storetest.CommitOne(t.Context(), s, head, writes...)
	require.NoError(t, err)
	p, err := pool.Open(t.Context(), s, labPool, nil)
	require.NoError(t, err)
	addr := netip.MustParseAddr("10.0.0.1")
	for i := range 40 {
		a, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint("owner-", i)})
		require.NoError(t, err)
		require.Equal(t, addr, a.Prefixes[0].Addr())
		addr = addr.Next().Next()
	}
	require.Greater(t, len(writes), 1)
	require.Less(t, largest.Load(), int64(1<<20), "no object comes near to etcd's limit of 1.5 MiB")
	t.Logf("%d pieces; the largest request has %d bytes", len(writes), largest.Load())
}

// TestTooLarge finds the largest record, as a head and beside one, and checks that a larger one changes nothing.
func TestTooLarge(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	s := open(t, server.config(writer), kube.Options{Namespace: namespace})
	head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""))
	require.NoError(t, err)
	large := func(r store.Record, size int) store.Record {
		r.Data = json.RawMessage(`"` + strings.Repeat("x", size-2) + `"`)
		return r
	}
	for _, size := range []int{1400 << 10, 1600 << 10, 2500 << 10, 4 << 20} {
		for _, asHead := range []bool{false, true} {
			next, writes := head, []store.Write{
				{Op: store.Put, Record: record(allocKey("small"), "")},
				{Op: store.Create, Record: record(allocKey(fmt.Sprint("new-", size)), "")},
			}
			if asHead {
				next = large(head, size)
			} else {
				writes[1].Record = large(writes[1].Record, size)
			}
			got, err := storetest.CommitOne(t.Context(), s, next, writes...)
			if size < 1500<<10 {
				require.NoError(t, err)
				head = got
				head.Data = nil
				head, err = storetest.CommitOne(t.Context(), s, head,
					store.Write{Op: store.Delete, Record: writes[1].Record})
				require.NoError(t, err)
				continue
			}
			var tooLarge *store.TooLargeError
			require.ErrorAs(t, err, &tooLarge, "%d", size)
			require.Greater(t, tooLarge.Size, int64(size))
			now, err := s.Get(t.Context(), head.Key)
			require.NoError(t, err)
			require.Equal(t, head, now)
			_, err = s.Get(t.Context(), writes[1].Record.Key)
			require.ErrorIs(t, err, store.ErrNotFound)
		}
	}
	_, err = s.Sweep(t.Context())
	require.NoError(t, err)
	requireSettled(t, server, namespace, 2)
}

// TestCollision has an object under the name of another key.
func TestCollision(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	s := open(t, server.config(writer), kube.Options{Namespace: namespace})
	_, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), "true"))
	require.NoError(t, err)
	config := server.config(writer)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.URL.Path = strings.ReplaceAll(r.URL.Path, "/other", "/lab")
			return next.RoundTrip(r)
		})
	})
	other := open(t, config, kube.Options{Namespace: namespace})
	_, err = other.Get(t.Context(), poolKey("other"))
	require.ErrorIs(t, err, kube.ErrCollision)
	_, err = storetest.CommitOne(t.Context(), other, store.Record{Key: poolKey("other"), Revision: 1})
	require.ErrorIs(t, err, kube.ErrCollision)
}
