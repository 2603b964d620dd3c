package control

import (
	"context"
	"fmt"

	"github.com/ipalloc/ipalloc/pool"
)

// apply makes a pool have what one configuration has, and nothing else. What containers hold of the rest stays held.
func (c *Control) apply(ctx context.Context, args []string) error {
	flags := c.newFlags("apply")
	config := flags.String("config", "", "the `file` of the network's configuration, as in /etc/cni/net.d")
	if err := parse(flags, args); err != nil {
		return err
	}
	n, err := readNetwork(*config)
	if err != nil {
		return err
	}
	s, _, err := c.open(ctx, n.Header, true)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, of := range n.Pools {
		p, err := pool.Ensure(ctx, s, of.Name, of.Spec, pool.Drain, nil)
		if err != nil {
			return err
		}
		info, err := p.Info(ctx)
		if err != nil {
			return err
		}
		for _, counts := range info.Stats {
			fmt.Fprintf(c.Stdout, "%s %v: %v in use, %v given up but still held\n",
				of.Name, counts.Family, counts.Used, counts.OutOfRange)
		}
	}
	return nil
}
