package pool_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// ipam is a CNI IPAM plugin. Its pool is this node's alone, since GC lists the attachments of one node; see OpenBlocks.
type ipam struct{ pods *pool.Pool }

// attachment identifies a container's interface, as the CNI specification does.
type attachment struct{ containerID, ifname string }

func (a attachment) owner() string { return a.containerID + "/" + a.ifname }

// add is ADD. Repeated after a crash or a time-out, it returns the same addresses.
func (n ipam) add(ctx context.Context, a attachment) ([]netip.Addr, error) {
	granted, err := n.pods.Allocate(ctx, pool.Claim{Owner: a.owner(), Policy: pool.RequireDualStack})
	return granted.Addrs(), err
}

// del is DEL. It succeeds also if nothing is held, because ADD failed or DEL has been here before.
func (n ipam) del(ctx context.Context, a attachment) error {
	_, err := n.pods.Release(ctx, pool.Held{Owner: a.owner(), Optional: true})
	return err
}

// gc is GC. It takes its mark before it reads the list, so an ADD that the list does not have yet loses nothing.
func (n ipam) gc(ctx context.Context, readValid func() ([]attachment, error)) (released int, err error) {
	mark, err := n.pods.Mark(ctx)
	if err != nil {
		return 0, err
	}
	valid, err := readValid() // cni.dev/valid-attachments
	if err != nil {
		return 0, err
	}
	found, err := n.pods.Reconcile(ctx, mark, func(yield func(string, error) bool) {
		for _, a := range valid {
			if !yield(a.owner(), nil) {
				return
			}
		}
	}, nil)
	return len(found.Released), err
}

// The commands of a CNI plugin. The owner is what identifies an attachment: the container's id and its interface.
func Example_cni() {
	ctx := context.Background()
	spec := must(pool.ParseSpec("10.244.1.0/24", "2001:db8:0:1::/64"))
	plugin := ipam{must(pool.Ensure(ctx, store.NewMemory(), "node-1", spec, pool.Update, nil))}
	web, db := attachment{"4f2c", "eth0"}, attachment{"9a1e", "eth0"}

	fmt.Println("ADD", must(plugin.add(ctx, web)))
	fmt.Println("ADD", must(plugin.add(ctx, web)), "again")
	fmt.Println("ADD", must(plugin.add(ctx, db)))
	fmt.Println("DEL", plugin.del(ctx, web))
	fmt.Println("DEL", plugin.del(ctx, web), "again")

	// The DEL for db never comes.
	none := func() ([]attachment, error) { return nil, nil }
	fmt.Println("GC", must(plugin.gc(ctx, none)), "released")
	// Output:
	// ADD [10.244.1.1 2001:db8:0:1::1]
	// ADD [10.244.1.1 2001:db8:0:1::1] again
	// ADD [10.244.1.2 2001:db8:0:1::2]
	// DEL <nil>
	// DEL <nil> again
	// GC 1 released
}
