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

// An IPv4 address from one of two pools and an IPv6 address from a third: both or none.
func ExampleStep_In() {
	ctx := context.Background()
	s := store.NewMemory()
	create := func(name, text string) *pool.Pool {
		return must(pool.Create(ctx, s, name, pool.Spec{Ranges: must(cidr.ParseRanges(text))}, nil))
	}
	rack1, rack2, v6 := create("rack-1", "10.0.1.1"), create("rack-2", "10.0.2.1"), create("v6", "2001:db8::1-2001:db8::9")

	for _, node := range []string{"node-1", "node-2", "node-3"} {
		claim := pool.Claim{Owner: node}
		granted, err := v6.All(ctx, pool.Allocate(claim).In(rack1, rack2), pool.Allocate(claim))
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(node, "has", granted[0].Allocation.Addrs()[0], "of", granted[0].Pool.Name(), "and",
			granted[1].Allocation.Addrs()[0])
	}
	fmt.Println("used of v6:", must(v6.Info(ctx)).StatsOf(pool.IPv6).Used)
	// Output:
	// node-1 has 10.0.1.1 of rack-1 and 2001:db8::1
	// node-2 has 10.0.2.1 of rack-2 and 2001:db8::2
	// pool "rack-2": allocate for "node-3": exhausted: no IPv4 /32 is free; free addresses: 0 of 1
	// used of v6: 2
}

// A pool takes over the leases of a DHCP server, in few commits.
func ExamplePool_Each() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("192.0.2.0/24"))}, nil))

	leases := []struct{ client, addr string }{{"aa:01", "192.0.2.10"}, {"aa:02", "192.0.2.11"}, {"aa:03", "192.0.2.10"}}
	steps := func(yield func(pool.Step) bool) {
		for _, l := range leases {
			requests := []pool.Request{pool.ExactAddr(netip.MustParseAddr(l.addr))}
			if !yield(pool.Allocate(pool.Claim{Owner: l.client, Requests: requests})) {
				return
			}
		}
	}
	for result, err := range p.Each(ctx, steps) {
		if err != nil {
			fmt.Println("the rest was not done:", err)
			return
		}
		fmt.Println(result.Allocation.Addrs(), result.Err)
	}
	// Output:
	// [192.0.2.10] <nil>
	// [192.0.2.11] <nil>
	// [] allocate for "aa:03": 192.0.2.10/32: taken
}

// Three addresses or none.
func ExamplePool_All() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.2"))}, nil))

	_, err := p.All(ctx, pool.Allocate(pool.Claim{Owner: "a"}), pool.Allocate(pool.Claim{Owner: "b"}),
		pool.Allocate(pool.Claim{Owner: "c"}))
	fmt.Println(err)
	fmt.Println("used:", must(p.Info(ctx)).StatsOf(pool.IPv4).Used)
	// Output:
	// allocate for "c": exhausted: no IPv4 /32 is free; free addresses: 0 of 2
	// used: 0
}

// Two Services change their addresses in one commit; one gets the other's old address. Neither is ever without one.
func ExamplePool_All_exchange() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("192.0.2.1-192.0.2.9")), Cooldown: time.Hour}, nil))
	must(p.Allocate(ctx, pool.Claim{Owner: "web"}))
	must(p.Allocate(ctx, pool.Claim{Owner: "mail"}))

	exactly := func(owner, addr string) pool.Step {
		requests := []pool.Request{pool.ExactAddr(netip.MustParseAddr(addr))}
		return pool.Allocate(pool.Claim{Owner: owner, Requests: requests})
	}
	must(p.All(ctx,
		pool.Release(pool.Held{Owner: "web"}), pool.Release(pool.Held{Owner: "mail"}),
		exactly("web", "192.0.2.7"), exactly("mail", "192.0.2.1")))
	for _, owner := range []string{"web", "mail"} {
		fmt.Println(owner, must(p.Get(ctx, pool.Held{Owner: owner})).Addrs())
	}
	// Output:
	// web [192.0.2.7]
	// mail [192.0.2.1]
}

// Duplicate address detection finds that another host uses a node's address. In one commit the node gets another.
func ExampleDecline() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.9"))}, nil))
	claim := pool.Claim{Owner: "node-1"}
	first := must(p.Allocate(ctx, claim))

	in := pool.Held{Owner: claim.Owner, Generation: first.Generation, Optional: true}
	results := must(p.All(ctx, pool.Decline(in, time.Hour), pool.Allocate(claim)))
	fmt.Println("declined", results[0].Allocation.Addrs(), "and has", results[1].Allocation.Addrs())
	// Output:
	// declined [10.0.0.1] and has [10.0.0.2]
}

// What a deleted pod still holds is released. What was granted after the mark is left alone.
func ExamplePool_Reconcile() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.9"))}, nil))
	for _, pod := range []string{"web-0", "web-1", "db-0"} {
		must(p.Allocate(ctx, pool.Claim{Owner: pod}))
	}

	mark := must(p.Mark(ctx))                       // before the list
	running := []string{"web-0", "db-0"}            // as the API server lists them
	must(p.Allocate(ctx, pool.Claim{Owner: "new"})) // meanwhile; the list does not have it
	live := func(yield func(string, error) bool) {
		for _, pod := range running {
			if !yield(pod, nil) {
				return
			}
		}
	}

	plan := must(p.Reconcile(ctx, mark, live, &pool.ReconcileOptions{DryRun: true}))
	fmt.Println("would release", plan.Released[0].Owner)
	done := must(p.Reconcile(ctx, mark, live, nil))
	fmt.Println("released", done.Released[0].Addrs()[0], "and kept", done.Live, "and", done.Newer)
	// Output:
	// would release web-1
	// released 10.0.0.2 and kept 2 and 1
}
