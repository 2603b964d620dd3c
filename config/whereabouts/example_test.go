package whereabouts_test

import (
	"context"
	"fmt"

	"github.com/ipalloc/ipalloc/config/whereabouts"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// A plugin that takes over a configuration of Whereabouts gives a pod one address of each range.
func ExampleParse() {
	c, err := whereabouts.Parse([]byte(`{
		"cniVersion": "1.0.0",
		"name": "storage",
		"type": "macvlan",
		"ipam": {
			"type": "whereabouts",
			"network_name": "storage",
			"gateway": "192.0.2.1",
			"ipRanges": [
				{"range": "192.0.2.0/24", "exclude": ["192.0.2.2/31"]},
				{"range": "2001:db8::10-2001:db8::1f/64"}
			]
		}
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	p, err := pool.Ensure(ctx, store.NewMemory(), c.NetworkName, c.Spec(), pool.Update, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	a, err := p.Allocate(ctx, pool.Claim{Owner: "default/web-0/net1", Requests: c.Requests()})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, prefix := range a.Prefixes {
		fmt.Printf("%v/%d\n", prefix.Addr(), c.Ranges[i].Subnet.Bits())
	}
	// Output:
	// 192.0.2.4/24
	// 2001:db8::10/64
}
