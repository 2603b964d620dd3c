package command

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

func (a *app) export() *cobra.Command {
	return &cobra.Command{
		Use: "export POOL", Short: "Write a whole pool as JSON", Args: arguments(1, 1),
		Long: `Write a whole pool to the standard output, as of one moment: its spec and what its
owners hold. It is JSON whatever --output says, and what import reads. If the exit
code is not 0, what was written is not whole.`,
		Example:           "  ipalloc export pods >pods.json",
		ValidArgsFunction: a.completePool,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withPool(c.Context(), args[0], func(p *pool.Pool) error { return p.Export(c.Context(), a.stdout) })
		},
	}
}

func (a *app) importPool() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "import POOL", Short: "Create a pool from an export", Args: arguments(1, 1),
		Long: `Create a pool from what export has written, and the store if it is not there: with
the same spec, and the same addresses held by the same owners until the same
times. A pool of that name must not exist. Everything is checked before anything
is written. If an import does not finish, do it again.

A delegated pool is imported under its own name, after its parent.`,
		Example: "  ipalloc import pods -f pods.json",
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			text, err := a.readFile(file)
			if err != nil {
				return err
			}
			var snapshot pool.Snapshot
			if err := json.Unmarshal(text, &snapshot); err != nil {
				return fmt.Errorf("%w: file %q: %w", pool.ErrInvalid, file, err)
			}
			return a.withStore(c.Context(), true, func(db store.Store) error {
				p, err := pool.Import(c.Context(), db, args[0], snapshot, nil)
				if err != nil {
					return err
				}
				return a.printPool(c.Context(), p)
			})
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "file of the export, - for the standard input")
	return c
}
