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

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
)

// PoolCases are the rows of the pool's table of targets that need no store.
func PoolCases() []Case {
	return []Case{
		{Name: PoolEmpty, Allocs: 3, Run: poolPair(0)},
		{Name: "pool/pair/held=60000", Targets: []Target{same(PoolEmpty)}, Allocs: 3, Run: poolPair(60_000)},
		{Name: "pool/pair/held=60000/goroutines=64", Targets: []Target{same("pool/pair/held=60000")}, Allocs: -1, Run: poolParallel(60_000)},
	}
}

// NewPool returns a pool in memory of 10.0.0.0/16 in which n owners hold an address each.
func NewPool(n int) *pool.Pool {
	p, err := pool.New(pool.Spec{
		Ranges: []netipx.IPRange{netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.0.0/16"))},
	}, nil)
	if err != nil {
		panic(err)
	}
	for i := range n {
		if _, err := p.Allocate(context.Background(), pool.Claim{Owner: "pod-" + strconv.Itoa(i)}); err != nil {
			panic(err)
		}
	}
	return p
}

// poolPair allocates for an owner and releases.
func poolPair(held int) func(*testing.B) {
	filled := sync.OnceValue(func() *pool.Pool { return NewPool(held) })
	return func(b *testing.B) {
		p := filled()
		b.ReportAllocs()
		for b.Loop() {
			poolOnce(b, p, "the owner")
		}
	}
}

// poolParallel does that with 64 goroutines; the time is that of one pair in all of them.
func poolParallel(held int) func(*testing.B) {
	filled := sync.OnceValue(func() *pool.Pool { return NewPool(held) })
	return func(b *testing.B) {
		p := filled()
		var owners atomic.Int64
		b.ReportAllocs()
		b.SetParallelism(max(64/runtime.GOMAXPROCS(0), 1))
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			owner := fmt.Sprintf("owner %d", owners.Add(1))
			for pb.Next() {
				poolOnce(b, p, owner)
			}
		})
	}
}

func poolOnce(b *testing.B, p *pool.Pool, owner string) {
	if _, err := p.Allocate(context.Background(), pool.Claim{Owner: owner}); err != nil {
		b.Error(err)
	}
	if _, err := p.Release(context.Background(), owner); err != nil {
		b.Error(err)
	}
}
