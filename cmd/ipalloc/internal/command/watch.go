package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/pool"
)

// change is pool.Change as the command prints it.
type change struct {
	Pool     string       `json:"pool"`
	Revision int64        `json:"revision"`
	Freed    []string     `json:"freed"`
	Taken    []string     `json:"taken"`
	Stats    []pool.Stats `json:"stats"`
}

func (a *app) watch() *cobra.Command {
	var since int64
	var count int
	c := &cobra.Command{
		Use: "watch POOL", Short: "Print what becomes free or taken, as it happens", Args: arguments(1, 1),
		Long: `Print what becomes free or taken in a pool, as it happens, until interrupted.
Changes close together are one. Of what happened before, only what is free now is
known: --since 0 begins with that. With -o json each change is one line.`,
		Example:           "  ipalloc watch pods\n  ipalloc watch pods -o json --since 0 --count 1",
		ValidArgsFunction: a.completePool,
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			return a.withPool(c.Context(), args[0], func(p *pool.Pool) error { return a.watchPool(c, p, since, count) })
		},
	}
	c.Flags().Int64Var(&since, "since", -1, "revision of the pool after which to begin; -1 means now")
	c.Flags().IntVar(&count, "count", 0, "end after so many changes; 0 means never")
	return c
}

func (a *app) watchPool(c *cobra.Command, p *pool.Pool, since int64, count int) error {
	if since < 0 {
		info, err := p.Info(c.Context())
		if err != nil {
			return err
		}
		since = info.Revision
	}
	seen := 0
	for found, err := range p.Watch(c.Context(), since) {
		if c.Context().Err() != nil {
			return nil // interrupted, which is how it ends
		}
		if err != nil {
			return err
		}
		if err := a.printChange(p.Name(), found, seen == 0); err != nil {
			return err
		}
		if seen++; seen == count {
			return nil
		}
	}
	return nil
}

func (a *app) printChange(name string, found pool.Change, first bool) error {
	switch a.output {
	case formatJSON, formatYAML:
		value := change{name, found.Revision, rangeTexts(found.Freed), rangeTexts(found.Taken), found.Stats}
		if a.output == formatJSON {
			return json.NewEncoder(a.stdout).Encode(value)
		}
		if _, err := io.WriteString(a.stdout, "---\n"); err != nil {
			return err
		}
		return printYAML(a.stdout, value)
	case formatCSV:
		t := changeTable(found)
		if !first {
			t.columns = nil
		}
		return printCSV(a.stdout, t)
	}
	for _, row := range changeTable(found).rows {
		if _, err := fmt.Fprintf(a.stdout, "%10s  %-5s  %s\n", row[0], row[1], row[2]); err != nil {
			return err
		}
	}
	return nil
}

// changeTable has a row for what became free, and one for what was taken.
func changeTable(found pool.Change) table {
	t := table{columns: []string{"revision", "change", "addresses"}}
	revision := strconv.FormatInt(found.Revision, 10)
	if len(found.Freed) > 0 {
		t.add(revision, "freed", strings.Join(rangeTexts(found.Freed), " "))
	}
	if len(found.Taken) > 0 {
		t.add(revision, "taken", strings.Join(rangeTexts(found.Taken), " "))
	}
	return t
}
