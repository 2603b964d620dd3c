package pool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// The same claims and releases with each strategy.
func ExampleStrategy() {
	ctx := context.Background()
	for _, strategy := range everyStrategy {
		spec := pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.10-10.0.0.99")), Strategy: strategy}
		p := must(pool.New(spec, &pool.Options{Random: rand.New(rand.NewPCG(1, 2)).Uint64}))
		fmt.Printf("%q:", strategy)
		for range 3 {
			fmt.Print(" ", must(p.Allocate(ctx, pool.Claim{Owner: "a"})).Addrs()[0])
			must(p.Release(ctx, pool.Held{Owner: "a"}))
		}
		fmt.Println()
	}
	// Output:
	// "": 10.0.0.10 10.0.0.10 10.0.0.10
	// "next": 10.0.0.10 10.0.0.11 10.0.0.12
	// "random": 10.0.0.36 10.0.0.70 10.0.0.24
	// "highest": 10.0.0.99 10.0.0.99 10.0.0.99
	// "spread": 10.0.0.32 10.0.0.32 10.0.0.32
	// "best-fit": 10.0.0.10 10.0.0.10 10.0.0.10
}

// Prefixes of several lengths in one pool, after some have been released: where each strategy puts a /26.
func ExampleStrategy_prefixes() {
	ctx := context.Background()
	for _, strategy := range everyStrategy {
		if strategy == pool.NextFree || strategy == pool.RandomFree {
			continue
		}
		spec := pool.Spec{
			Ranges: must(cidr.ParseRanges("10.0.0.0/22")), Strategy: strategy, IPv4: pool.FamilySpec{Bits: 26},
		}
		p := must(pool.New(spec, nil))
		for owner, text := range map[string]string{"a": "10.0.0.0/26", "b": "10.0.2.0/26"} {
			exactly := pool.Request{Exact: netip.MustParsePrefix(text)}
			must(p.Allocate(ctx, pool.Claim{Owner: owner, Requests: []pool.Request{exactly}}))
		}
		must(p.Release(ctx, pool.Held{Owner: "a"}))
		fmt.Printf("%q: %v\n", strategy, must(p.Allocate(ctx, pool.Claim{Owner: "c"})).Prefixes[0])
	}
	// Output:
	// "": 10.0.0.0/26
	// "highest": 10.0.3.192/26
	// "spread": 10.0.0.0/26
	// "best-fit": 10.0.2.64/26
}

// Claims that name the band get its addresses first; other claims get them last.
func ExampleBand() {
	ctx := context.Background()
	spec := pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.9"))}
	spec.Bands = []pool.Band{{Name: "appliances", Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.3"))}}
	p := must(pool.New(spec, nil))

	fmt.Println(must(p.Allocate(ctx, pool.Claim{Owner: "vm"})).Addrs()[0])
	inBand := []pool.Request{{Band: "appliances"}}
	fmt.Println(must(p.Allocate(ctx, pool.Claim{Owner: "firewall", Requests: inBand})).Addrs()[0])
	// Output:
	// 10.0.0.4
	// 10.0.0.1
}

// A claim names the labels of pools instead of a pool. One pool is closed for maintenance, and of the others the one
// with the most free addresses is taken.
func ExampleSelect() {
	ctx, s := context.Background(), store.NewMemory()
	for name, cidr := range map[string]string{"rack-1": "10.1.0.0/28", "rack-2": "10.2.0.0/24", "rack-3": "10.3.0.0/16"} {
		spec := must(pool.ParseSpec(cidr))
		spec.Labels = map[string]string{"site": "paris"}
		spec.Cordoned = name == "rack-3"
		must(pool.Create(ctx, s, name, spec, nil))
	}
	paris := must(pool.Select(s, map[string]string{"site": "paris"}, pool.MostFree, nil))

	got := must(paris.Allocate(ctx, pool.Claim{Owner: "vm-1"}))
	fmt.Println(got.Pool.Name(), got.Allocation.Addrs()[0])
	must(got.Pool.Release(ctx, pool.Held{Owner: "vm-1"}))
	// Output: rack-2 10.2.0.1
}

// A DHCP server's host reservations. An exclusive band keeps these addresses from claims that do not name them.
func ExampleBand_reservation() {
	ctx := context.Background()
	reserved := map[string]netip.Addr{"printer": netip.MustParseAddr("192.0.2.2")} // by client
	spec := must(pool.ParseSpec("192.0.2.1-192.0.2.3"))
	band := pool.Band{Name: "reserved", Exclusive: true}
	for _, addr := range reserved {
		band.Ranges = append(band.Ranges, netipx.IPRangeFrom(addr, addr))
	}
	spec.Bands = []pool.Band{band}
	p := must(pool.New(spec, nil))

	lease := func(client string) {
		claim := pool.Claim{Owner: client, TTL: time.Hour}
		if addr, ok := reserved[client]; ok {
			claim.Requests = []pool.Request{pool.ExactAddr(addr)}
		}
		a, err := p.Allocate(ctx, claim)
		fmt.Println(client, a.Addrs(), errors.Is(err, pool.ErrExhausted))
	}
	for _, client := range []string{"laptop", "phone", "tablet", "printer"} {
		lease(client)
	}
	// Output:
	// laptop [192.0.2.1] false
	// phone [192.0.2.3] false
	// tablet [] true
	// printer [192.0.2.2] false
}

// Kubernetes keeps the low addresses of a Service range for Services that name their address.
func ExampleServiceBand() {
	ctx := context.Background()
	services := netip.MustParsePrefix("10.96.0.0/24")
	spec := pool.Spec{Ranges: []netipx.IPRange{netipx.RangeOfPrefix(services)}}
	if band, ok := pool.ServiceBand(services); ok {
		fmt.Println("static:", cidr.FormatRange(band))
		spec.Bands = []pool.Band{{Name: "static", Ranges: []netipx.IPRange{band}}}
	}
	p := must(pool.New(spec, nil))

	dns := pool.ExactAddr(netip.MustParseAddr("10.96.0.10"))
	fmt.Println(must(p.Allocate(ctx, pool.Claim{Owner: "web"})).Addrs()[0])
	fmt.Println(must(p.Allocate(ctx, pool.Claim{Owner: "kube-dns", Requests: []pool.Request{dns}})).Addrs()[0])
	// Output:
	// static: 10.96.0.1-10.96.0.16
	// 10.96.0.17
	// 10.96.0.10
}

// A pool for one namespace.
func ExampleClaim_scope() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.9")), Scope: "team-a"}, nil))

	fmt.Println(must(p.Allocate(ctx, pool.Claim{Owner: "vm-1", Scope: "team-a"})).Addrs()[0])
	_, err := p.Allocate(ctx, pool.Claim{Owner: "vm-2", Scope: "team-b"})
	fmt.Println(errors.Is(err, pool.ErrScope), err)
	// Output:
	// 10.0.0.1
	// true allocate for "vm-2": other scope: the pool is for "team-a", the claim is of "team-b"
}

func ExamplePool_DryRun() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.9"))}, nil))

	fmt.Println("would get", must(p.DryRun(ctx, pool.Claim{Owner: "vm-1"})).Addrs()[0])
	fmt.Println("used:", must(p.Info(ctx)).StatsOf(pool.IPv4).Used)
	// Output:
	// would get 10.0.0.1
	// used: 0
}
