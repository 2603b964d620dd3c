package command

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/pool"
)

// tenure is what an owner holds or has held, as the command prints it.
type tenure struct {
	Pool       string            `json:"pool"`
	Owner      string            `json:"owner"`
	Prefixes   []netip.Prefix    `json:"prefixes"`
	Beside     []netip.Prefix    `json:"beside,omitempty"`
	Generation int64             `json:"generation"`
	From       time.Time         `json:"from"`
	To         time.Time         `json:"to,omitzero"`
	End        pool.End          `json:"end,omitempty"`
	Scope      string            `json:"scope,omitempty"`
	Share      string            `json:"share,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// historyFlags say what is asked of a history.
type historyFlags struct {
	owner, addr, at, from, until string
	labels                       []string
}

func (f *historyFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.owner, "owner", "", "only what this owner had")
	c.Flags().StringVar(&f.addr, "addr", "", "only who had this address")
	labelFlag(c, &f.labels, "only with this label, NAME=VALUE; may be repeated")
	c.Flags().StringVar(&f.at, "at", "", "only what was held at this time, such as 2026-05-06T07:08:09Z")
	c.Flags().StringVar(&f.from, "from", "", "only what had not ended by this time")
	c.Flags().StringVar(&f.until, "until", "", "only what had begun by this time")
}

func (f *historyFlags) query() (q pool.HistoryQuery, err error) {
	q.Owner = f.owner
	if f.at != "" && (f.from != "" || f.until != "") {
		return q, usagef("--at goes with neither --from nor --until")
	}
	if f.addr != "" {
		if q.Addr, err = parseAddr(f.addr); err != nil {
			return q, err
		}
	}
	if q.Labels, err = parseLabels(f.labels); err != nil {
		return q, err
	}
	for _, flag := range []struct {
		name, text string
		times      []*time.Time
	}{
		{"at", f.at, []*time.Time{&q.From, &q.Until}}, {"from", f.from, []*time.Time{&q.From}},
		{"until", f.until, []*time.Time{&q.Until}},
	} {
		if flag.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, flag.text)
		if err != nil {
			return q, usagef("the flag --%s is %q, want a time of RFC 3339, such as 2026-05-06T07:08:09Z", flag.name, flag.text)
		}
		for _, to := range flag.times {
			*to = at
		}
	}
	return q, nil
}

func (a *app) history() *cobra.Command {
	var flags historyFlags
	c := &cobra.Command{
		Use: "history POOL", Short: "List who had which address, and when", Args: arguments(1, 1),
		Long: `List what owners hold and have held in a pool whose spec asks for a history, the
oldest first. The end is released, lapsed (of a lease), declined or renumbered; it is
empty for what is still held.`,
		Example: "  ipalloc history pods --addr 192.0.2.7 --at 2026-05-06T07:08:09Z\n" +
			"  ipalloc history pods --owner vm-7 -o csv",
		ValidArgsFunction: a.completePool,
		RunE: func(c *cobra.Command, args []string) error {
			err := a.checkFormat()
			var query pool.HistoryQuery
			if err == nil {
				query, err = flags.query()
			}
			if err != nil {
				return err
			}
			return a.withPool(c.Context(), args[0], func(p *pool.Pool) error {
				return a.printHistory(c.Context(), p, query)
			})
		},
	}
	flags.add(c)
	return c
}

func (a *app) printHistory(ctx context.Context, p *pool.Pool, query pool.HistoryQuery) error {
	switch info, err := p.Info(ctx); {
	case err != nil:
		return err
	case info.Spec.History == 0 && info.History == 0:
		return fmt.Errorf("%w: the spec of pool %q asks for no history", pool.ErrNotFound, p.Name())
	}
	all, shares := []tenure{}, []string(nil)
	rows := table{columns: []string{"pool", "owner", "prefixes", "from", "to", "end", "scope", "labels"}}
	for t, err := range p.History(ctx, query) {
		if err != nil {
			return err
		}
		all = append(all, tenure{
			Pool: p.Name(), Owner: t.Owner, Prefixes: t.Prefixes, Beside: t.Beside, Generation: t.Generation,
			From: t.Created, To: t.To, End: t.End, Scope: t.Scope, Share: t.Share, Labels: t.Labels,
		})
		rows.add(p.Name(), t.Owner, heldText(t.Prefixes, t.Beside), timeText(t.Created), timeText(t.To), string(t.End),
			t.Scope, labelText(t.Labels))
		shares = append(shares, t.Share)
	}
	rows.addShares(shares)
	return a.print(all, rows)
}
