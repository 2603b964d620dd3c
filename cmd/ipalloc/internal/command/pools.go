package command

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// poolInfo is a pool as the commands print it.
type poolInfo struct {
	Name         string            `json:"name"`
	Created      time.Time         `json:"created"`
	Revision     int64             `json:"revision"`
	Network      string            `json:"network,omitempty"`
	Parent       string            `json:"parent,omitempty"`
	Grants       []pool.Grant      `json:"grants,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Cordoned     bool              `json:"cordoned,omitempty"`
	Holders      int               `json:"holders"`
	Reservations int               `json:"reservations,omitempty"`
	Stats        []pool.Stats      `json:"stats"`
	Quotas       []quotaUse        `json:"quotas,omitempty"`
	Withheld     []string          `json:"withheld,omitempty"`
	Renumbering  pool.Renumbering  `json:"renumbering,omitzero"`
	Spec         *pool.Spec        `json:"spec,omitempty"`
}

// quotaUse is pool.QuotaUse with the names of its members.
type quotaUse struct {
	Label  string      `json:"label,omitempty"`
	Value  string      `json:"value"`
	Family pool.Family `json:"family"`
	Held   cidr.Count  `json:"held"`
	Most   cidr.Count  `json:"most"`
}

// poolInfoOf leaves out the spec, which may be large.
func poolInfoOf(i pool.Info) poolInfo {
	p := poolInfo{
		Name: i.Name, Created: i.Created, Revision: i.Revision, Network: i.Spec.Network, Parent: i.Parent,
		Grants: i.Grants, Labels: i.Spec.Labels, Cordoned: i.Spec.Cordoned, Holders: i.Holders,
		Reservations: i.Reservations, Stats: i.Stats, Withheld: rangeTexts(i.Withheld),
		Renumbering: i.Renumbering,
	}
	for _, q := range i.Quotas {
		p.Quotas = append(p.Quotas, quotaUse(q))
	}
	return p
}

// statsTable is one row for each family of each pool.
func statsTable(infos []poolInfo) table {
	t := table{columns: []string{
		"pool", "family", "total", "used", "free", "reserved", "cooling", "kept", "out-of-range", "network", "parent",
		"labels", "cordoned",
	}}
	for _, p := range infos {
		for _, s := range p.Stats {
			t.add(p.Name, s.Family.String(), s.Total.String(), s.Used.String(), s.Free.String(), s.Reserved.String(),
				s.Cooling.String(), s.Kept.String(), s.OutOfRange.String(), p.Network, p.Parent, labelText(p.Labels),
				strconv.FormatBool(p.Cordoned))
		}
	}
	return t
}

func (a *app) pools() *cobra.Command {
	return &cobra.Command{
		Use: "pools", Short: "List the pools and their counts", Args: arguments(0, 0),
		Long: `List the pools of the store, with the counts of addresses of each family. A pool
whose import did not finish is not listed.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			return a.withStore(c.Context(), false, func(db store.Store) error {
				infos, err := listPools(c.Context(), db)
				if err != nil {
					return err
				}
				all := make([]poolInfo, 0, len(infos))
				for _, i := range infos {
					all = append(all, poolInfoOf(i))
				}
				return a.print(all, statsTable(all))
			})
		},
	}
}

// listPools returns all pools, in the store's order.
func listPools(ctx context.Context, db store.Store) ([]pool.Info, error) {
	var infos []pool.Info
	for i, err := range pool.List(ctx, db) {
		if err != nil {
			return nil, err
		}
		infos = append(infos, i)
	}
	return infos, nil
}
