package bench

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/pool"
)

// PoolCases are the rows of the pool's table of targets that need no store.
func PoolCases() []Case {
	return []Case{
		{Name: poolFloor, Allocs: 2, Run: floorPair},
		{Name: PoolEmpty, Targets: []Target{{Of: poolFloor, Ratio: 4}}, Allocs: 2, Run: poolPair(0)},
		{Name: "pool/pair/held=60000", Targets: []Target{same(PoolEmpty)}, Allocs: 2, Run: poolPair(60_000)},
		{Name: "pool/pair/held=60000/goroutines=64", Targets: []Target{same("pool/pair/held=60000")},
			Allocs: -1, Run: poolParallel(60_000)},
		{Name: "pool/pair/held=100000", Targets: []Target{same(PoolEmpty)}, Allocs: 2, Run: poolPair(100_000)},
		{Name: "pool/pair/leases=100000,renewed", Targets: []Target{{Of: "pool/pair/held=100000", Ratio: 1.5}},
			Allocs: -1, Run: poolAmongLeases(100_000)},
		{Name: "pool/renew/leases=100000", Allocs: 2, Run: poolRenew(100_000)},
		{Name: "pool/features/pair/held=0", Targets: []Target{{Of: PoolEmpty, Ratio: 2}}, Allocs: 3, Run: poolFeatures(0)},
		{Name: "pool/features/pair/held=60000", Targets: []Target{same("pool/features/pair/held=0")},
			Allocs: 3, Run: poolFeatures(60_000)},
	}
}

// NewPool returns a pool in memory of 10.0.0.0/14 in which n owners hold an address each: a lease of length
// ttl, or a permanent allocation if ttl is 0.
func NewPool(n int, ttl time.Duration) *pool.Pool {
	return fill(pool.Spec{}, nil, n, ttl)
}

// fill makes that with more of a spec, and options.
func fill(spec pool.Spec, options *pool.Options, n int, ttl time.Duration) *pool.Pool {
	spec.Ranges = []netipx.IPRange{netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.0.0/14"))}
	p, err := pool.New(spec, options)
	if err != nil {
		panic(err)
	}
	for i := range n {
		if _, err := p.Allocate(context.Background(), pool.Claim{Owner: nameOf(i), TTL: ttl, Scope: spec.Scope}); err != nil {
			panic(err)
		}
	}
	return p
}

func nameOf(i int) string { return "pod-" + strconv.Itoa(i) }

// poolAmongLeases allocates and releases while other owners renew all of their leases in turn. Only
// the pairs are timed.
func poolAmongLeases(leases int) func(*testing.B) {
	filled := sync.OnceValue(func() *pool.Pool { return NewPool(leases, time.Hour) })
	next := 0
	return func(b *testing.B) {
		p := filled()
		const batch = 4096
		for i := 0; i < b.N; i++ {
			if i%batch == 0 {
				b.StopTimer()
				for range min(batch, b.N-i) {
					renew(b, p, nameOf(next%leases))
					next++
				}
				b.StartTimer()
			}
			poolOnce(b, p, pool.Claim{Owner: "the owner"})
		}
	}
}

// poolRenew renews leases in turn.
func poolRenew(leases int) func(*testing.B) {
	filled := sync.OnceValue(func() *pool.Pool { return NewPool(leases, time.Hour) })
	names := sync.OnceValue(func() []string {
		var names []string
		for i := range leases {
			names = append(names, nameOf(i))
		}
		return names
	})
	next := 0
	return func(b *testing.B) {
		p, names := filled(), names()
		b.ReportAllocs()
		for b.Loop() {
			renew(b, p, names[next%leases])
			next++
		}
	}
}

func renew(b *testing.B, p *pool.Pool, owner string) {
	if _, err := p.Renew(context.Background(), pool.Held{Owner: owner}, time.Hour); err != nil {
		b.Error(err)
	}
}

// poolFeatures allocates and releases leases in a pool with a scope, a band, a cooldown, round robin and an observer.
func poolFeatures(held int) func(*testing.B) {
	filled := sync.OnceValue(func() *pool.Pool {
		static, _ := pool.ServiceBand(netip.MustParsePrefix("10.0.0.0/14"))
		return fill(pool.Spec{
			Scope: "team", Strategy: pool.NextFree, Cooldown: time.Minute,
			Bands: []pool.Band{{Name: "static", Ranges: []netipx.IPRange{static}}},
		}, &pool.Options{Observer: pool.NoObserver{}}, held, time.Hour)
	})
	return func(b *testing.B) {
		p := filled()
		b.ReportAllocs()
		for b.Loop() {
			poolOnce(b, p, pool.Claim{Owner: "the owner", Scope: "team", TTL: time.Hour})
		}
	}
}

// poolPair allocates for an owner and releases.
func poolPair(held int) func(*testing.B) {
	filled := sync.OnceValue(func() *pool.Pool { return NewPool(held, 0) })
	return func(b *testing.B) {
		p := filled()
		b.ReportAllocs()
		for b.Loop() {
			poolOnce(b, p, pool.Claim{Owner: "the owner"})
		}
	}
}

// floorPool is what a pool that gives addresses to owners cannot do without: a lock, a clock, free space, and who holds
// what, by owner and by address.
type floorPool struct {
	mu     sync.Mutex
	free   *allocator.Allocator
	owners map[string]*floorRecord
	addrs  map[netip.Prefix]*floorRecord
}

type floorRecord struct {
	owner   string
	prefix  netip.Prefix
	created time.Time
}

func (f *floorPool) allocate(ctx context.Context, owner string) ([]netip.Prefix, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.owners[owner]; r != nil || ctx.Err() != nil {
		return nil, ctx.Err()
	}
	p, err := f.free.TakeFirst(32)
	if err != nil {
		return nil, err
	}
	r := &floorRecord{owner, p, time.Now()}
	f.owners[owner], f.addrs[p] = r, r
	return []netip.Prefix{p}, nil
}

func (f *floorPool) release(ctx context.Context, owner string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.owners[owner]
	if r == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	delete(f.owners, owner)
	delete(f.addrs, r.prefix)
	return f.free.Release(r.prefix)
}

// floorPair is what poolPair is compared with.
func floorPair(b *testing.B) {
	f := &floorPool{
		free: NewAllocator("10.0.0.0/14"), owners: map[string]*floorRecord{}, addrs: map[netip.Prefix]*floorRecord{},
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.allocate(b.Context(), "the owner"); err != nil {
			b.Fatal(err)
		}
		if err := f.release(b.Context(), "the owner"); err != nil {
			b.Fatal(err)
		}
	}
}

// poolParallel does that with 64 goroutines; the time is that of one pair in all of them.
func poolParallel(held int) func(*testing.B) {
	filled := sync.OnceValue(func() *pool.Pool { return NewPool(held, 0) })
	return func(b *testing.B) {
		p := filled()
		var owners atomic.Int64
		b.ReportAllocs()
		b.SetParallelism(max(64/runtime.GOMAXPROCS(0), 1))
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			owner := fmt.Sprintf("owner %d", owners.Add(1))
			for pb.Next() {
				poolOnce(b, p, pool.Claim{Owner: owner})
			}
		})
	}
}

func poolOnce(b *testing.B, p *pool.Pool, claim pool.Claim) {
	if _, err := p.Allocate(context.Background(), claim); err != nil {
		b.Error(err)
	}
	if _, err := p.Release(context.Background(), pool.Held{Owner: claim.Owner}); err != nil {
		b.Error(err)
	}
}
