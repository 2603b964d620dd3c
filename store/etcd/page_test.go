package etcd_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/ipalloc/ipalloc/store/etcd"
)

// ranges is a server that has keys without values, and counts those that it looks at as etcd does: all of each range.
type ranges struct {
	pb.KVClient
	keys             []string // sorted
	requests, looked int
}

func (r *ranges) Range(_ context.Context, q *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	from, _ := slices.BinarySearch(r.keys, string(q.Key))
	to, _ := slices.BinarySearch(r.keys, string(q.RangeEnd))
	if from > to {
		return nil, fmt.Errorf("a range from %q to %q", q.Key, q.RangeEnd)
	}
	r.requests++
	r.looked += to - from
	response := &pb.RangeResponse{Header: &pb.ResponseHeader{}, Count: int64(to - from)}
	for _, key := range r.keys[from:min(to, from+int(q.Limit))] {
		response.Kvs = append(response.Kvs, &mvccpb.KeyValue{Key: []byte(key)})
	}
	response.More = len(response.Kvs) < to-from
	return response, nil
}

// list lists what begins with a.
func (r *ranges) list(ctx context.Context) ([]string, error) {
	r.requests, r.looked = 0, 0
	return etcd.ListKeys(ctx, clientv3.NewKVFromKVClient(r, nil), "a", "b")
}

// TestListHasAllKeys: pages have each key once, in their order, whatever the keys look like.
func TestListHasAllKeys(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 1))
		pick := func(from ...string) string { return from[random.IntN(len(from))] }
		r := &ranges{keys: []string{"", "0", "b", "b0"}}
		for range random.IntN(30) {
			// Few beginnings, so that many keys have the same one, and more of some than fit a page.
			name := pick("", "x", strings.Repeat("x", 8), "\xff\xff", "y\xff")
			for range random.IntN(4) {
				name += pick("\x00", "0", "a", "b", "\xfe", "\xff")
			}
			for i := range []int{1, 3, 600, 2_500}[random.IntN(4)] {
				r.keys = append(r.keys, fmt.Sprintf("a%s%04d", name, i))
			}
		}
		slices.Sort(r.keys)
		r.keys = slices.Compact(r.keys)
		got, err := r.list(t.Context())
		require.NoError(t, err, "seed %d", seed)
		want := slices.DeleteFunc(slices.Clone(r.keys), func(key string) bool { return key < "a" || key >= "b" })
		require.True(t, slices.Equal(want, got), "seed %d", seed)
	}
}

// TestListLooksAtFewKeys: what a list takes does not grow with the square of what there is.
func TestListLooksAtFewKeys(t *testing.T) {
	const n = 1_000_000
	for _, form := range []string{"a/pod-%06d", "a/cluster-of-which-the-name-is-long/%x/%[1]d"} {
		r := &ranges{}
		for i := range n {
			r.keys = append(r.keys, fmt.Sprintf(form, i))
		}
		slices.Sort(r.keys)
		got, err := r.list(t.Context())
		require.NoError(t, err)
		require.Len(t, got, n)
		t.Logf("%s: %d requests, each key %.1f times", form, r.requests, float64(r.looked)/n)
		require.LessOrEqual(t, r.looked, 20*n, "it would be 250 times without bounds")
		require.LessOrEqual(t, r.requests, 4*n/2_000)
	}
}
