package pool_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// Tenants of one pool: each may hold two addresses.
func ExampleQuota() {
	ctx := context.Background()
	spec := must(pool.ParseSpec("192.0.2.0/24"))
	spec.Quotas = []pool.Quota{{Label: "tenant", Addresses: cidr.CountOf(2)}}
	p := must(pool.New(spec, nil))

	for i := range 3 {
		claim := pool.Claim{Owner: fmt.Sprint("vm-", i), Labels: map[string]string{"tenant": "acme"}}
		_, err := p.Allocate(ctx, claim)
		var failed *pool.Error
		if errors.Is(err, pool.ErrQuota) && errors.As(err, &failed) {
			fmt.Println(failed.Quota.Value, "may hold", failed.Quota.Most)
		}
	}
	for _, use := range must(p.Info(ctx)).Quotas {
		fmt.Println(use.Label, use.Value, "holds", use.Held, "of", use.Most)
	}
	// Output:
	// acme may hold 2
	// tenant acme holds 2 of 2
}
