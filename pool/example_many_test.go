package pool_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// IPv4 from one of two pools, IPv6 from a third: both or none.
func ExampleAllocateTogether() {
	ctx := context.Background()
	s := store.NewMemory()
	create := func(name, text string) *pool.Pool {
		return must(pool.Create(ctx, s, name, pool.Spec{Ranges: must(cidr.ParseRanges(text))}, nil))
	}
	rack1, rack2, v6 := create("rack-1", "10.0.1.1"), create("rack-2", "10.0.2.1"), create("v6", "2001:db8::1-2001:db8::9")

	for _, node := range []string{"node-1", "node-2", "node-3"} {
		granted, err := pool.AllocateTogether(ctx, node, pool.Part{Pools: []*pool.Pool{rack1, rack2}},
			pool.Part{Pools: []*pool.Pool{v6}})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(node, "has", granted[0].Allocation.Addrs()[0], "of", granted[0].Pool.Name(), "and",
			granted[1].Allocation.Addrs()[0])
	}
	fmt.Println("used of v6:", must(v6.Stats(ctx)).Of(pool.IPv6).Used)
	// Output:
	// node-1 has 10.0.1.1 of rack-1 and 2001:db8::1
	// node-2 has 10.0.2.1 of rack-2 and 2001:db8::2
	// pool "rack-2": allocate for "node-3": exhausted: no IPv4 /32 is free; free addresses: 0 of 1
	// used of v6: 2
}

// The leases of a DHCP server are taken over.
func ExamplePool_Adopt() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("192.0.2.0/24"))}, nil))

	leases := []struct{ client, addr string }{{"aa:01", "192.0.2.10"}, {"aa:02", "192.0.2.11"}, {"aa:03", "192.0.2.10"}}
	var claims []pool.Claim
	for _, l := range leases {
		claims = append(claims,
			pool.Claim{Owner: l.client, Requests: []pool.Request{pool.ExactAddr(netip.MustParseAddr(l.addr))}})
	}
	adopted, err := p.Adopt(ctx, slices.Values(claims), func(c pool.Clash) {
		fmt.Printf("%s: %v, by %s\n", c.Claim.Owner, c.Err, c.Holder)
	})
	fmt.Println(adopted, "adopted", err)
	// Output:
	// aa:03: allocate for "aa:03": 192.0.2.10/32: taken, by aa:01
	// 2 adopted <nil>
}

// Many claims with one commit, each by itself.
func ExamplePool_AllocateMany() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.2"))}, nil))

	for _, r := range must(p.AllocateMany(ctx, []pool.Claim{{Owner: "a"}, {Owner: "b"}, {Owner: "c"}})) {
		fmt.Println(r.Allocation.Addrs(), errors.Is(r.Err, pool.ErrExhausted))
	}
	// Output:
	// [10.0.0.1] false
	// [10.0.0.2] false
	// [] true
}

// A cluster of three, or none.
func ExamplePool_AllocateAll() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.2"))}, nil))

	_, err := p.AllocateAll(ctx, []pool.Claim{{Owner: "a"}, {Owner: "b"}, {Owner: "c"}})
	fmt.Println(err)
	fmt.Println("used:", must(p.Stats(ctx)).Of(pool.IPv4).Used)
	// Output:
	// allocate for "c": exhausted: no IPv4 /32 is free; free addresses: 0 of 2
	// used: 0
}

// Whoever is not there any more loses what it holds.
func ExamplePool_Reconcile() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.9"))}, nil))
	for _, pod := range []string{"web-0", "web-1", "db-0"} {
		must(p.Allocate(ctx, pool.Claim{Owner: pod}))
	}
	running := func(yield func(string, error) bool) { // as an API server lists them, page by page
		for _, pod := range []string{"web-0", "db-0"} {
			if !yield(pod, nil) {
				return
			}
		}
	}

	plan := must(p.Reconcile(ctx, running, &pool.ReconcileOptions{DryRun: true}))
	fmt.Println("would release", plan.Released[0].Owner)
	done := must(p.Reconcile(ctx, running, nil))
	fmt.Println("released", done.Released[0].Addrs()[0], "and kept", done.Live)
	// Output:
	// would release web-1
	// released 10.0.0.2 and kept 2
}
