package mysql_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/mysql"
)

// A pool is kept in a schema of a server.
func Example() {
	ctx := context.Background()
	db, err := mysql.Open(ctx, exampleDSN(), &mysql.Options{Schema: "example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	spec, err := pool.ParseSpec("10.0.0.5-10.0.0.9")
	if err != nil {
		fmt.Println(err)
		return
	}
	lab, err := pool.Ensure(ctx, db, "lab", spec, pool.Update, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	granted, err := lab.Allocate(ctx, pool.Claim{Owner: "vm-1"})
	fmt.Println("granted:", granted.Prefixes, err)

	holder, err := lab.Get(ctx, pool.Held{Addr: netip.MustParseAddr("10.0.0.5")})
	fmt.Println("found:", holder.Owner, holder.Prefixes, err)
	// Output:
	// granted: [10.0.0.5/32] <nil>
	// found: vm-1 [10.0.0.5/32] <nil>
}
