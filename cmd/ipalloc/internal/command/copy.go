package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// copied is a pool that was copied.
type copied struct {
	Pool        string `json:"pool"`
	Allocations int    `json:"allocations"`
}

func (a *app) copy() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use: "copy [POOL...]", Short: "Copy pools to another store", Args: arguments(0, -1),
		Long: `Copy pools, or all pools of the store, to another store, which is created if it is
not there. Each pool is copied as of one moment, as export and import do, parents
before the pools that were delegated from them; so are the external addresses of
their networks. None of the pools must exist there: that is checked before
anything is written. Stop the programs that use the pools first; what they change
later is not copied.`,
		Example:           "  ipalloc copy --to sqlite:addresses.sqlite",
		ValidArgsFunction: a.completePools,
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			if to == "" || to == a.store {
				return usagef("the flag --to is missing or names the same store, want the URL of another one")
			}
			return a.withStore(c.Context(), false, func(from store.Store) error {
				infos, err := poolsToCopy(c.Context(), from, args)
				if err != nil {
					return err
				}
				return a.withStoreAt(c.Context(), to, true, func(db store.Store) error {
					return a.copyPools(c.Context(), from, db, infos)
				})
			})
		},
	}
	c.Flags().StringVar(&to, "to", "", "URL of the store to copy to")
	return c
}

// poolsToCopy returns the named pools, or all, parents before their children.
func poolsToCopy(ctx context.Context, from store.Store, names []string) ([]pool.Info, error) {
	all, err := listPools(ctx, from)
	if err != nil {
		return nil, err
	}
	parents := map[string]string{}
	for _, i := range all {
		parents[i.Name] = i.Parent
	}
	for _, name := range names {
		if _, ok := parents[name]; !ok {
			return nil, fmt.Errorf("%w: %q", pool.ErrNoPool, name)
		}
	}
	depth := func(i pool.Info) (n int) {
		for name := i.Parent; name != "" && n <= len(all); name = parents[name] {
			n++
		}
		return n
	}
	chosen := slices.DeleteFunc(all, func(i pool.Info) bool {
		return len(names) > 0 && !slices.Contains(names, i.Name)
	})
	slices.SortStableFunc(chosen, func(i, j pool.Info) int { return depth(i) - depth(j) })
	return chosen, nil
}

func (a *app) copyPools(ctx context.Context, from, to store.Store, infos []pool.Info) error {
	if err := checkAbsent(ctx, to, infos); err != nil {
		return err
	}
	if err := copyExternal(ctx, from, to, infos); err != nil {
		return err
	}
	progress := a.newProgress(infos)
	done := []copied{}
	t := table{columns: []string{"pool", "allocations"}}
	for _, i := range infos {
		n, err := copyPool(ctx, from, to, i.Name)
		if err != nil {
			progress.end()
			return fmt.Errorf("%d of %d pools were copied: %w", len(done), len(infos), err)
		}
		progress.add(i)
		done = append(done, copied{i.Name, n})
		t.add(i.Name, strconv.Itoa(n))
	}
	progress.end()
	return a.print(done, t)
}

// checkAbsent returns an error if one of the pools exists. What an import has left that did not finish is no pool.
func checkAbsent(ctx context.Context, to store.Store, infos []pool.Info) error {
	for _, i := range infos {
		switch _, err := pool.Open(ctx, to, i.Name, nil); {
		case err == nil:
			return fmt.Errorf("%w in the other store: %q; nothing was changed", pool.ErrExists, i.Name)
		case !errors.Is(err, pool.ErrNoPool) && !errors.Is(err, pool.ErrUnfinished):
			return err
		}
	}
	return nil
}

func copyPool(ctx context.Context, from, to store.Store, name string) (allocations int, err error) {
	p, err := pool.Open(ctx, from, name, nil)
	if err != nil {
		return 0, err
	}
	snapshot, err := p.Snapshot(ctx)
	if err != nil {
		return 0, err
	}
	_, err = pool.Import(ctx, to, name, snapshot, nil)
	return len(snapshot.Allocations), err
}

// copyExternal declares what is external in the networks of the pools. In the other store, such a network must have no
// external addresses yet, or the same.
func copyExternal(ctx context.Context, from, to store.Store, infos []pool.Info) error {
	there, err := externals(ctx, to)
	if err != nil {
		return err
	}
	here, err := externals(ctx, from)
	if err != nil {
		return err
	}
	for _, i := range infos {
		name := i.Spec.Network
		if len(here[name]) == 0 || slices.Equal(here[name], there[name]) {
			continue
		}
		if len(there[name]) > 0 {
			return fmt.Errorf("%w: the network %q of the other store has the external addresses %v, here they are %v",
				pool.ErrOverlap, name, rangeTexts(there[name]), rangeTexts(here[name]))
		}
		if err := pool.SetExternal(ctx, to, name, here[name], false, nil); err != nil {
			return err
		}
		there[name] = here[name]
	}
	return nil
}

// externals returns the external addresses of each network.
func externals(ctx context.Context, db store.Store) (map[string][]netipx.IPRange, error) {
	all := map[string][]netipx.IPRange{}
	for n, err := range pool.Networks(ctx, db) {
		if err != nil {
			return nil, err
		}
		all[n.Name] = n.External
	}
	return all, nil
}

// progress tells on a terminal how far a copy is, and nothing elsewhere.
type progress struct {
	app         *app
	shown       bool
	began       time.Time
	done, total int // pools and what their owners hold
}

func (a *app) newProgress(infos []pool.Info) *progress {
	_, shown := isTerminal(a.stderr)
	p := &progress{app: a, shown: shown, began: a.now()}
	for _, i := range infos {
		p.total += work(i)
	}
	return p
}

func work(i pool.Info) int { return 1 + i.Holders }

// add tells that a pool is done.
func (p *progress) add(i pool.Info) {
	p.done += work(i)
	if !p.shown {
		return
	}
	left := float64(p.app.now().Sub(p.began)) * float64(p.total-p.done) / float64(p.done)
	fmt.Fprintf(p.app.stderr, "\rcopied %d %%, about %v left, pool %q\x1b[K", 100*p.done/p.total,
		time.Duration(left).Round(time.Second), i.Name)
}

// end removes the line.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.app.stderr, "\r\x1b[K")
	}
}
