package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/ipalloc/ipalloc/adopt/hostlocal"
	"github.com/ipalloc/ipalloc/adopt/whereabouts"
	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// giveBack writes what containers hold as the plugin before had it, so that it can take over: the files of host-local
// for this node, or Whereabouts' objects for all nodes.
func (c *Control) giveBack(ctx context.Context, args []string) error {
	flags := c.newFlags("give-back")
	config := flags.String("config", "", "the `file` of the network's configuration, as in /etc/cni/net.d")
	namespace := flags.String("namespace", whereabouts.Namespace, "the `namespace` of Whereabouts' objects")
	if err := parse(flags, args); err != nil {
		return err
	}
	n, err := readNetwork(*config)
	if err != nil {
		return err
	}
	if n.Kind == network.Static || n.Sliced {
		return fmt.Errorf("%w: %s is one of static, or has slices of nodes, whose addresses cannot be given back",
			ErrUsage, *config)
	}
	s, shared, err := c.open(ctx, n.Header, false)
	if err != nil {
		return err
	}
	defer s.Close()
	held, err := heldIn(ctx, s, n.Pools)
	if err != nil {
		return err
	}
	if n.Kind == network.HostLocal {
		return c.giveBackHostLocal(n, held, shared)
	}
	objects := whereabouts.Objects{
		NetworkName: n.NetworkName, Namespace: *namespace, Ranges: rangesOf(n), Reservations: n.Overlapping,
	}
	return objects.Write(c.Stdout, netpools.Entries(held)...)
}

// heldIn returns what is held in those of the pools that exist, in the order of the addresses.
func heldIn(ctx context.Context, s store.Store, pools []network.Pool) ([]pool.Allocation, error) {
	var held []pool.Allocation
	for _, of := range pools {
		p, err := pool.Open(ctx, s, of.Name, nil)
		if errors.Is(err, pool.ErrNoPool) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for a, err := range p.Allocations(ctx) {
			if err != nil {
				return nil, err
			}
			held = append(held, a)
		}
	}
	slices.SortFunc(held, func(a, b pool.Allocation) int { return a.Prefixes[0].Compare(b.Prefixes[0]) })
	return held, nil
}

// giveBackHostLocal writes the files for what containers of this node hold.
func (c *Control) giveBackHostLocal(n network.Network, held []pool.Allocation, shared bool) error {
	node, err := netpools.NodeName()
	if err != nil {
		return err
	}
	held = slices.DeleteFunc(held, func(a pool.Allocation) bool {
		return shared && a.Labels[netpools.LabelNode] != node
	})
	for _, a := range held {
		fmt.Fprintf(c.Stdout, "%s %v\n", a.Owner, a.Addrs())
	}
	return hostlocal.Write(filepath.Join(n.DataDir, n.Name), netpools.Entries(held)...)
}

// rangesOf are the ranges of a configuration of Whereabouts as its objects have them: the subnets, each once.
func rangesOf(n network.Network) []netip.Prefix {
	var ranges []netip.Prefix
	for _, slot := range n.Slots {
		if slot.Request.Exact.IsValid() {
			continue // one of the addresses beside the ranges
		}
		for _, net := range slot.Nets {
			if subnet := netip.PrefixFrom(net.Range.From(), net.Bits).Masked(); !slices.Contains(ranges, subnet) {
				ranges = append(ranges, subnet)
			}
		}
	}
	return ranges
}
