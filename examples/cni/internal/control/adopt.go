package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/hostlocal"
	"github.com/ipalloc/ipalloc/adopt/whereabouts"
	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
)

// adopt takes over what containers hold under another plugin. It may be repeated.
func (c *Control) adopt(ctx context.Context, args []string) error {
	flags := c.newFlags("adopt")
	config := flags.String("config", "", "the `file` of the network's configuration, as in /etc/cni/net.d")
	ippools := flags.String("ippools", "", "a `file` with Whereabouts' IPPool objects, as kubectl get -A -o json prints "+
		"them; - for the standard input. Without it, the files of host-local are read")
	node := flags.String("node", "", "the `name` of the node whose files of host-local are read (default: this node)")
	dryRun := flags.Bool("dry-run", false, "only print what would be adopted")
	if err := parse(flags, args); err != nil {
		return err
	}
	n, err := readNetwork(*config)
	if err != nil {
		return err
	}
	held, err := c.heldElsewhere(n, *ippools, *node)
	if err != nil {
		return err
	}
	for _, a := range held {
		fmt.Fprintf(c.Stdout, "%s %v\n", a.Owner, a.Addrs())
	}
	if *dryRun || len(held) == 0 {
		return nil
	}
	return c.takeOver(ctx, n, held)
}

// heldElsewhere reads what the other plugin has given.
func (c *Control) heldElsewhere(n network.Network, ippools, node string) ([]pool.Allocation, error) {
	labels := map[string]string{netpools.LabelNetwork: n.Name, netpools.LabelKind: string(n.Kind)}
	if ippools == "" {
		if node == "" {
			var err error
			if node, err = netpools.NodeName(); err != nil {
				return nil, err
			}
		}
		labels[netpools.LabelNode] = node
		held, err := netpools.Adopted(hostlocal.Read(os.DirFS(filepath.Join(n.DataDir, n.Name))), labels)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil // host-local has never given anything
		}
		return held, err
	}
	text, err := c.readAll(ippools)
	if err != nil {
		return nil, err
	}
	ranges := rangesOf(n)
	return netpools.Adopted(whereabouts.Read(bytes.NewReader(text), func(p whereabouts.Pool) bool {
		return p.NetworkName == n.NetworkName && slices.Contains(ranges, p.Range)
	}), labels)
}

// readAll reads a file, or the standard input.
func (c *Control) readAll(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(c.Stdin)
	}
	return os.ReadFile(path)
}

// errNotAdopted is returned if some of what is held could not be adopted.
var errNotAdopted = errors.New("not adopted")

// takeOver gives the owners in the pool what they hold. The pool gets the addresses too, if it does not have them: a
// claim is for addresses of its configuration, so nobody else gets them.
func (c *Control) takeOver(ctx context.Context, n network.Network, held []pool.Allocation) error {
	if len(n.Pools) != 1 || n.Pools[0].SliceBits != 0 {
		return fmt.Errorf("%w: the configuration has several pools, or slices of nodes", errNotAdopted)
	}
	s, _, err := c.open(ctx, n.Header, true)
	if err != nil {
		return err
	}
	defer s.Close()
	spec := n.Pools[0].Spec
	for _, a := range held {
		for _, addr := range a.Addrs() {
			spec.Ranges = append(spec.Ranges, netipx.IPRangeFrom(addr, addr))
		}
	}
	p, err := netpools.Ensure(ctx, s, n.Pools[0].Name, network.Grown(n.Pools[0].Spec, spec))
	if err != nil {
		return err
	}
	return c.allocateAll(ctx, p, held)
}

func (c *Control) allocateAll(ctx context.Context, p *pool.Pool, held []pool.Allocation) error {
	entries := func(yield func(adopt.Entry, error) bool) {
		for _, e := range netpools.Entries(held) {
			if !yield(e, nil) {
				return
			}
		}
	}
	var failed int
	for result, err := range adopt.Into(ctx, []*pool.Pool{p}, entries, nil) {
		if err != nil {
			return err
		}
		if result.Err != nil {
			failed++
			c.Log.ErrorContext(ctx, "not adopted", "error", result.Err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%w: %d of %d attachments, whose addresses others hold", errNotAdopted, failed, len(held))
	}
	return nil
}
