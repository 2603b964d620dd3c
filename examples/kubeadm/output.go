package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/addressing"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// print prints rows as a table with the counts of the pools, or as patches.
func (p *program) print(ctx context.Context, s store.Store, output string, rows []addressing.Row) error {
	w := bufio.NewWriter(p.stdout)
	if output == "patch" {
		printPatches(w, rows)
		return w.Flush()
	}
	printRows(w, rows)
	if err := printPools(ctx, w, s); err != nil {
		return err
	}
	return w.Flush()
}

func printRows(w io.Writer, rows []addressing.Row) {
	printTable(w, func(line func(...any)) {
		line("KIND", "NAME", "STATE", "ADDRESSES", "POLICY")
		for _, row := range rows {
			line(row.Kind, row.FullName(), row.State, addressText(row), policyText(row))
		}
	})
}

// addressText is what an object has, or why it has nothing.
func addressText(row addressing.Row) string {
	switch {
	case len(row.Prefixes) > 0:
		return join(row.Prefixes)
	case row.Headless:
		return "None"
	}
	return "-"
}

// policyText is the policy of a Service, with its families.
func policyText(row addressing.Row) string {
	if len(row.Families) == 0 {
		return "-"
	}
	return string(cmp.Or(row.Policy, pool.SingleStack)) + " " + joinFamilies(row.Families)
}

// join is prefixes with commas in between; those of one address are written as addresses.
func join(prefixes []netip.Prefix) string {
	texts := make([]string, len(prefixes))
	for i, p := range prefixes {
		texts[i] = prefixText(p)
	}
	return strings.Join(texts, ",")
}

func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func joinFamilies(families []pool.Family) string {
	texts := make([]string, len(families))
	for i, f := range families {
		texts[i] = f.String()
	}
	return strings.Join(texts, ",")
}

// printPools prints how much of each pool is in use.
func printPools(ctx context.Context, w io.Writer, s store.Store) error {
	var lines [][]any
	infos, err := sortedPools(ctx, s)
	if err != nil {
		return err
	}
	for _, info := range infos {
		p, err := pool.Open(ctx, s, info.Name, nil)
		if err != nil {
			return err
		}
		for _, family := range info.Spec.AllFamilies() {
			line, err := poolLine(ctx, p, info, family)
			if err != nil {
				return err
			}
			lines = append(lines, line)
		}
	}
	fmt.Fprintln(w)
	printTable(w, func(line func(...any)) {
		line("POOL", "FAMILY", "SUBNETS", "EACH", "USED", "FREE", "STATIC BAND")
		for _, cells := range lines {
			line(cells...)
		}
	})
	return nil
}

// sortedPools are the pools in a store by name.
func sortedPools(ctx context.Context, s store.Store) ([]pool.Info, error) {
	var infos []pool.Info
	for info, err := range pool.List(ctx, s) {
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b pool.Info) int { return cmp.Compare(a.Name, b.Name) })
	return infos, nil
}

// poolLine is one family of a pool, counted in what it hands out.
func poolLine(ctx context.Context, p *pool.Pool, info pool.Info, family pool.Family) ([]any, error) {
	bits := info.Spec.Bits(family)
	free, err := p.CountFree(ctx, family, bits)
	if err != nil {
		return nil, err
	}
	used, _ := info.StatsOf(family).Used.Add(info.StatsOf(family).OutOfRange).Div(cidr.Pow2(family.Width() - bits))
	static := "-"
	for _, band := range info.Spec.Bands {
		static = cmp.Or(rangeText(band.Ranges, family), "-")
	}
	return []any{info.Name, family, subnetText(info.Spec, family), fmt.Sprintf("/%d", bits), used, free, static}, nil
}

// printStore prints what is kept.
func (p *program) printStore(ctx context.Context, s store.Store) error {
	w := bufio.NewWriter(p.stdout)
	var lines [][]any
	infos, err := sortedPools(ctx, s)
	if err != nil {
		return err
	}
	for _, info := range infos {
		of, err := pool.Open(ctx, s, info.Name, nil)
		if err != nil {
			return err
		}
		for a, err := range of.Allocations(ctx) {
			if err != nil {
				return err
			}
			lines = append(lines, []any{info.Name, a.Owner, join(a.Prefixes), a.Created.Format("2006-01-02T15:04:05Z")})
		}
	}
	slices.SortFunc(lines, func(a, b []any) int {
		return cmp.Or(cmp.Compare(a[0].(string), b[0].(string)), cmp.Compare(a[1].(string), b[1].(string)))
	})
	printTable(w, func(line func(...any)) {
		line("POOL", "OWNER", "ADDRESSES", "SINCE")
		for _, cells := range lines {
			line(cells...)
		}
	})
	if err := printPools(ctx, w, s); err != nil {
		return err
	}
	return w.Flush()
}

// printTable prints the lines that fill adds, in columns.
func printTable(w io.Writer, fill func(line func(cells ...any))) {
	columns := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fill(func(cells ...any) {
		for i, cell := range cells {
			if i > 0 {
				fmt.Fprint(columns, "\t")
			}
			fmt.Fprint(columns, cell)
		}
		fmt.Fprintln(columns)
	})
	_ = columns.Flush() // the writer below keeps its error
}
