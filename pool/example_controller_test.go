package pool_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// controller gives each machine an address. list and publish stand for the API server.
type controller struct {
	addresses *pool.Pool
	list      func(context.Context) ([]string, error)
	publish   func(machine string, addr netip.Addr)
}

// sync is one pass of the loop. It reports whether the loop should come back soon for machines that have no address
// yet; any other error ends the pass, and the next one begins from the start.
func (c controller) sync(ctx context.Context) (again bool, err error) {
	mark, err := c.addresses.Mark(ctx) // before the list
	if err != nil {
		return false, err
	}
	machines, err := c.list(ctx)
	if err != nil {
		return false, err
	}
	live := func(yield func(string, error) bool) {
		for _, machine := range machines {
			if !yield(machine, nil) {
				return
			}
		}
	}
	if _, err := c.addresses.Reconcile(ctx, mark, live, nil); err != nil {
		return false, err
	}
	for _, machine := range machines {
		granted, err := c.addresses.Allocate(ctx, pool.Claim{Owner: machine}) // a read, if it has its address already
		switch {
		case err == nil:
			c.publish(machine, granted.Addrs()[0])
		case errors.Is(err, pool.ErrExhausted), errors.Is(err, pool.ErrBusy):
			again = true // the other machines may still be served
		default:
			return false, err
		}
	}
	return again, nil
}

// A controller's loop: release what machines held that are gone, give the others an address, and come back for those
// that got none.
func Example_controller() {
	ctx := context.Background()
	spec := must(pool.ParseSpec("10.0.0.1-10.0.0.2"))
	machines := []string{"vm-1", "vm-2", "vm-3"}
	c := controller{
		addresses: must(pool.Ensure(ctx, store.NewMemory(), "machines", spec, pool.Update, nil)),
		list:      func(context.Context) ([]string, error) { return machines, nil },
		publish:   func(machine string, addr netip.Addr) { fmt.Println(machine, addr) },
	}

	fmt.Println("again:", must(c.sync(ctx)))
	machines = []string{"vm-2", "vm-3"} // vm-1 is deleted
	fmt.Println("again:", must(c.sync(ctx)))
	// Output:
	// vm-1 10.0.0.1
	// vm-2 10.0.0.2
	// again: true
	// vm-2 10.0.0.2
	// vm-3 10.0.0.1
	// again: false
}
