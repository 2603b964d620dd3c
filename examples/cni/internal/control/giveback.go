package control

import (
	"context"
	"fmt"
	"slices"

	"github.com/ipalloc/ipalloc/examples/cni/internal/adopt"
	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
)

// giveBack writes the files of host-local for what containers of this node hold, so that host-local can take over.
func (c *Control) giveBack(ctx context.Context, args []string) error {
	flags := c.newFlags("give-back")
	config := flags.String("config", "", "the `file` of the network's configuration, as in /etc/cni/net.d")
	if err := parse(flags, args); err != nil {
		return err
	}
	n, err := readNetwork(*config)
	if err != nil {
		return err
	}
	if n.Kind != network.HostLocal {
		return fmt.Errorf("%w: %s is not a configuration of host-local", ErrUsage, *config)
	}
	s, shared, err := c.open(ctx, n.Header, false)
	if err != nil {
		return err
	}
	defer s.Close()
	node, err := netpools.NodeName()
	if err != nil {
		return err
	}
	p, err := pool.Open(ctx, s, n.Name, nil)
	if err != nil {
		return err
	}
	var held []pool.Allocation
	for a, err := range p.Allocations(ctx) {
		if err != nil {
			return err
		}
		if !shared || a.Labels[netpools.LabelNode] == node {
			held = append(held, a)
		}
	}
	slices.SortFunc(held, func(a, b pool.Allocation) int { return a.Prefixes[0].Compare(b.Prefixes[0]) })
	for _, a := range held {
		fmt.Fprintf(c.Stdout, "%s %v\n", a.Owner, a.Addrs())
	}
	return adopt.WriteHostLocal(n.DataDir, n.Name, held)
}
