package pool_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/ipalloc/ipalloc/pool"
)

// Two load balancer services on different ports of one address, which both name by a share key: the annotation of a
// Service, for example. The address is freed with the last of them.
func ExampleClaim_share() {
	ctx := context.Background()
	p := must(pool.New(must(pool.ParseSpec("192.0.2.10-192.0.2.19")), nil))
	for _, service := range []string{"shop/http", "shop/https", "shop/mail"} {
		claim := pool.Claim{Owner: service, Scope: "shop"}
		if service != "shop/mail" {
			claim.Share = "web"
		}
		fmt.Println(service, must(p.Allocate(ctx, claim)).Addrs())
	}

	taken := pool.ExactAddr(netip.MustParseAddr("192.0.2.10"))
	_, err := p.Allocate(ctx, pool.Claim{Owner: "blog/http", Scope: "blog", Requests: []pool.Request{taken}})
	fmt.Println(err)

	must(p.Release(ctx, pool.Held{Owner: "shop/http"}))
	for _, a := range must(p.Holders(ctx, netip.MustParseAddr("192.0.2.10"))) {
		fmt.Println("still held by", a.Owner)
	}
	must(p.Release(ctx, pool.Held{Owner: "shop/https"}))
	fmt.Println("used:", must(p.Info(ctx)).StatsOf(pool.IPv4).Used)
	// Output:
	// shop/http [192.0.2.10]
	// shop/https [192.0.2.10]
	// shop/mail [192.0.2.11]
	// allocate for "blog/http": 192.0.2.10/32: taken: it is shared by the key "web"
	// still held by shop/https
	// used: 1
}
