package command

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

func (a *app) owners() *cobra.Command {
	var labels []string
	c := &cobra.Command{
		Use: "owners [POOL]", Short: "List what is held, by address or by label", Args: arguments(0, 1),
		Long: `List what owners hold in one pool, or in all pools, in the order of the
addresses. With --label, list only what has all of these labels.`,
		Example:           "  ipalloc owners pods --label node=n1\n  ipalloc owners -o csv",
		ValidArgsFunction: a.completePool,
		RunE: func(c *cobra.Command, args []string) error {
			query := pool.Query{ByAddress: true}
			err := a.checkFormat()
			if err == nil {
				query.Labels, err = parseLabels(labels)
			}
			if err != nil {
				return err
			}
			return a.withStore(c.Context(), false, func(db store.Store) error {
				holdings, err := find(c.Context(), db, args, query)
				if err != nil {
					return err
				}
				return a.printHoldings(holdings)
			})
		},
	}
	labelFlag(c, &labels, "only with this label, NAME=VALUE; may be repeated")
	return c
}

// find returns what a query finds in the named pools, or in all.
func find(ctx context.Context, db store.Store, names []string, query pool.Query) ([]holding, error) {
	holdings := []holding{}
	if len(names) == 0 {
		all, err := pool.Select(db, nil, pool.AsGiven, nil)
		if err != nil {
			return nil, err
		}
		for result, err := range all.Find(ctx, query) {
			if err != nil {
				return nil, err
			}
			holdings = append(holdings, holdingOf(result.Pool.Name(), result.Allocation))
		}
	}
	for _, name := range names {
		p, err := pool.Open(ctx, db, name, nil)
		if err != nil {
			return nil, err
		}
		for found, err := range p.Find(ctx, query) {
			if err != nil {
				return nil, err
			}
			holdings = append(holdings, holdingOf(name, found))
		}
	}
	return holdings, nil
}

// labelFlag adds the flag --label. A value may have commas.
func labelFlag(c *cobra.Command, labels *[]string, usage string) {
	c.Flags().StringArrayVarP(labels, "label", "l", nil, usage)
}
