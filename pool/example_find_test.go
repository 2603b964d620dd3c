package pool_test

import (
	"context"
	"fmt"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// What a node's pods hold, two to a page, in the order of the addresses.
func ExamplePool_Find() {
	ctx := context.Background()
	spec := pool.Spec{Ranges: must(cidr.ParseRanges("192.0.2.0/24"))}
	pods := must(pool.Create(ctx, store.NewMemory(), "pods", spec, nil))
	for i, node := range []string{"n1", "n2", "n1", "n1", "n2", "n1"} {
		claim := pool.Claim{Owner: fmt.Sprint("pod-", 6-i), Labels: map[string]string{"node": node}}
		must(pods.Allocate(ctx, claim))
	}

	q := pool.Query{Labels: map[string]string{"node": "n1"}, ByAddress: true}
	for page := 1; ; page++ {
		n := 0
		for a, err := range pods.Find(ctx, q) {
			if err != nil {
				panic(err)
			}
			fmt.Println("page", page, a.Owner, a.Prefixes)
			q.AfterAddr = a.Addrs()[0]
			if n++; n == 2 {
				break
			}
		}
		if n < 2 {
			break
		}
	}
	// Output:
	// page 1 pod-6 [192.0.2.1/32]
	// page 1 pod-4 [192.0.2.3/32]
	// page 2 pod-3 [192.0.2.4/32]
	// page 2 pod-1 [192.0.2.6/32]
}
