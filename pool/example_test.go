package pool_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// must is for examples; a program handles its errors.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// A pool in memory. The gateway, and the network's first and last address, are never handed out.
func Example() {
	ctx := context.Background()
	spec := pool.Spec{
		Ranges:  must(cidr.ParseRanges("192.0.2.0/24")),
		Subnets: []pool.Subnet{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("192.0.2.1")}},
	}
	p := must(pool.New(spec, nil))

	a := must(p.Allocate(ctx, pool.Claim{Owner: "pod-7/eth0"}))
	fmt.Println(a.Owner, "has", a.Addrs()[0])

	again := must(p.Allocate(ctx, pool.Claim{Owner: "pod-7/eth0"}))
	fmt.Println("again:", again.Addrs()[0])

	must(p.Release(ctx, pool.Held{Owner: "pod-7/eth0"}))
	_, err := p.Release(ctx, pool.Held{Owner: "pod-7/eth0"})
	fmt.Println(err)
	// Output:
	// pod-7/eth0 has 192.0.2.2
	// again: 192.0.2.2
	// release for "pod-7/eth0": not found
}

// Any number of handles, in any number of processes, may share a pool in a store.
func ExampleCreate() {
	ctx := context.Background()
	s := store.NewMemory() // or a file, or a database
	spec := pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.10-10.0.0.19"))}

	here := must(pool.Create(ctx, s, "nodes", spec, nil))
	there := must(pool.Open(ctx, s, "nodes", nil))

	fmt.Println(must(here.Allocate(ctx, pool.Claim{Owner: "node-1"})).Addrs()[0])
	fmt.Println(must(there.Allocate(ctx, pool.Claim{Owner: "node-2"})).Addrs()[0])
	fmt.Println(pool.Delete(ctx, s, "nodes", nil))
	// Output:
	// 10.0.0.10
	// 10.0.0.11
	// pool "nodes": delete: in use: 2 of its IPv4 addresses are held
}

// One claim, two families: both addresses or none. The family of the first range is the primary one.
func ExamplePool_Allocate_dualStack() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.96.0.1-10.96.0.2", "2001:db8::1-2001:db8::9"))}, nil))

	claim := pool.Claim{Owner: "service-a", Policy: pool.RequireDualStack}
	fmt.Println(must(p.Allocate(ctx, claim)).Addrs())

	must(p.Allocate(ctx, pool.Claim{Owner: "service-b"}))
	claim.Owner = "service-c"
	_, err := p.Allocate(ctx, claim)
	fmt.Println(err)
	fmt.Println("IPv6 in use:", must(p.Info(ctx)).StatsOf(pool.IPv6).Used)
	// Output:
	// [10.96.0.1 2001:db8::1]
	// allocate for "service-c": exhausted: no IPv4 /32 is free; free addresses: 0 of 2
	// IPv6 in use: 1
}

func ExampleExactAddr() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.0/24"))}, nil))

	vip := pool.ExactAddr(netip.MustParseAddr("10.0.0.100"))
	fmt.Println(must(p.Allocate(ctx, pool.Claim{Owner: "api", Requests: []pool.Request{vip}})).Addrs()[0])

	_, err := p.Allocate(ctx, pool.Claim{Owner: "other", Requests: []pool.Request{vip}})
	fmt.Println(errors.Is(err, pool.ErrTaken), err)
	// Output:
	// 10.0.0.100
	// true allocate for "other": 10.0.0.100/32: taken
}

// One address from each of two sets.
func ExampleRequest_within() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.0/16"))}, nil))

	claim := pool.Claim{Owner: "router", Requests: []pool.Request{
		{Within: must(cidr.ParseSet("10.0.1.0/24"))},
		{Within: must(cidr.ParseSet("10.0.7.50-10.0.7.99"))},
	}}
	fmt.Println(must(p.Allocate(ctx, claim)).Addrs())
	// Output: [10.0.1.0 10.0.7.50]
}

// Nodes get a /24 and a /64 each; a claim may ask for another length.
func ExampleSpec_prefixes() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{
		Ranges: must(cidr.ParseRanges("10.244.0.0/16", "fd00:10:244::/48")),
		IPv4:   pool.FamilySpec{Bits: 24}, IPv6: pool.FamilySpec{Bits: 64},
	}, nil))

	fmt.Println(must(p.Allocate(ctx, pool.Claim{Owner: "node-1", Policy: pool.PreferDualStack})).Prefixes)
	large := pool.Request{Family: pool.IPv4, Bits: 22}
	fmt.Println(must(p.Allocate(ctx, pool.Claim{Owner: "node-2", Requests: []pool.Request{large}})).Prefixes)
	// Output:
	// [10.244.0.0/24 fd00:10:244::/64]
	// [10.244.4.0/22]
}

// A release that may come late names the generation that it means, and so spares a later grant.
func ExamplePool_Release_generation() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.9"))}, nil))

	first := must(p.Allocate(ctx, pool.Claim{Owner: "pod"}))
	must(p.Release(ctx, pool.Held{Owner: "pod"}))
	must(p.Allocate(ctx, pool.Claim{Owner: "pod"}))

	_, err := p.Release(ctx, pool.Held{Owner: "pod", Generation: first.Generation})
	fmt.Println(errors.Is(err, pool.ErrGeneration))
	fmt.Println(must(p.Get(ctx, pool.Held{Owner: "pod"})).Addrs()[0])
	// Output:
	// true
	// 10.0.0.1
}

func ExamplePool_Info() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.0/24", "2001:db8::/64"))}, nil))
	must(p.Allocate(ctx, pool.Claim{Owner: "a", Policy: pool.PreferDualStack}))

	for _, f := range must(p.Info(ctx)).Stats {
		fmt.Printf("%v: %v = %v reserved + %v used + %v free\n", f.Family, f.Total, f.Reserved, f.Used, f.Free)
	}
	// Output:
	// IPv4: 256 = 2 reserved + 1 used + 253 free
	// IPv6: 18446744073709551616 = 1 reserved + 1 used + 18446744073709551614 free
}

func ExamplePool_Get_byAddress() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.244.0.0/16")), IPv4: pool.FamilySpec{Bits: 24}}, nil))
	must(p.Allocate(ctx, pool.Claim{Owner: "node-1"}))
	must(p.Allocate(ctx, pool.Claim{Owner: "node-2"}))

	fmt.Println(must(p.Get(ctx, pool.Held{Addr: netip.MustParseAddr("10.244.1.77")})).Owner)
	_, err := p.Get(ctx, pool.Held{Addr: netip.MustParseAddr("10.244.9.9")})
	fmt.Println(errors.Is(err, pool.ErrNotFound))
	// Output:
	// node-2
	// true
}

// Somebody deletes a record by hand. Its address stays taken until Repair frees it.
func ExamplePool_Verify() {
	ctx := context.Background()
	s := store.NewMemory()
	p := must(pool.Create(ctx, s, "nodes", pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.9"))}, nil))
	for _, owner := range []string{"a", "b", "c"} {
		must(p.Allocate(ctx, pool.Claim{Owner: owner}))
	}
	fmt.Println(must(p.Verify(ctx)))

	head := must(s.Get(ctx, store.Key{Kind: store.KindPool, Pool: "nodes"}))
	record := store.Record{Key: store.Key{Kind: store.KindAllocation, Pool: "nodes", Name: "b"}}
	must(s.Commit(ctx, store.Change{Head: head, Writes: []store.Write{{Op: store.Delete, Record: record}}}))

	fmt.Println(must(p.Repair(ctx)).Leaked)
	fmt.Println(must(p.Verify(ctx)))
	// Output:
	// ok, 3 allocations
	// [10.0.0.2-10.0.0.2]
	// ok, 2 allocations
}

func ExampleList() {
	ctx := context.Background()
	s := store.NewMemory()
	pods := pool.Spec{Ranges: must(cidr.ParseRanges("10.244.0.0/16")), IPv4: pool.FamilySpec{Bits: 24}}
	must(pool.Create(ctx, s, "pods", pods, nil))

	for info, err := range pool.List(ctx, s) {
		if err != nil {
			panic(err)
		}
		fmt.Println(info.Name, info.Spec.AllFamilies(), info.StatsOf(pool.IPv4).Free, "free")
	}
	// Output: pods [IPv4] 65536 free
}

// A CIDR, or a length behind a range, names a subnet, whose first and last address are then reserved.
func ExampleParseSpec() {
	spec := must(pool.ParseSpec("10.0.0.0/24", "192.0.2.200-192.0.2.255/24", "2001:db8::1000-2001:db8::1fff"))
	for _, family := range spec.AllFamilies() {
		fmt.Println(family, cidr.FormatSet(spec.Set(family)))
	}
	_, err := pool.ParseSpec("192.0.2.200-192.0.2.255/25", "10.0.0.7/24")
	fmt.Println(err)
	// Output:
	// IPv4 [10.0.0.1-10.0.0.254 192.0.2.200-192.0.2.254]
	// IPv6 [2001:db8::1001-2001:db8::1fff]
	// cannot parse "10.0.0.7/24": a CIDR has no host bits; want "10.0.0.0/24"
}

// A VPC is cut into subnets of different sizes. What is left?
func ExamplePool_FreeSet() {
	ctx := context.Background()
	spec := must(pool.ParseSpec("10.0.0.0/16"))
	spec.IPv4.AllocateReserved = true // what is handed out are subnets, not hosts
	vpc := must(pool.New(spec, nil))
	for owner, bits := range map[string]int{"public": 20, "private": 18} {
		must(vpc.Allocate(ctx, pool.Claim{Owner: owner, Requests: []pool.Request{{Bits: bits}}}))
	}
	free := must(vpc.FreeSet(ctx, pool.IPv4))
	fmt.Println(cidr.Size(free), "addresses are left")

	_, err := vpc.FreeSet(ctx, pool.IPv6)
	fmt.Println(err)
	// Output:
	// 45056 addresses are left
	// list what is free: family not in the pool: IPv6
}
