package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ipalloc/ipalloc/pool"
)

// report is a table of what the pool's owners hold, by owner, and one of its counts. Cost:
// O(allocations), all in memory.
func report(ctx context.Context, p *pool.Pool) (string, error) {
	var allocations []pool.Allocation
	for a, err := range p.Allocations(ctx) {
		if err != nil {
			return "", err
		}
		allocations = append(allocations, a)
	}
	slices.SortFunc(allocations, func(a, b pool.Allocation) int { return cmp.Compare(a.Owner, b.Owner) })
	info, err := p.Info(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Pool %s\n\n%s\n%s", p.Name(), allocationTable(allocations), statsTable(info.Stats)), nil
}

func allocationTable(allocations []pool.Allocation) string {
	return table(func(row func(...any)) {
		row("OWNER", "ADDRESSES", "SINCE")
		for _, a := range allocations {
			row(ownerText(a.Owner), addressText(a), a.Created.Format(time.RFC3339))
		}
	})
}

func statsTable(stats []pool.Stats) string {
	return table(func(row func(...any)) {
		row("FAMILY", "TOTAL", "USED", "FREE", "RESERVED")
		for _, s := range stats {
			row(s.Family, s.Total, s.Used, s.Free, s.Reserved)
		}
	})
}

// table is the rows that fill adds, in columns.
func table(fill func(row func(cells ...any))) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	fill(func(cells ...any) {
		for i, cell := range cells {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	})
	_ = w.Flush() // a strings.Builder takes everything
	return text.String()
}

// ownerText is the owner, quoted if it would not read as one word.
func ownerText(owner string) string {
	if quoted := strconv.Quote(owner); quoted != `"`+owner+`"` || strings.Contains(owner, " ") {
		return quoted
	}
	return owner
}

func addressText(a pool.Allocation) string {
	var texts []string
	for _, addr := range a.Addrs() {
		texts = append(texts, addr.String())
	}
	return strings.Join(texts, ", ")
}
