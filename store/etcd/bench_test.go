package etcd_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/ipalloc/ipalloc/cidr"
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

const packedHeld = 60_000

// heldOwner is as long as a UID.
func heldOwner(i int) string { return fmt.Sprintf("6f1d2c3b-0000-4000-8000-%012d", i) }

// sizes counts the transactions that a client sends, and their bytes.
type sizes struct{ bytes, commits atomic.Int64 }

func (s *sizes) intercept(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if txn, ok := request.(*pb.TxnRequest); ok {
		s.bytes.Add(int64(txn.Size()))
		s.commits.Add(1)
	}
	return invoke(ctx, method, request, reply, cc, options...)
}

// subject is a pool on a server of its own, and a client of that server for bare transactions.
type subject struct {
	pool *pool.Pool
	bare *clientv3.Client
	sent sizes
}

// newSubject makes a pool of a prefix in which claims hold something.
func newSubject(b *testing.B, prefix netip.Prefix, claims []pool.Claim) *subject {
	b.Helper()
	server, s := startDurable(b), &subject{}
	config := clientConfig(server.addr)
	s.bare = connect(b, config)
	config.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(s.sent.intercept)}
	opened, err := etcd.New(connect(b, config), &etcd.Options{MaxTxnOps: benchTxnOps})
	require.NoError(b, err)
	b.Cleanup(func() { opened.Close() })
	ranges, err := cidr.ParseRanges(prefix.String())
	require.NoError(b, err)
	s.pool, err = pool.Create(b.Context(), opened, pooltest.Name, pool.Spec{Ranges: ranges, AllocateReserved: true}, nil)
	require.NoError(b, err)
	pooltest.AllocateAll(b, s.pool, claims)
	return s
}

func packed(n int) []pool.Claim {
	claims := make([]pool.Claim, n)
	for i := range claims {
		claims[i].Owner = heldOwner(i)
	}
	return claims
}

// everyOther is the most fragmented free space that there is.
func everyOther(addr netip.Addr, n int) []pool.Claim {
	claims := packed(n)
	for i := range claims {
		claims[i].Requests = []pool.Request{pool.ExactAddr(addr)}
		addr = addr.Next().Next()
	}
	return claims
}

// put is one bare transaction, which guards one key and writes it.
func (s *subject) put(b *testing.B, key string) {
	response, err := s.bare.Txn(b.Context()).If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, string(make([]byte, 200)))).Commit()
	require.NoError(b, err)
	require.True(b, response.Succeeded)
}

// stopwatch keeps how long each of several things took that are done in turns: what disturbs the machine meanwhile disturbs
// all of them.
type stopwatch map[string][]time.Duration

func (w stopwatch) measure(name string, do func()) {
	start := time.Now()
	do()
	w[name] = append(w[name], time.Since(start))
}

func (w stopwatch) median(name string) float64 {
	slices.Sort(w[name])
	return float64(w[name][len(w[name])/2].Nanoseconds())
}

// BenchmarkPoolCommit is one caller, who allocates and releases, beside a bare transaction that writes one small value. Each
// is done with nothing held and with 60,000 held, all in turns. It reports medians, and how they compare.
func BenchmarkPoolCommit(b *testing.B) {
	prefix := netip.MustParsePrefix("10.0.0.0/16")
	subjects := map[string]*subject{"held=0": newSubject(b, prefix, nil), "held=60000": newSubject(b, prefix, packed(packedHeld))}
	watch, turn := stopwatch{}, packedHeld
	for b.Loop() {
		turn++
		owner := heldOwner(turn)
		for name, s := range subjects {
			watch.measure(name+"/bare", func() { s.put(b, "bare/"+owner) })
			watch.measure(name+"/allocate", func() {
				_, err := s.pool.Allocate(b.Context(), pool.Claim{Owner: owner})
				require.NoError(b, err)
			})
			watch.measure(name+"/release", func() {
				_, err := s.pool.Release(b.Context(), owner)
				require.NoError(b, err)
			})
		}
	}
	b.ReportMetric(0, "ns/op")
	for name := range watch {
		b.ReportMetric(watch.median(name), name+"-ns")
	}
	b.ReportMetric(watch.median("held=0/allocate")/watch.median("held=0/bare"), "allocate/bare")
	b.ReportMetric(watch.median("held=60000/allocate")/watch.median("held=0/allocate"), "held=60000/held=0")
}

// BenchmarkPoolParallel allocates and releases from one goroutine and from 64, each for owners of its own, in turns. It
// reports such pairs a second, of all goroutines together, and how they compare.
func BenchmarkPoolParallel(b *testing.B) {
	const each = 20
	watch, subjects := stopwatch{}, map[int]*subject{}
	for _, goroutines := range []int{1, 64} {
		subjects[goroutines] = newSubject(b, netip.MustParsePrefix("10.0.0.0/16"), nil)
	}
	for b.Loop() {
		for goroutines, s := range subjects {
			watch.measure(fmt.Sprint(goroutines), func() { pairs(b, s.pool, goroutines, each) })
		}
	}
	b.ReportMetric(0, "ns/op")
	rate := func(goroutines int) float64 {
		return float64(goroutines*each) / watch.median(fmt.Sprint(goroutines)) * 1e9
	}
	for goroutines := range subjects {
		b.ReportMetric(rate(goroutines), fmt.Sprintf("goroutines=%d/pairs/s", goroutines))
	}
	b.ReportMetric(rate(64)/rate(1), "goroutines=64/goroutines=1")
}

// pairs allocates and releases n times in each of so many goroutines.
func pairs(b *testing.B, p *pool.Pool, goroutines, n int) {
	var all sync.WaitGroup
	for i := range goroutines {
		all.Go(func() {
			for range n {
				_, err := p.Allocate(b.Context(), pool.Claim{Owner: heldOwner(i)})
				if err == nil {
					_, err = p.Release(b.Context(), heldOwner(i))
				}
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkPoolBytes reports how many bytes a transaction has, mean over claims of the lowest free address and their releases.
func BenchmarkPoolBytes(b *testing.B) {
	for _, c := range []struct {
		name, prefix string
		claims       []pool.Claim
	}{
		{"v4-16/packed/held=60000", "10.0.0.0/16", packed(packedHeld)},
		{"v4-16/every-other/held=32768", "10.0.0.0/16", everyOther(netip.MustParseAddr("10.0.0.0"), 1<<15)},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := newSubject(b, netip.MustParsePrefix(c.prefix), c.claims)
			s.sent.bytes.Store(0)
			s.sent.commits.Store(0)
			turn := packedHeld
			for b.Loop() {
				turn++
				_, err := s.pool.Allocate(b.Context(), pool.Claim{Owner: heldOwner(turn)})
				require.NoError(b, err)
				_, err = s.pool.Release(b.Context(), heldOwner(turn))
				require.NoError(b, err)
			}
			b.ReportMetric(float64(s.sent.bytes.Load())/float64(s.sent.commits.Load()), "bytes/commit")
		})
	}
}
