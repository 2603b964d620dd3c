package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/measure"
)

// column is a column of the table.
type column struct {
	heading string
	cell    func(r row) string
}

// none is in a cell that means nothing in its row.
const none = "–"

// columns are those of a run by the plan.
func columns(p plan) []column {
	all := []column{
		{"store", func(r row) string { return r.Store }},
		{"as", func(r row) string { return r.As }},
		{"writers", func(r row) string { return r.writers().String() }},
		{"claims/s", func(r row) string { return rate(r.PerSecond) }},
		{"p50", func(r row) string { return timeText(r.P50) }},
		{"p99", func(r row) string { return timeText(r.P99) }},
		{"longest", func(r row) string { return timeText(r.Longest) }},
		{"p99/p50", func(r row) string { return fmt.Sprintf("%.1f", r.P99OfP50) }},
		{"longest/p50", func(r row) string { return fmt.Sprintf("%.1f", r.LongestOfP50) }},
		{"ErrBusy", ofPools(func(r row) string { return fmt.Sprint(r.Busy) })},
		{"errors", ofPools(func(r row) string { return fmt.Sprint(r.failures()) })},
		{"commits/s", func(r row) string { return rate(float64(r.Commits) / r.Seconds) }},
		{"conflicts a commit", ofPools(func(r row) string { return fmt.Sprintf("%.2f", r.ConflictsEach) })},
		{"slowest", ofHandles(func(r row) string { return rate(r.Slowest) })},
		{"fastest", ofHandles(func(r row) string { return rate(r.Fastest) })},
		{"slowest/mean", ofHandles(func(r row) string { return fmt.Sprintf("%.2f", r.SlowestOfMean) })},
	}
	if p.wait {
		all = append(all,
			column{"possible", ofPools(func(r row) string { return rate(r.Possible) })},
			column{"overtaken", ofPools(func(r row) string { return fmt.Sprint(r.Overtaken) })})
	} else {
		all = append(all, column{"of one handle", func(r row) string {
			if r.OfOneHandle == 0 {
				return none
			}
			return fmt.Sprintf("%.2f", r.OfOneHandle)
		}})
	}
	if p.kill+p.stop > 0 {
		all = append(all,
			column{"killed", ofPools(func(r row) string { return fmt.Sprint(r.Killed) })},
			column{"stopped", ofPools(func(r row) string { return fmt.Sprint(r.Stopped) })},
			column{"longest while another was down", ofPools(func(r row) string { return timeText(r.LongestBeside) })})
	}
	return append(all, column{"missed", row.missed})
}

// ofPools leaves bare rows out.
func ofPools(cell func(row) string) func(row) string {
	return func(r row) string {
		if r.As == bare {
			return none
		}
		return cell(r)
	}
}

// ofHandles leaves rows with one handle out.
func ofHandles(cell func(row) string) func(row) string {
	return func(r row) string {
		if r.Handles == 1 {
			return none
		}
		return cell(r)
	}
}

func rate(perSecond float64) string { return fmt.Sprintf("%.0f", perSecond) }

func timeText(d time.Duration) string {
	if d == 0 {
		return none
	}
	return measure.FormatTime(float64(d))
}

// failures is how many calls failed with another error than ErrBusy.
func (r row) failures() (n int) {
	for _, count := range r.Errors {
		n += count
	}
	return n
}

// writeTable writes the rows as a Markdown table, with what must be said of it, and the texts of the errors.
func writeTable(out io.Writer, p plan, rows []row) error {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	columns := columns(p)
	line := func(cell func(c column) string) {
		for _, c := range columns {
			fmt.Fprintf(w, "| %s\t", cell(c))
		}
		fmt.Fprintln(w, "|")
	}
	line(func(c column) string { return c.heading })
	line(func(column) string { return "---" })
	for _, r := range rows {
		line(func(c column) string { return c.cell(r) })
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		for _, text := range slices.Sorted(maps.Keys(r.Errors)) {
			fmt.Fprintf(out, "\n%s %s %v: %d times: %s", r.Store, r.As, r.writers(), r.Errors[text], text)
		}
	}
	_, err := fmt.Fprintf(out, "\n%s\n", strings.Join(notes(p), "\n"))
	return err
}

// notes say how the table is to be read.
func notes(p plan) []string {
	all := []string{
		"p50, p99 and longest are of the calls that allocate, those that failed included. Writers are handles x goroutines.",
		"A bare row is one client that swaps one record again and again: its claims and commits are swaps.",
		"slowest and fastest are what these handles were granted in a second.",
	}
	if p.kill+p.stop > 0 {
		all = append(all, "A call is left out of p50, p99 and longest if its own handle was killed or stopped meanwhile. "+
			"The rate of such a handle is that of the time in which it was up.")
	}
	if p.wait {
		all = append(all, fmt.Sprintf("%d addresses are held for %v each. overtaken are the calls that another one of "+
			"their handle has overtaken by %v.", p.addresses, p.held, orderSlack))
	}
	return all
}
