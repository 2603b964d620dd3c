// Command hotpath guards what the library's hot paths cost. It runs the benchmarks of the allocator and of the pool in
// memory beside a bare bitmap, in one process, and fails if a ratio between two of them is more than twice its target, or if an
// operation allocates on the heap more or less than it should.
//
// Ratios within one process stay the same on a slow or a busy machine, where times do not; and each case is run
// several times in turn with the others, of which the fastest counts.
//
//	go run ./internal/hotpath [-rounds N] [-benchtime D] [-run TEXT]
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/ipalloc/ipalloc/internal/bench"
)

// tolerance is by how much a target may be missed before that is an error.
const tolerance = 2

func main() {
	testing.Init()
	rounds := flag.Int("rounds", 5, "how often each case is run; the fastest counts")
	benchtime := flag.String("benchtime", "50ms", "how long each run of a case takes")
	only := flag.String("run", "", "run only the cases whose name contains this, and those that they are compared with")
	flag.Parse()
	if err := flag.Set("test.benchtime", *benchtime); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	cases := choose(append(bench.AllocatorCases(), bench.PoolCases()...), *only)
	results := measure(cases, *rounds)
	if !report(cases, results) {
		os.Exit(1)
	}
}

// choose returns the cases whose name contains text, and what they are compared with.
func choose(cases []bench.Case, text string) []bench.Case {
	wanted := make(map[string]bool)
	for _, c := range cases {
		if strings.Contains(c.Name, text) {
			wanted[c.Name] = true
			for _, target := range c.Targets {
				wanted[target.Of] = true
			}
		}
	}
	var chosen []bench.Case
	for _, c := range cases {
		if wanted[c.Name] {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

// result is the fastest run of a case.
type result struct {
	nanoseconds float64
	allocs      int64
}

func measure(cases []bench.Case, rounds int) map[string]result {
	results := make(map[string]result)
	for range rounds {
		for _, c := range cases {
			r := testing.Benchmark(c.Run)
			now := result{float64(r.T.Nanoseconds()) / float64(max(r.N, 1)), r.AllocsPerOp()}
			if r.N == 0 {
				fmt.Fprintf(os.Stderr, "hotpath: %s did not run\n", c.Name)
				os.Exit(1)
			}
			if old, ok := results[c.Name]; !ok || now.nanoseconds < old.nanoseconds {
				results[c.Name] = now
			}
		}
	}
	return results
}

// report prints a table and tells whether all is within its bounds.
func report(cases []bench.Case, results map[string]result) bool {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "case\tns/op\tallocs/op\tratio\ttarget\tof\t")
	failed := 0
	for _, c := range cases {
		r := results[c.Name]
		verdict := ""
		if c.Allocs >= 0 && r.allocs != c.Allocs {
			verdict = fmt.Sprintf("FAIL: want %d allocs/op", c.Allocs)
			failed++
		}
		fmt.Fprintf(table, "%s\t%.1f\t%d\t\t\t\t%s\n", c.Name, r.nanoseconds, r.allocs, verdict)
		for _, target := range c.Targets {
			ratio := r.nanoseconds / results[target.Of].nanoseconds
			verdict := ""
			switch {
			case ratio > tolerance*target.Ratio:
				verdict = "FAIL: over twice the target"
				failed++
			case ratio > target.Ratio*1.1:
				verdict = "over the target"
			}
			fmt.Fprintf(table, "\t\t\t%.2f\t%.1f\t%s\t%s\n", ratio, target.Ratio, target.Of, verdict)
		}
	}
	_ = table.Flush()
	if failed > 0 {
		fmt.Printf("hotpath: %d checks failed\n", failed)
	}
	return failed == 0
}
