package hostlocal_test

import (
	"context"
	"fmt"

	"github.com/ipalloc/ipalloc/config/hostlocal"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// A plugin that takes over a configuration of host-local gives a container one address of each set.
func ExampleParse() {
	c, err := hostlocal.Parse([]byte(`{
		"cniVersion": "1.0.0",
		"name": "pods",
		"type": "bridge",
		"ipam": {
			"type": "host-local",
			"ranges": [
				[{"subnet": "192.0.2.0/25"}, {"subnet": "198.51.100.0/25", "rangeStart": "198.51.100.20"}],
				[{"subnet": "2001:db8::/64", "gateway": "2001:db8::ff"}]
			]
		}
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	p, err := pool.Ensure(ctx, store.NewMemory(), c.Name, c.Spec, pool.Update, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	requests, err := c.Requests(c.Requested...)
	if err != nil {
		fmt.Println(err)
		return
	}
	a, err := p.Allocate(ctx, pool.Claim{Owner: "container-id/eth0", Requests: requests})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, prefix := range a.Prefixes {
		r, _ := c.Sets[i].Of(prefix.Addr())
		fmt.Printf("%v/%d via %v\n", prefix.Addr(), r.Subnet.Bits(), r.Gateway)
	}
	// Output:
	// 192.0.2.2/25 via 192.0.2.1
	// 2001:db8::1/64 via 2001:db8::ff
}
