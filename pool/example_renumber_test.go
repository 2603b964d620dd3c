package pool_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/ipalloc/ipalloc/pool"
)

// A provider gives a site another IPv6 prefix. For a time every host has both addresses, with the same last bits; then
// the old ones go.
func ExamplePool_Renumber() {
	ctx := context.Background()
	p := must(pool.New(must(pool.ParseSpec("2001:db8:1:7::/64")), nil))
	must(p.Allocate(ctx, pool.Claim{Owner: "web"}))
	from, to := netip.MustParsePrefix("2001:db8:1::/48"), netip.MustParsePrefix("2001:db8:ffff::/48")

	plan := must(p.PlanRenumber(ctx, from, to))
	for _, m := range plan.Moves {
		fmt.Printf("%s: %v to %v %q\n", m.Owner, m.Old, m.New, m.Obstacle)
	}
	if !plan.OK() {
		return
	}

	if err := p.Renumber(ctx, from, to); err != nil {
		fmt.Println(err)
	}
	a := must(p.Get(ctx, pool.Held{Addr: netip.MustParseAddr("2001:db8:ffff:7::1")}))
	fmt.Println(a.Owner, "has", a.Prefixes, "and", a.Beside)

	// Weeks later, when nobody uses the old addresses any more.
	if err := p.FinishRenumber(ctx); err != nil {
		fmt.Println(err)
	}
	a = must(p.Get(ctx, pool.Held{Owner: "web"}))
	fmt.Println(a.Owner, "has", a.Prefixes)
	// Output:
	// web: 2001:db8:1:7::1/128 to 2001:db8:ffff:7::1/128 ""
	// web has [2001:db8:1:7::1/128] and [2001:db8:ffff:7::1/128]
	// web has [2001:db8:ffff:7::1/128]
}
