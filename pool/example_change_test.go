package pool_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// A pool grows. It shrinks only if nothing that is held would be out of range.
func ExamplePool_Update() {
	ctx := context.Background()
	p := must(pool.Create(ctx, store.NewMemory(), "vms",
		pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.10-10.0.0.10"))}, nil))
	must(p.Allocate(ctx, pool.Claim{Owner: "vm-1"}))

	fmt.Println(p.Update(ctx, pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.10-10.0.0.99"))}))
	must(p.Allocate(ctx, pool.Claim{Owner: "vm-2"}))

	err := p.Update(ctx, pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.10-10.0.0.10"))})
	var stranded *pool.Error
	if errors.As(err, &stranded) {
		for _, a := range stranded.Allocations {
			fmt.Println("in the way:", a.Owner, a.Addrs()[0])
		}
	}
	// Output:
	// <nil>
	// in the way: vm-2 10.0.0.11
}

// A program has its pool's spec in its own configuration. At each start, Ensure makes the pool follow it.
func ExampleEnsure() {
	ctx := context.Background()
	s := store.NewMemory() // or a file, or a database
	start := func(text string, drift pool.Drift) (*pool.Pool, error) {
		return pool.Ensure(ctx, s, "vms", must(pool.ParseSpec(text)), drift, nil)
	}

	p := must(start("10.0.0.10-10.0.0.19", pool.Update)) // the first start creates the pool
	must(p.Allocate(ctx, pool.Claim{Owner: "vm-1"}))

	p = must(start("10.0.0.10-10.0.0.99", pool.Update)) // more addresses
	fmt.Println(must(p.Info(ctx)).StatsOf(pool.IPv4).Total, "addresses")

	_, err := start("10.9.0.10-10.9.0.99", pool.Refuse)
	fmt.Println(errors.Is(err, pool.ErrDrift), err)
	_, err = start("10.9.0.10-10.9.0.99", pool.Update) // refused, since it would strand vm-1
	fmt.Println(errors.Is(err, pool.ErrOutOfRange), err)

	p = must(start("10.9.0.10-10.9.0.99", pool.Drain)) // vm-1 keeps its old address until its release
	fmt.Println("vm-1", must(p.Get(ctx, pool.Held{Owner: "vm-1"})).Addrs())
	fmt.Println("vm-2", must(p.Allocate(ctx, pool.Claim{Owner: "vm-2"})).Addrs())
	// Output:
	// 90 addresses
	// true pool "vms": ensure: the pool has another spec
	// true pool "vms": update: allocations would be out of range: 1: "vm-1" holds [10.0.0.10/32]
	// vm-1 [10.0.0.10]
	// vm-2 [10.9.0.10]
}

// A pool moves to another range while an address of the old one is still held.
func ExamplePool_Drain() {
	ctx := context.Background()
	p := must(pool.Create(ctx, store.NewMemory(), "vms",
		pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.10-10.0.0.19"))}, nil))
	must(p.Allocate(ctx, pool.Claim{Owner: "vm-1"}))

	fmt.Println(p.Drain(ctx, pool.Spec{Ranges: must(cidr.ParseRanges("10.9.0.10-10.9.0.19"))}))
	fmt.Println("out of range:", must(p.Info(ctx)).StatsOf(pool.IPv4).OutOfRange)
	fmt.Println("vm-1 still has", must(p.Get(ctx, pool.Held{Owner: "vm-1"})).Addrs()[0])
	must(p.Release(ctx, pool.Held{Owner: "vm-1"}))
	fmt.Println("and then gets", must(p.Allocate(ctx, pool.Claim{Owner: "vm-1"})).Addrs()[0])
	// Output:
	// <nil>
	// out of range: 1
	// vm-1 still has 10.0.0.10
	// and then gets 10.9.0.10
}

// Pools of one network must not overlap. Pools of different networks may.
func ExampleSpec_network() {
	ctx := context.Background()
	s := store.NewMemory()
	spec := func(network, text string) pool.Spec {
		return pool.Spec{Ranges: must(cidr.ParseRanges(text)), Network: network}
	}
	must(pool.Create(ctx, s, "nodes", spec("blue", "10.0.0.0/24"), nil))
	_, err := pool.Create(ctx, s, "vips", spec("blue", "10.0.0.128-10.0.1.9"), nil)
	fmt.Println(err)
	_, err = pool.Create(ctx, s, "vips", spec("green", "10.0.0.128-10.0.1.9"), nil)
	fmt.Println(err)
	// Output:
	// pool "vips": create: overlaps in the network: [10.0.0.128/25] are of the pool "nodes" in the network "blue"
	// <nil>
}

// A DHCP server hands out part of the network on its own.
func ExampleSetExternal() {
	ctx := context.Background()
	s := store.NewMemory()
	p := must(pool.Create(ctx, s, "nodes",
		pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.10-10.0.0.99")), Network: "blue"}, nil))

	fmt.Println(pool.SetExternal(ctx, s, "blue", must(cidr.ParseRanges("10.0.0.1-10.0.0.49")), false, nil))
	fmt.Println(must(p.Allocate(ctx, pool.Claim{Owner: "node-1"})).Addrs()[0])
	for network, err := range pool.Networks(ctx, s) {
		fmt.Println(network.Name, len(network.Pools), "pool, external:", cidr.FormatSet(cidr.SetOf(network.External...)), err)
	}
	// Output:
	// <nil>
	// 10.0.0.50
	// blue 1 pool, external: [10.0.0.1-10.0.0.49] <nil>
}
