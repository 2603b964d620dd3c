package adopt_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/csv"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// What is in use is taken over. What cannot be is listed, with its place.
func ExampleInto() {
	ctx := context.Background()
	spec, err := pool.ParseSpec("192.0.2.0/24")
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := pool.Create(ctx, store.NewMemory(), "lan", spec, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	file := strings.NewReader("owner,address\nweb,192.0.2.7\ndb,192.0.2.8\nprinter,192.0.2.7\n")
	for result, err := range adopt.Into(ctx, []*pool.Pool{p}, csv.Read(file), nil) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(result.Outcome, result.Owner, result.Prefixes, result.At, result.Err)
	}
	// Output:
	// clash printer [192.0.2.7/32] line 4 twice in the source: "web" has it at line 2
	// adopted web [192.0.2.7/32] line 2 <nil>
	// adopted db [192.0.2.8/32] line 3 <nil>
}
