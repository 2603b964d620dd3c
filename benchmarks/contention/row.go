package main

import (
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/measure"
)

// row is what came of one run. Ratios that mean nothing in a row are 0.
type row struct {
	Store      string  `json:"store"`
	As         string  `json:"as"` // goroutines, processes or bare
	Handles    int     `json:"handles"`
	Goroutines int     `json:"goroutines"` // on each handle
	Seconds    float64 `json:"seconds"`

	Claims    int     `json:"claims"` // that were granted
	PerSecond float64 `json:"claims_per_second"`
	// The waits are those of Allocate or AllocateWait, in nanoseconds.
	P50           time.Duration  `json:"p50"`
	P99           time.Duration  `json:"p99"`
	Longest       time.Duration  `json:"longest"`
	P99OfP50      float64        `json:"p99_of_p50"`
	LongestOfP50  float64        `json:"longest_of_p50"`
	Busy          int            `json:"busy"`
	Errors        map[string]int `json:"errors,omitempty"`
	Commits       int            `json:"commits"`
	Conflicts     int            `json:"conflicts"`
	ConflictsEach float64        `json:"conflicts_per_commit"`
	Slowest       float64        `json:"slowest_per_second"` // what the slowest handle was granted while it was up
	Fastest       float64        `json:"fastest_per_second"`
	SlowestOfMean float64        `json:"slowest_of_mean"`
	OfOneHandle   float64        `json:"of_one_handle"` // PerSecond by that of one handle with as many goroutines
	Killed        int            `json:"killed"`
	Stopped       int            `json:"stopped"`
	LongestBeside time.Duration  `json:"longest_while_another_was_down"`

	// Possible and Overtaken are measured with -wait: addresses by how long each is held, and how many calls a later one
	// on their handle has overtaken.
	Possible  float64 `json:"possible_per_second"`
	Overtaken int     `json:"overtaken"`
}

func (r row) writers() writers { return writers{r.Handles, r.Goroutines} }

// row sums up the run.
func (t *tally) row(w writers) row {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := row{
		Handles: w.handles, Goroutines: w.goroutines, Seconds: t.ends.Sub(t.begun).Seconds(),
		Busy: t.busy, Errors: t.errors, Commits: t.commits, Conflicts: t.conflicts, LongestBeside: t.beside,
	}
	for _, h := range t.handles {
		r.Claims += h.granted
		r.Overtaken += overtaken(h.calls, orderSlack)
	}
	r.PerSecond = float64(r.Claims) / r.Seconds
	r.ConflictsEach = ratio(float64(r.Conflicts), float64(r.Commits))
	r.setWaits(&t.waits)
	t.compareHandles(&r)
	return r
}

func (r *row) setWaits(waits *measure.Histogram) {
	r.P50, r.P99, r.Longest = waits.Quantile(0.5), waits.Quantile(0.99), waits.Longest()
	r.P99OfP50 = ratio(float64(r.P99), float64(r.P50))
	r.LongestOfP50 = ratio(float64(r.Longest), float64(r.P50))
}

// compareHandles compares those that were up at any time.
func (t *tally) compareHandles(r *row) {
	sum, count := 0.0, 0
	for n := range t.handles {
		rate, ok := t.rate(n)
		if !ok {
			continue
		}
		if count == 0 || rate < r.Slowest {
			r.Slowest = rate
		}
		r.Fastest = max(r.Fastest, rate)
		sum += rate
		count++
	}
	r.SlowestOfMean = ratio(r.Slowest*float64(count), sum)
}

// compare sets the ratios to one handle with as many goroutines, where that was measured in the same store and way.
func compare(rows []row) {
	for i, r := range rows {
		for _, one := range rows {
			if r.Handles > 1 && one.As == r.As && one.Store == r.Store && one.Handles == 1 &&
				one.Goroutines == r.writers().all() {
				rows[i].OfOneHandle = ratio(r.PerSecond, one.PerSecond)
			}
		}
	}
}

// ratio is 0 where there is none.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
