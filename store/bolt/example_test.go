package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// A pool is kept in a file. A second program that opens the file finds it locked, and what the first one was granted
// when that has closed it.
func Example() {
	folder, err := os.MkdirTemp("", "ipalloc")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	ctx, path := context.Background(), filepath.Join(folder, "ipalloc.db")

	db, err := bolt.Open(ctx, path, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
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

	_, err = bolt.Open(ctx, path, nil)
	fmt.Println("locked:", errors.Is(err, bolt.ErrLocked))
	fmt.Println("close:", db.Close())

	db, err = bolt.Open(ctx, path, &bolt.Options{MustExist: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	lab, err = pool.Open(ctx, db, "lab", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	holder, err := lab.Get(ctx, pool.Held{Addr: netip.MustParseAddr("10.0.0.5")})
	fmt.Println("found:", holder.Owner, holder.Prefixes, err)
	// Output:
	// granted: [10.0.0.5/32] <nil>
	// locked: true
	// close: <nil>
	// found: vm-1 [10.0.0.5/32] <nil>
}
