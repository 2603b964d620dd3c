package kube_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// million is the ranges of a pool of 2^20 addresses.
const million = "10.0.0.0/12"

// fragmented returns a store in memory with a pool of a million addresses, of which every other one is held: the most that its free space
// can take.
func fragmented(t testing.TB) *store.Memory {
	t.Helper()
	memory := store.NewMemory()
	p := createPool(t, memory, million)
	addr := netip.MustParseAddr("10.0.0.0")
	for range 32 {
		claims := make([]pool.Claim, 1<<19/32)
		for i := range claims {
			claims[i] = pool.Claim{Owner: addr.String(), Requests: []pool.Request{pool.ExactAddr(addr)}}
			addr = addr.Next().Next()
		}
		_, err := p.AllocateAll(t.Context(), claims)
		require.NoError(t, err)
	}
	return memory
}

// TestMillion takes over the head of such a pool and the pieces of its free space, and goes on with it.
func TestMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a large pool")
	}
	memory, server, largest := fragmented(t), sharedServer(t), int64(0)
	config := server.config(writer)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			largest = max(largest, r.ContentLength)
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
	require.Less(t, largest, int64(1<<20), "no object comes near to etcd's limit of 1.5 MiB")
	t.Logf("%d pieces; the largest request has %d bytes", len(writes), largest)
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
			next, writes := head, []store.Write{{Op: store.Put, Record: record(allocKey("small"), "")}, {Op: store.Create, Record: record(allocKey(fmt.Sprint("new-", size)), "")}}
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
				head, err = storetest.CommitOne(t.Context(), s, head, store.Write{Op: store.Delete, Record: writes[1].Record})
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

var legalName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// TestNames: plain keys have readable names, all have legal ones, and no two the same.
func TestNames(t *testing.T) {
	for _, c := range []struct{ kind, pool, name, want string }{
		{"pool", "lab", "", "ippools/lab"},
		{"allocation", "lab", "6f1d2c3b-0000-4000-8000-000000000001", "ipallocations/lab.6f1d2c3b-0000-4000-8000-000000000001"},
		{"allocation", "lab", "ns/pod/eth0", "ipallocations/allocation-lab-ns-pod-eth0--"},
		{"allocation", "lab", "Pod", "ipallocations/allocation-lab-pod--"},
		{"cooling", "lab", "10.0.0.1/32", "ipallocations/cooling-lab-10-0-0-1-32--"},
		{"space", "lab", "p1", "iprecords/space-lab-p1--"},
		{"pool", "--", "", "ippools/pool--"},
		{"pool", "日本", "", "ippools/pool--"},
	} {
		r := kube.RefOf(store.Key{Kind: store.Kind(c.kind), Pool: c.pool, Name: c.name})
		require.True(t, strings.HasPrefix(r.String(), c.want), r.String())
		require.Equal(t, strings.HasSuffix(c.want, "--"), r.String() != c.want)
		same, err := kube.ParseRef(r.String())
		require.NoError(t, err)
		require.Equal(t, r, same)
	}
	texts := []string{"a", "b", "a.b", "a-b", "a--b", "-a", "a-", "A", "é", ".", "", strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("é", 512), "x--y"}
	seen := map[kube.Ref]store.Key{}
	for _, kind := range []store.Kind{"pool", "allocation", "cooling", "space", "a", store.Kind(strings.Repeat("k", 1024))} {
		for _, in := range texts {
			for _, name := range texts {
				key := store.Key{Kind: kind, Pool: in, Name: name}
				if key.Validate() != nil {
					continue
				}
				r := kube.RefOf(key)
				require.NotContains(t, seen, r, "%v", key)
				seen[r] = key
				require.Regexp(t, legalName, r.Name())
				require.LessOrEqual(t, len(r.Name()), 253)
				require.LessOrEqual(t, len(kube.LabelValue(in)), 63)
			}
		}
	}
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
