package command

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/pool"
)

// heldFlags are the flags of the commands that name what an owner holds.
type heldFlags struct {
	addr       string
	generation int64
}

func (f *heldFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.addr, "addr", "", "an address that is held; the owner may then be left out")
	c.Flags().Int64Var(&f.generation, "generation", 0, "only this generation of what is held; 0 means any")
}

// held returns what the flags, and the arguments after the pool, name.
func (f *heldFlags) held(args []string) (pool.Held, error) {
	held := pool.Held{Generation: f.generation}
	if len(args) > 1 {
		held.Owner = args[1]
	}
	if f.addr != "" {
		var err error
		if held.Addr, err = parseAddr(f.addr); err != nil {
			return pool.Held{}, err
		}
	}
	if held.Owner == "" && !held.Addr.IsValid() {
		return pool.Held{}, usagef("neither an owner nor --addr is named")
	}
	return held, nil
}

// yesFlag adds the flag without which the command only shows what it would do.
func (a *app) yesFlag(c *cobra.Command) {
	c.Flags().BoolVar(&a.yes, "yes", false, "do it; otherwise only show what would be done")
}

func (a *app) release() *cobra.Command {
	var flags heldFlags
	c := &cobra.Command{
		Use: "release POOL [OWNER]", Short: "Take from an owner what it holds", Args: arguments(1, 2),
		Long: `Release everything that an owner holds in a pool. Without --yes, show what would be
released. With it, exactly what is shown is released: if the owner gets something
else meanwhile, it keeps that.`,
		Example:           "  ipalloc release pods vm-7\n  ipalloc release pods --addr 192.0.2.7 --yes",
		ValidArgsFunction: a.completePool,
		RunE: func(c *cobra.Command, args []string) error {
			held, err := a.heldOf(&flags, args)
			if err != nil {
				return err
			}
			return a.withPool(c.Context(), args[0], func(p *pool.Pool) error {
				found, err := p.Get(c.Context(), held)
				if err != nil {
					return err
				}
				return a.take(c.Context(), p, found, p.Release)
			})
		},
	}
	flags.add(c)
	a.yesFlag(c)
	return c
}

func (a *app) unreserve() *cobra.Command {
	c := &cobra.Command{
		Use: "unreserve POOL OWNER", Short: "End the reservation of an owner", Args: arguments(2, 2),
		Long: `End the reservation of an owner in a pool. What the owner holds stays held. Without
--yes, show what is reserved.`,
		Example:           "  ipalloc unreserve pods printer --yes",
		ValidArgsFunction: a.completePool,
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			return a.withPool(c.Context(), args[0], func(p *pool.Pool) error {
				found, err := reservation(c.Context(), p, args[1])
				if err != nil {
					return err
				}
				return a.take(c.Context(), p, found, p.Unreserve)
			})
		},
	}
	a.yesFlag(c)
	return c
}

func reservation(ctx context.Context, p *pool.Pool, owner string) (pool.Allocation, error) {
	for found, err := range p.Reservations(ctx) {
		if err != nil || found.Owner == owner {
			return found, err
		}
	}
	return pool.Allocation{}, fmt.Errorf("%w: nothing is reserved for %q in pool %q", pool.ErrNotFound, owner, p.Name())
}

func (a *app) heldOf(flags *heldFlags, args []string) (pool.Held, error) {
	if err := a.checkFormat(); err != nil {
		return pool.Held{}, err
	}
	return flags.held(args)
}

// take prints what was found, and takes it from its owner if --yes is there, and if it is still of that generation.
func (a *app) take(ctx context.Context, p *pool.Pool, found pool.Allocation,
	do func(context.Context, pool.Held) (pool.Allocation, error),
) error {
	if a.yes {
		var err error
		if found, err = do(ctx, pool.Held{Owner: found.Owner, Generation: found.Generation}); err != nil {
			return err
		}
	}
	if err := a.printHolding(holdingOf(p.Name(), found)); err != nil || a.yes {
		return err
	}
	return errNeedsYes
}

func (a *app) renew() *cobra.Command {
	var flags heldFlags
	var ttl time.Duration
	c := &cobra.Command{
		Use: "renew POOL [OWNER]", Short: "Let a lease last longer", Args: arguments(1, 2),
		Long: `Let a lease last for a time from now on. It never ends earlier than before. What is
held for good stays so.`,
		Example:           "  ipalloc renew pods vm-8 --ttl 24h",
		ValidArgsFunction: a.completePool,
		RunE: func(c *cobra.Command, args []string) error {
			held, err := a.heldOf(&flags, args)
			if err != nil {
				return err
			}
			if ttl <= 0 {
				return usagef("the flag --ttl is %v, want a duration above 0, such as 1h", ttl)
			}
			return a.withPool(c.Context(), args[0], func(p *pool.Pool) error {
				renewed, err := p.Renew(c.Context(), held, ttl)
				if err != nil {
					return err
				}
				return a.printHolding(holdingOf(args[0], renewed))
			})
		},
	}
	flags.add(c)
	c.Flags().DurationVar(&ttl, "ttl", 0, "how long the lease is to last from now on")
	return c
}
