package command

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

func (a *app) who() *cobra.Command {
	return &cobra.Command{
		Use: "who ADDRESS", Short: "Show who holds an address, in all pools", Args: arguments(1, 1),
		Long: `Show who holds an address, in each pool of the store: one owner, or all that share
it, with the share key. In a pool from which another one was delegated, the owner
is that of the whole block, and CHILD is that pool. If nobody holds it, the exit
code is 3.`,
		Example: "  ipalloc who 192.0.2.7",
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			addr, err := parseAddr(args[0])
			if err != nil {
				return err
			}
			return a.withStore(c.Context(), false, func(db store.Store) error {
				holdings, err := holders(c.Context(), db, addr)
				if err != nil {
					return err
				}
				if len(holdings) == 0 {
					return fmt.Errorf("%w: nobody holds %v in any pool", pool.ErrNotFound, addr)
				}
				return a.printHoldings(holdings)
			})
		},
	}
}

// holders returns what contains the address, of all pools.
func holders(ctx context.Context, db store.Store, addr netip.Addr) ([]holding, error) {
	infos, err := listPools(ctx, db)
	if err != nil {
		return nil, err
	}
	var holdings []holding
	for _, info := range infos {
		if !mayHold(info, addr) {
			continue
		}
		p, err := pool.Open(ctx, db, info.Name, nil)
		if err != nil {
			return nil, err
		}
		found, err := p.Holders(ctx, addr)
		if err != nil && !errors.Is(err, pool.ErrNotFound) {
			return nil, err
		}
		holdings = append(holdings, holdingsOf(info.Name, found)...)
	}
	return holdings, nil
}

// mayHold reports whether the address is in the ranges of the pool, or may be held out of range there.
func mayHold(info pool.Info, addr netip.Addr) bool {
	n := info.Renumbering
	if !info.StatsOf(pool.FamilyOf(addr)).OutOfRange.IsZero() || n.From.Contains(addr) || n.To.Contains(addr) {
		return true
	}
	for _, r := range info.Spec.Ranges {
		if r.Contains(addr) {
			return true
		}
	}
	return len(info.Spec.Ranges) == 0 // which are all subnets
}
