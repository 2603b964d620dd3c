package command

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/pool"
)

// move is what would become of a prefix, as the command prints it.
type move struct {
	Owner    string       `json:"owner"`
	Old      netip.Prefix `json:"old"`
	New      netip.Prefix `json:"new,omitzero"`
	Obstacle string       `json:"obstacle,omitempty"`
}

func (a *app) renumber() *cobra.Command {
	var finish, cancel bool
	c := &cobra.Command{
		Use: "renumber POOL [FROM TO]", Short: "Move a pool to another prefix", Args: arguments(1, 3),
		Long: `Move a pool from one prefix to another, in which every address keeps its offset.
Without --yes, list what would move and what is in the way; if anything is,
nothing moves, and the exit code is 4. With it, owners hold the new addresses
beside the old ones, and are found by either. Then, with --finish, the old ones
go; or with --cancel, the new ones. Without --yes, these list who has both.

What does not finish is to be done again.`,
		Example: "  ipalloc renumber site 2001:db8:1::/48 2001:db8:2::/48 --yes\n" +
			"  ipalloc renumber site --finish --yes",
		ValidArgsFunction: a.completePool,
		RunE: func(c *cobra.Command, args []string) error {
			begin := len(args) == 3
			if len(args) == 2 || begin == (finish || cancel) || finish && cancel {
				return usagef("want one of: FROM and TO, --finish, --cancel")
			}
			err := a.checkFormat()
			var from, to netip.Prefix
			if err == nil && begin {
				if from, err = parsePrefix(args[1]); err == nil {
					to, err = parsePrefix(args[2])
				}
			}
			if err != nil {
				return err
			}
			return a.withPool(c.Context(), args[0], func(p *pool.Pool) error {
				switch {
				case begin:
					return a.beginRenumber(c.Context(), p, from, to)
				case finish:
					return a.endRenumber(c.Context(), p, p.FinishRenumber)
				default:
					return a.endRenumber(c.Context(), p, p.CancelRenumber)
				}
			})
		},
	}
	c.Flags().BoolVar(&finish, "finish", false, "let the old prefix go")
	c.Flags().BoolVar(&cancel, "cancel", false, "let the new prefix go")
	a.yesFlag(c)
	return c
}

func (a *app) beginRenumber(ctx context.Context, p *pool.Pool, from, to netip.Prefix) error {
	if a.yes {
		err := p.Renumber(ctx, from, to)
		if errors.Is(err, pool.ErrOutOfRange) {
			return a.printMoves(ctx, p, from, to)
		}
		if err != nil {
			return err
		}
		return a.printPool(ctx, p)
	}
	if err := a.printMoves(ctx, p, from, to); err != nil {
		return err
	}
	return errNeedsYes
}

// printMoves prints what would move, and returns an error if anything is in the way.
func (a *app) printMoves(ctx context.Context, p *pool.Pool, from, to netip.Prefix) error {
	plan, err := p.PlanRenumber(ctx, from, to)
	if err != nil {
		return err
	}
	all, rows := []move{}, table{columns: []string{"owner", "old", "new", "obstacle"}}
	obstacles := 0
	for _, m := range plan.Moves {
		all = append(all, move(m))
		moved := ""
		if m.New.IsValid() {
			moved = prefixText([]netip.Prefix{m.New})
		}
		if m.Obstacle != "" {
			obstacles++
		}
		rows.add(m.Owner, prefixText([]netip.Prefix{m.Old}), moved, m.Obstacle)
	}
	if err := a.print(all, rows); err != nil || plan.OK() {
		return err
	}
	return fmt.Errorf("%w: %d of the %d prefixes have an obstacle; nothing was changed",
		pool.ErrOutOfRange, obstacles, len(plan.Moves))
}

func (a *app) endRenumber(ctx context.Context, p *pool.Pool, end func(context.Context) error) error {
	if a.yes {
		if err := end(ctx); err != nil {
			return err
		}
		return a.printPool(ctx, p)
	}
	both := []holding{}
	for held, err := range p.Allocations(ctx) {
		if err != nil {
			return err
		}
		if len(held.Beside) > 0 {
			both = append(both, holdingOf(p.Name(), held))
		}
	}
	if err := a.printHoldings(both); err != nil {
		return err
	}
	return errNeedsYes
}
