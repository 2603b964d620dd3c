package pool_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// A VPC with a /16 is cut into subnets of different sizes, each a pool of its own.
func ExampleDelegate() {
	ctx := context.Background()
	s := store.NewMemory()
	vpc := must(pool.Create(ctx, s, "vpc",
		pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.0/16")), IPv4: pool.FamilySpec{AllocateReserved: true}}, nil))

	public := pool.Claim{Owner: "public", Requests: []pool.Request{{Bits: 20}}}
	subnet, granted, err := pool.Delegate(ctx, vpc, public, "", pool.Spec{}, nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(granted.Prefixes[0], "is the pool", subnet.Name())
	fmt.Println(must(subnet.Allocate(ctx, pool.Claim{Owner: "web"})).Addrs()[0])

	_, err = vpc.Release(ctx, pool.Held{Owner: "public"})
	fmt.Println("in use:", errors.Is(err, pool.ErrInUse))
	must(subnet.Release(ctx, pool.Held{Owner: "web"}))
	fmt.Println(pool.Delete(ctx, s, subnet.Name(), nil))
	fmt.Println("used:", must(vpc.Info(ctx)).StatsOf(pool.IPv4).Used)
	// Output:
	// 10.0.0.0/20 is the pool vpc/10.0.0.0/20
	// 10.0.0.1
	// in use: true
	// <nil>
	// used: 0
}

// Each node allocates from blocks of its own, and meets other nodes only when it takes another block.
func ExampleOpenBlocks() {
	ctx := context.Background()
	s := store.NewMemory()
	pods := must(pool.Create(ctx, s, "pods",
		pool.Spec{Ranges: must(cidr.ParseRanges("10.244.0.0/16")), IPv4: pool.FamilySpec{AllocateReserved: true}}, nil))

	block := pool.Claim{Requests: []pool.Request{{Bits: 31}}} // small, for the example
	for _, node := range []string{"node-1", "node-2"} {
		blocks := must(pool.OpenBlocks(ctx, pods, node, block, pool.Spec{IPv4: pool.FamilySpec{AllocateReserved: true}}, nil))
		for _, pod := range []string{"a", "b", "c"} {
			fmt.Print(must(blocks.Allocate(ctx, pool.Claim{Owner: pod})).Addrs()[0], " ")
		}
		must(blocks.Release(ctx, pool.Held{Owner: "c"})) // its block stays, since the other one is full
		must(blocks.Release(ctx, pool.Held{Owner: "b"})) // and now it has room
		fmt.Println(len(must(blocks.Pool().Grants(ctx))), "blocks,", must(blocks.GiveBack(ctx, 0)), "given back")
	}
	// Output:
	// 10.244.0.0 10.244.0.1 10.244.0.2 2 blocks, 1 given back
	// 10.244.0.2 10.244.0.3 10.244.0.4 2 blocks, 1 given back
}

// A site outgrows its block. It gets a second one, and gives it back once it is empty.
func ExamplePool_Extend() {
	ctx := context.Background()
	s := store.NewMemory()
	spec := pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.0/16")), IPv4: pool.FamilySpec{AllocateReserved: true}}
	company := must(pool.Create(ctx, s, "company", spec, nil))

	block := pool.Claim{Owner: "site/1", Requests: []pool.Request{{Bits: 31}}} // small, for the example
	site, _, err := pool.Delegate(ctx, company, block, "site",
		pool.Spec{IPv4: pool.FamilySpec{AllocateReserved: true}}, nil)
	if err != nil {
		panic(err)
	}
	for _, host := range []string{"a", "b"} {
		must(site.Allocate(ctx, pool.Claim{Owner: host}))
	}
	block.Owner = "site/2"
	must(site.Extend(ctx, block))
	fmt.Println(must(site.Allocate(ctx, pool.Claim{Owner: "c"})).Addrs()[0])
	for _, grant := range must(site.Grants(ctx)) {
		fmt.Println(grant.Owner, grant.Prefixes, "room:", grant.Room)
	}

	_, err = site.Retract(ctx, "site/2")
	fmt.Println(err)
	must(site.Release(ctx, pool.Held{Owner: "c"}))
	fmt.Println(must(site.Retract(ctx, "site/2")).Prefixes, "given back")
	// Output:
	// 10.0.0.2
	// site/1 [10.0.0.0/31] room: false
	// site/2 [10.0.0.2/31] room: true
	// pool "site": retract for "site/2": in use: addresses of 10.0.0.2/31 are held, or cool down
	// [10.0.0.2/31] given back
}
