package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// audit checks what so many writers of so many pools have left: each has a pool of blocks that nobody else has, with
// one owner, and Verify finds nothing in any pool.
func audit(ctx context.Context, s store.Store, parents, writers int) error {
	var names []string
	blocks := map[netip.Prefix]string{}
	for info, err := range pool.List(ctx, s) {
		if err != nil {
			return err
		}
		names = append(names, info.Name)
		if info.Parent != "" && info.Holders != 1 {
			return fmt.Errorf("%s has %d owners instead of one", info.Name, info.Holders)
		}
		for _, grant := range info.Grants {
			for _, block := range grant.Prefixes {
				if other, taken := blocks[block]; taken {
					return fmt.Errorf("%v is a block of %s and of %s", block, other, info.Name)
				}
				blocks[block] = info.Name
			}
		}
	}
	if len(names) != parents+writers || len(blocks) < writers {
		return fmt.Errorf("%d writers of %d pools have %d pools and %d blocks",
			writers, parents, len(names)-parents, len(blocks))
	}
	for _, name := range names {
		p, err := pool.Open(ctx, s, name, nil)
		if err != nil {
			return err
		}
		report, err := p.Verify(ctx)
		if err == nil && !report.OK() {
			err = fmt.Errorf("%v", report)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
