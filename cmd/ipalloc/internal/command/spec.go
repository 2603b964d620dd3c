package command

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/cmd/ipalloc/internal/specfile"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// specAbout says what the file of a spec is.
const specAbout = `

The file is YAML, with the members of the library's own JSON for specs:

  ranges: [192.0.2.0/24, "2001:db8::/64"]
  subnets:
    - {prefix: 192.0.2.0/24, gateway: 192.0.2.1}
  exclude: [192.0.2.100-192.0.2.120]
  cooldown: 1m

ipalloc show POOL --spec prints the spec of a pool that there is.

It may also be the configuration of another system: pools of Cluster API's
in-cluster provider, of which the one called POOL or NAMESPACE/POOL is taken if
there are several; a configuration of CNI, or a NetworkAttachmentDefinition, for
host-local or Whereabouts, all of whose ranges become one pool.`

// specCommand is a command that takes the name of a pool and the file of a spec.
func (a *app) specCommand(use, short, long string,
	do func(ctx context.Context, db store.Store, name string, spec pool.Spec) error,
) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: use + " POOL", Short: short, Long: long + specAbout, Args: arguments(1, 1),
		Example: fmt.Sprintf("  ipalloc %s pods -f pods.yaml", use), ValidArgsFunction: a.completePool,
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			text, err := a.readFile(file)
			if err != nil {
				return err
			}
			spec, err := specfile.ParseAny(text, args[0])
			if err != nil {
				return fmt.Errorf("file %q: %w", file, err)
			}
			creates := use == "create" || use == "ensure"
			return a.withStore(c.Context(), creates, func(db store.Store) error {
				return do(c.Context(), db, args[0], spec)
			})
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "file of the spec, - for the standard input")
	return c
}

// printPool prints the counts of a pool after a change.
func (a *app) printPool(ctx context.Context, p *pool.Pool) error {
	info, err := p.Info(ctx)
	if err != nil {
		return err
	}
	shown := poolInfoOf(info)
	return a.print(shown, statsTable([]poolInfo{shown}))
}

func (a *app) create() *cobra.Command {
	return a.specCommand("create", "Create a pool",
		"Create a pool from a spec, and the store if it is not there. A pool of that name must not exist.",
		func(ctx context.Context, db store.Store, name string, spec pool.Spec) error {
			p, err := pool.Create(ctx, db, name, spec, nil)
			if err != nil {
				return err
			}
			return a.printPool(ctx, p)
		})
}

func (a *app) ensure() *cobra.Command {
	return a.specCommand("ensure", "Create a pool, or update it",
		`Create a pool from a spec, and the store if it is not there, or update the pool of
that name, as update does. If the pool has that spec already, nothing is changed.`,
		func(ctx context.Context, db store.Store, name string, spec pool.Spec) error {
			p, err := pool.Ensure(ctx, db, name, spec, pool.Update, nil)
			if err != nil {
				return a.explainStranded(name, err)
			}
			return a.printPool(ctx, p)
		})
}

func (a *app) update() *cobra.Command {
	return a.specCommand("update", "Give a pool another spec",
		`Give a pool another spec. What is held stays held: the change is refused if the
pool would no longer hand out an address that is held, and what is in the way is
listed. Use drain for that.`,
		func(ctx context.Context, db store.Store, name string, spec pool.Spec) error {
			p, err := pool.Open(ctx, db, name, nil)
			if err != nil {
				return err
			}
			if err := p.Update(ctx, spec); err != nil {
				return a.explainStranded(name, err)
			}
			return a.printPool(ctx, p)
		})
}

// explainStranded prints what keeps a pool from a change, and returns the error with what to do.
func (a *app) explainStranded(name string, err error) error {
	var failed *pool.Error
	if !errors.Is(err, pool.ErrOutOfRange) || !errors.As(err, &failed) {
		return err
	}
	if err := a.printHoldings(holdingsOf(name, failed.Allocations)); err != nil {
		return err
	}
	return fmt.Errorf("%w; drain keeps them until they are released", err)
}

func (a *app) drain() *cobra.Command {
	c := a.specCommand("drain", "Give a pool another spec that gives up held addresses",
		`Give a pool another spec, although it gives up addresses that are held. These stay
held until they are released, count as out of range, and are not handed out
again. Without --yes, list them and change nothing.`,
		func(ctx context.Context, db store.Store, name string, spec pool.Spec) error {
			p, err := pool.Open(ctx, db, name, nil)
			if err != nil {
				return err
			}
			if a.yes {
				if err := p.Drain(ctx, spec); err != nil {
					return err
				}
				return a.printPool(ctx, p)
			}
			stranded, err := strandedBy(ctx, p, spec)
			if err != nil {
				return err
			}
			if err := a.printHoldings(holdingsOf(name, stranded)); err != nil {
				return err
			}
			return errNeedsYes
		})
	a.yesFlag(c)
	return c
}

// strandedBy returns what is held or kept and would be out of range with the spec.
func strandedBy(ctx context.Context, p *pool.Pool, spec pool.Spec) ([]pool.Allocation, error) {
	snapshot, err := p.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	v4, v6 := spec.Set(pool.IPv4), spec.Set(pool.IPv6)
	outside := func(prefix netip.Prefix) bool {
		return !v4.ContainsPrefix(prefix) && !v6.ContainsPrefix(prefix)
	}
	var stranded []pool.Allocation
	for _, all := range [][]pool.Allocation{snapshot.Allocations, snapshot.Kept} {
		for _, held := range all {
			for _, prefix := range held.Prefixes {
				if outside(prefix) {
					stranded = append(stranded, held)
					break
				}
			}
		}
	}
	return stranded, nil
}

func (a *app) delete() *cobra.Command {
	c := &cobra.Command{
		Use: "delete POOL", Short: "Delete a pool", Args: arguments(1, 1),
		Long: `Delete a pool. It is refused if any of its addresses is held. What cools down or is
only reserved is lost. The addresses of a delegated pool go back to its parent.
It also removes what an import that did not finish has left. Without --yes, show
the pool.`,
		Example:           "  ipalloc delete pods --yes",
		ValidArgsFunction: a.completePool,
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			return a.withStore(c.Context(), false, func(db store.Store) error {
				if a.yes {
					return pool.Delete(c.Context(), db, args[0], nil)
				}
				p, err := pool.Open(c.Context(), db, args[0], nil)
				if err == nil {
					err = a.printPool(c.Context(), p)
				}
				if err != nil && !errors.Is(err, pool.ErrUnfinished) {
					return err
				}
				return errNeedsYes
			})
		},
	}
	a.yesFlag(c)
	return c
}
