package pool_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Who had an address at some moment, and who has had it at all.
func ExamplePool_History() {
	ctx, now := context.Background(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	spec := pool.Spec{Ranges: must(cidr.ParseRanges("192.0.2.7")), History: 365 * 24 * time.Hour}
	clock := &pool.Options{Clock: func() time.Time { return now }}
	customers := must(pool.Create(ctx, store.NewMemory(), "customers", spec, clock))
	for _, owner := range []string{"line-1", "line-2", "line-3"} {
		must(customers.Allocate(ctx, pool.Claim{Owner: owner, TTL: 20 * time.Minute}))
		now = now.Add(time.Hour)
	}

	addr, then := netip.MustParseAddr("192.0.2.7"), time.Date(2026, 3, 1, 13, 10, 0, 0, time.UTC)
	for _, q := range []pool.HistoryQuery{{Addr: addr, From: then, Until: then}, {Addr: addr}} {
		for t, err := range customers.History(ctx, q) {
			if err != nil {
				panic(err)
			}
			fmt.Println(t.Owner, t.Created.Format(time.TimeOnly), t.To.Format(time.TimeOnly), t.End)
		}
	}
	// Output:
	// line-2 13:00:00 13:20:00 lapsed
	// line-1 12:00:00 12:20:00 lapsed
	// line-2 13:00:00 13:20:00 lapsed
	// line-3 14:00:00 00:00:00
}
