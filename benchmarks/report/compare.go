package main

import (
	"fmt"
	"io"
	"sort"

	"github.com/ipalloc/ipalloc/benchmarks/measure"
	"github.com/ipalloc/ipalloc/benchmarks/peer"
)

// change is a figure of this library that got worse.
type change struct {
	Row, Subject string
	// Factor is how many times worse the median is.
	Factor float64
	// What is said of it.
	Text string
}

// compare returns what of this library got worse from one run to the next, the worst first.
//
// A figure got worse if its quartiles do not overlap with the earlier ones and its median is at least a tenth worse.
// Then more than three quarters of the rounds are beyond three quarters of the earlier ones, and the change is larger
// than one of memory layout. The earlier figures in memory are first multiplied by how much slower the machine is now,
// as the bare bitmap shows. An operation that allocates on the heap more often than before, by half an allocation or
// more, got worse as well. Rows that are not in both runs are not compared.
func compare(before, now Results) []change {
	machine := machineFactor(before, now)
	old := map[string]Row{}
	for _, row := range before.Rows {
		old[row.Name] = row
	}
	var changes []change
	for _, row := range now.Rows {
		for name, cell := range row.Cells {
			was, ok := old[row.Name].Cells[name]
			if !ok || !isOurs(name) || was.Missing != "" || cell.Missing != "" {
				continue
			}
			factor := 1.0
			if row.Unit == Nanoseconds && row.Group != groupDurable && row.Group != groupBurst {
				factor = machine
			}
			changes = append(changes, compareCell(row, name, was, cell, factor)...)
		}
	}
	sort.Slice(changes, func(i, j int) bool {
		a, b := changes[i], changes[j]
		if a.Factor != b.Factor {
			return a.Factor > b.Factor
		}
		return a.Row+a.Subject < b.Row+b.Subject
	})
	return changes
}

func compareCell(row Row, name string, was, now Cell, machine float64) []change {
	var changes []change
	before, after := was.Scale(machine), now.Spread
	if row.Unit == PairsSecond {
		before, after = inverse(before), inverse(after)
	}
	if measure.Slower(before, after) {
		factor := after.Median / before.Median
		text := fmt.Sprintf("%s, was %s: %.2f times as much",
			format(now.Median, row.Unit), format(was.Median, row.Unit), factor)
		if row.Unit == PairsSecond {
			text = fmt.Sprintf("%s, was %s: %.2f times slower",
				format(now.Median, row.Unit), format(was.Median, row.Unit), factor)
		}
		changes = append(changes, change{row.Name, name, factor, text})
	}
	if was.Allocs >= 0 && now.Allocs >= was.Allocs+0.5 {
		text := fmt.Sprintf("%.1f heap allocations, was %.1f", now.Allocs, was.Allocs)
		changes = append(changes, change{row.Name, name, now.Allocs - was.Allocs, text})
	}
	return changes
}

// inverse turns a rate into a time.
func inverse(s measure.Spread) measure.Spread {
	if s.Low <= 0 {
		return s
	}
	return measure.Spread{Median: 1 / s.Median, Low: 1 / s.High, High: 1 / s.Low, Rounds: s.Rounds}
}

// machineFactor is how many times longer the bare bitmap takes now, in the median of the rows that
// have it; 1 if none has.
func machineFactor(before, now Results) float64 {
	old := map[string]Cell{}
	for _, row := range before.Rows {
		if cell := row.Cells[peer.Floor]; row.Unit == Nanoseconds && cell.Median > 0 {
			old[row.Name] = cell
		}
	}
	var factors []float64
	for _, row := range now.Rows {
		if cell := row.Cells[peer.Floor]; cell.Median > 0 && old[row.Name].Median > 0 {
			factors = append(factors, cell.Median/old[row.Name].Median)
		}
	}
	if len(factors) == 0 {
		return 1
	}
	return measure.SpreadOf(factors).Median
}

// writeChanges says what got worse.
func writeChanges(w io.Writer, before, now Results, changes []change) {
	if before.Machine != now.Machine {
		fmt.Fprintf(w, "the earlier results are of another machine or Go: %+v, now %+v\n", before.Machine, now.Machine)
	}
	fmt.Fprintf(w, "the bare bitmap takes %.2f times as long as in the earlier results\n", machineFactor(before, now))
	if len(changes) == 0 {
		fmt.Fprintln(w, "nothing got slower beyond noise")
	}
	for _, c := range changes {
		fmt.Fprintf(w, "worse: %s, %s: %s\n", c.Row, c.Subject, c.Text)
	}
}
