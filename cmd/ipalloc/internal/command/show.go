package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/view"
	"github.com/ipalloc/ipalloc/store"
)

func (a *app) show() *cobra.Command {
	var onlySpec bool
	var label string
	c := &cobra.Command{
		Use: "show POOL", Short: "Show a pool: its counts, its map and its spec", Args: arguments(1, 1),
		Long: `Show a pool: its counts, a map of its addresses, in colours on a terminal, and its
spec. With --spec, show the spec alone, as the file that create, ensure, update
and drain take.`,
		Example:           "  ipalloc show pods\n  ipalloc show pods --spec >pods.yaml",
		ValidArgsFunction: a.completePool,
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			return a.withStore(c.Context(), false, func(db store.Store) error {
				p, err := pool.Open(c.Context(), db, args[0], nil)
				if err != nil {
					return err
				}
				if onlySpec || a.output != formatTable {
					return a.showInfo(c, p, onlySpec)
				}
				return a.showMap(c, p, label)
			})
		},
	}
	c.Flags().BoolVar(&onlySpec, "spec", false, "only the spec, as YAML, or as JSON with -o json")
	c.Flags().StringVar(&label, "color-by", "", "name of the label whose values colour the map")
	return c
}

func (a *app) showInfo(c *cobra.Command, p *pool.Pool, onlySpec bool) error {
	info, err := p.Info(c.Context())
	switch {
	case err != nil:
		return err
	case onlySpec && a.output == formatJSON:
		return a.print(info.Spec, table{})
	case onlySpec:
		return printYAML(a.stdout, info.Spec)
	}
	shown := poolInfoOf(info)
	shown.Spec = &info.Spec
	return a.print(shown, statsTable([]poolInfo{shown}))
}

func (a *app) showMap(c *cobra.Command, p *pool.Pool, label string) error {
	snapshot, err := p.Snapshot(c.Context())
	if err != nil {
		return err
	}
	columns, color := isTerminal(a.stdout)
	if err := view.Text(a.stdout, snapshot, &view.Options{Width: columns, Color: color, Label: label}); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	shown := poolInfoOf(snapshot.Info)
	if err := printTable(a.stdout, statsTable([]poolInfo{shown})); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	return printYAML(a.stdout, map[string]any{"spec": snapshot.Spec})
}
