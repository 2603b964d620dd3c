package etcdtest_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// startDurable starts a server that writes to the disk, as servers do, and takes the largest commits that are measured.
func startDurable(b *testing.B) *server {
	b.Helper()
	s := newServer(b, true)
	s.config.MaxTxnOps = benchTxnOps
	s.config.QuotaBackendBytes = 8 << 30
	s.start(b)
	s.ready(b)
	return s
}

const benchTxnOps = 512

func BenchmarkStore(b *testing.B) {
	storetest.Benchmarks(b, func(testing.TB) storetest.Backend {
		s := startDurable(b)
		return storetest.Backend{Open: func(ctx context.Context) (store.Store, error) {
			return etcd.Open(ctx, clientConfig(s.addr), &etcd.Options{MaxTxnOps: benchTxnOps})
		}}
	})
}

// sizes counts the transactions that a client sends, and their bytes.
type sizes struct{ bytes, commits atomic.Int64 }

func (s *sizes) intercept(
	ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	if txn, ok := request.(*pb.TxnRequest); ok {
		s.bytes.Add(int64(proto.Size(txn)))
		s.commits.Add(1)
	}
	return invoke(ctx, method, request, reply, cc, options...)
}

// newPlace is a server of its own, with room for bare transactions.
func newPlace(b *testing.B) pooltest.Place { return placeOf(b, &sizes{}) }

// placeOf is such a place. It counts what its store sends.
func placeOf(b *testing.B, sent *sizes) pooltest.Place {
	b.Helper()
	server := startDurable(b)
	config := clientConfig(server.addr)
	config.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(sent.intercept)}
	return pooltest.Place{
		Open: func(ctx context.Context) (store.Store, error) {
			return etcd.Open(ctx, config, &etcd.Options{MaxTxnOps: benchTxnOps})
		},
		Bare: func(int) func(string) error { // beside what the pool of the place holds
			client := connect(b, clientConfig(server.addr))
			return func(owner string) error { return putBare(b.Context(), client, "bare/"+owner) }
		},
	}
}

// putBare is one bare transaction, which guards one key and writes it.
func putBare(ctx context.Context, client *clientv3.Client, key string) error {
	response, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, string(make([]byte, 200)))).Commit()
	if err == nil && !response.Succeeded {
		err = fmt.Errorf("%q is there already", key)
	}
	return err
}

func BenchmarkPoolCommit(b *testing.B) { pooltest.BenchmarkCommit(b, newPlace) }

func BenchmarkPoolParallel(b *testing.B) { pooltest.BenchmarkParallel(b, newPlace) }

// BenchmarkPoolBytes reports how many bytes a transaction has, mean over claims of the lowest free address and their
// releases.
func BenchmarkPoolBytes(b *testing.B) {
	for _, shape := range []pooltest.Shape{pooltest.Packed(60_000), pooltest.EveryOther(16)} {
		b.Run(shape.String(), func(b *testing.B) {
			sent := &sizes{}
			opened, err := placeOf(b, sent).Open(b.Context())
			require.NoError(b, err)
			b.Cleanup(func() { opened.Close() })
			p, turn := shape.Build(b, opened), 60_000
			sent.bytes.Store(0)
			sent.commits.Store(0)
			for b.Loop() {
				turn++
				_, err := p.Allocate(b.Context(), pool.Claim{Owner: pooltest.Owner(turn)})
				require.NoError(b, err)
				_, err = p.Release(b.Context(), pool.Held{Owner: pooltest.Owner(turn)})
				require.NoError(b, err)
			}
			b.ReportMetric(float64(sent.bytes.Load())/float64(sent.commits.Load()), "bytes/commit")
		})
	}
}
