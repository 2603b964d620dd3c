package command

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// report is pool.Report as the commands print it.
type report struct {
	Pool        string    `json:"pool"`
	OK          bool      `json:"ok"`
	Summary     string    `json:"summary"`
	Allocations int       `json:"allocations"`
	Leaked      []string  `json:"leaked,omitempty"`
	Unguarded   []string  `json:"unguarded,omitempty"`
	Shared      []holding `json:"shared,omitempty"`
	OutOfRange  []holding `json:"outOfRange,omitempty"`
	Miscounted  []string  `json:"miscounted,omitempty"`
	Misshared   []string  `json:"misshared,omitempty"`
	Damaged     []string  `json:"damaged,omitempty"`
	Unreadable  string    `json:"unreadable,omitempty"`
}

func reportOf(name string, r pool.Report) report {
	out := report{
		Pool: name, OK: r.OK(), Summary: r.String(), Allocations: r.Allocations,
		Leaked: rangeTexts(r.Leaked), Unguarded: rangeTexts(r.Unguarded), Shared: holdingsOf(name, r.Shared),
		OutOfRange: holdingsOf(name, r.OutOfRange), Miscounted: r.Miscounted, Misshared: r.Misshared,
	}
	for _, err := range r.Damaged {
		out.Damaged = append(out.Damaged, err.Error())
	}
	if r.Unreadable != nil {
		out.Unreadable = r.Unreadable.Error()
	}
	return out
}

func reportTable(reports []report) table {
	t := table{columns: []string{"pool", "ok", "allocations", "out-of-range", "found"}}
	for _, r := range reports {
		t.add(r.Pool, strconv.FormatBool(r.OK), strconv.Itoa(r.Allocations), strconv.Itoa(len(r.OutOfRange)), r.Summary)
	}
	return t
}

func (a *app) verify() *cobra.Command {
	return &cobra.Command{
		Use: "verify [POOL...]", Short: "Check that pools agree with what owners hold", Args: arguments(0, -1),
		Long: `Check pools, or all pools of the store: whether the addresses that are taken are
those that owners hold. It changes nothing. If anything is wrong, the exit code is
5; -o json names every address.`,
		Example:           "  ipalloc verify\n  ipalloc verify pods -o json",
		ValidArgsFunction: a.completePools,
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			return a.withStore(c.Context(), false, func(db store.Store) error {
				reports, err := verifyPools(c.Context(), db, args)
				if err != nil {
					return err
				}
				if err := a.print(reports, reportTable(reports)); err != nil {
					return err
				}
				return wrongIn(reports)
			})
		},
	}
}

// verifyPools verifies the named pools, or all.
func verifyPools(ctx context.Context, db store.Store, names []string) ([]report, error) {
	if len(names) == 0 {
		for head, err := range db.List(ctx, store.KindPool, "") { // which lists the damaged ones too
			if err != nil {
				return nil, err
			}
			names = append(names, head.Pool)
		}
	}
	reports := []report{}
	for _, name := range names {
		r, err := verifyPool(ctx, db, name)
		if err != nil {
			return nil, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// verifyPool reports also a pool that cannot be opened, because it is damaged or because its import did not finish.
func verifyPool(ctx context.Context, db store.Store, name string) (report, error) {
	p, err := pool.Open(ctx, db, name, nil)
	var found pool.Report
	if err == nil {
		found, err = p.Verify(ctx)
	}
	if errors.Is(err, pool.ErrCorrupt) || errors.Is(err, pool.ErrUnfinished) {
		return report{Pool: name, Summary: err.Error()}, nil
	}
	return reportOf(name, found), err
}

// wrongIn returns an error if a report has anything wrong.
func wrongIn(reports []report) error {
	wrong := 0
	for _, r := range reports {
		if !r.OK {
			wrong++
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%w in %d of %d pools; repair shows what it would do", errWrong, wrong, len(reports))
	}
	return nil
}

func (a *app) repair() *cobra.Command {
	c := &cobra.Command{
		Use: "repair POOL", Short: "Make a pool agree with what owners hold", Args: arguments(1, 1),
		Long: `Make the free space of a pool agree with what owners hold, which stays as it is:
leaked addresses become free, and unguarded ones taken. Where several owners hold
an address that they do not share by a key, release all but one of them and repair
again. What is printed was found before the repair. Without --yes, nothing is
changed.`,
		Example:           "  ipalloc repair pods\n  ipalloc repair pods --yes",
		ValidArgsFunction: a.completePool,
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			return a.withPool(c.Context(), args[0], func(p *pool.Pool) error { return a.repairPool(c.Context(), p) })
		},
	}
	a.yesFlag(c)
	return c
}

func (a *app) repairPool(ctx context.Context, p *pool.Pool) error {
	look := p.Verify
	if a.yes {
		look = p.Repair
	}
	found, err := look(ctx)
	if err != nil {
		return err
	}
	r := reportOf(p.Name(), found)
	switch err := a.print(r, reportTable([]report{r})); {
	case err != nil:
		return err
	case r.OK:
		return nil
	case !a.yes:
		return errNeedsYes
	}
	if found, err = p.Verify(ctx); err != nil {
		return err
	}
	if !found.OK() {
		return fmt.Errorf("%w still after the repair: %v", errWrong, found)
	}
	return nil
}
