package static_test

import (
	"context"
	"fmt"

	"github.com/ipalloc/ipalloc/config/static"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// A plugin that takes over a configuration of static records its addresses.
func ExampleParse() {
	c, err := static.Parse([]byte(`{"name": "lan", "ipam": {"addresses": [{"address": "192.0.2.7/24"}]}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	p, err := pool.Ensure(ctx, store.NewMemory(), c.Name, c.Spec(), pool.Update, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, owner := range []string{"container-a/eth0", "container-b/eth0"} {
		a, err := p.Allocate(ctx, pool.Claim{Owner: owner, Requests: c.Requests()})
		fmt.Println(a.Addrs(), err)
	}
	// Output:
	// [192.0.2.7] <nil>
	// [] pool "lan": allocate for "container-b/eth0": 192.0.2.7/32: taken
}
