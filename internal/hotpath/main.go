// Command hotpath guards what the library's hot paths cost. It runs the benchmarks of the allocator and of the pool in
// memory beside a bare bitmap, in one process, and fails if a ratio between two of them is more than twice its target,
// or if an operation allocates on the heap more or less than it should.
//
// Ratios within one process stay the same on a slow or a busy machine, where times do not. Each case runs several
// times, in turn with the others, and its fastest run counts.
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

const (
	// tolerance is by how much a target may be missed before that is an error.
	tolerance = 2
	// attempts is how often all is measured, rounds times, before something counts as an error: another program may have
	// been busy just while one case ran, but hardly each time.
	attempts = 8
)

func main() {
	testing.Init()
	rounds := flag.Int("rounds", 8, "how often each case is run before the results are looked at; the fastest counts")
	benchtime := flag.String("benchtime", "10ms", "how long each run of a case takes")
	only := flag.String("run", "", "run only the cases whose name contains this, and those that they are compared with")
	flag.Parse()
	if err := flag.Set("test.benchtime", *benchtime); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	cases := choose(append(bench.AllocatorCases(), bench.PoolCases()...), *only)
	results := make(map[string]result)
	for range attempts {
		measure(cases, *rounds, results)
		if len(failures(cases, results)) == 0 {
			break
		}
	}
	report(cases, results)
	if failed := failures(cases, results); len(failed) > 0 {
		for _, text := range failed {
			fmt.Fprintln(os.Stderr, "hotpath:", text)
		}
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

// measure runs the cases in turn, and keeps the fastest run of each in results.
func measure(cases []bench.Case, rounds int, results map[string]result) {
	for range rounds {
		for _, c := range cases {
			r := testing.Benchmark(c.Run)
			if r.N == 0 {
				fmt.Fprintf(os.Stderr, "hotpath: %s did not run\n", c.Name)
				os.Exit(1)
			}
			now := result{float64(r.T.Nanoseconds()) / float64(r.N), r.AllocsPerOp()}
			if old, ok := results[c.Name]; !ok || now.nanoseconds < old.nanoseconds {
				results[c.Name] = now
			}
		}
	}
}

// failures says what is out of bounds, a line each.
func failures(cases []bench.Case, results map[string]result) []string {
	var failed []string
	for _, c := range cases {
		r := results[c.Name]
		if c.Allocs >= 0 && r.allocs != c.Allocs {
			failed = append(failed, fmt.Sprintf("%s: %d heap allocations, want %d", c.Name, r.allocs, c.Allocs))
		}
		for _, target := range c.Targets {
			if ratio := r.nanoseconds / results[target.Of].nanoseconds; ratio > tolerance*target.Ratio {
				failed = append(failed, fmt.Sprintf("%s: %.2f times %s, over twice its target of %v",
					c.Name, ratio, target.Of, target.Ratio))
			}
		}
	}
	return failed
}

// report prints a table.
func report(cases []bench.Case, results map[string]result) {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "case\tns/op\tallocs/op\tratio\ttarget\tof")
	for _, c := range cases {
		r := results[c.Name]
		fmt.Fprintf(table, "%s\t%.1f\t%d\t\t\t\n", c.Name, r.nanoseconds, r.allocs)
		for _, target := range c.Targets {
			fmt.Fprintf(table, "\t\t\t%.2f\t%v\t%s\n", r.nanoseconds/results[target.Of].nanoseconds, target.Ratio, target.Of)
		}
	}
	_ = table.Flush()
}
