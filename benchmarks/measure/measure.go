// Package measure times work, and says how far figures of the same work are apart.
package measure

import (
	"math"
	"runtime"
	"slices"
	"time"
)

// Spread is what several rounds of the same work gave.
type Spread struct {
	// Median is the middle one, or the mean of the two middle ones.
	Median float64 `json:"median"`
	// Low and High are the lower and the upper quartile: half of the rounds lie between them.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// Rounds is how many there were.
	Rounds int `json:"rounds"`
}

// SpreadOf sums up the rounds. There must be at least one.
func SpreadOf(rounds []float64) Spread {
	sorted := slices.Clone(rounds)
	slices.Sort(sorted)
	return Spread{quantile(sorted, 0.5), quantile(sorted, 0.25), quantile(sorted, 0.75), len(sorted)}
}

// quantile interpolates between the two nearest.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	below := int(math.Floor(at))
	if below == len(sorted)-1 {
		return sorted[below]
	}
	return sorted[below] + (at-float64(below))*(sorted[below+1]-sorted[below])
}

// Scale multiplies all by the factor.
func (s Spread) Scale(factor float64) Spread {
	return Spread{s.Median * factor, s.Low * factor, s.High * factor, s.Rounds}
}

// least is by how much a figure must differ to count at all: less is what another layout of the same program changes.
const least = 1.10

// Slower reports whether now is more than before beyond noise: the quartiles do not overlap, and the
// median is at least a tenth more.
func Slower(before, now Spread) bool {
	return now.Low > before.High && now.Median >= before.Median*least
}

// Per is what one operation costs.
type Per struct {
	Nanoseconds float64
	// Allocs is the number of heap allocations, of all goroutines.
	Allocs float64
	// N is how many there were.
	N int
}

// Time runs the operation at least once, and again and again until the time is over.
func Time(atLeast time.Duration, operation func() error) (Per, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	n, batch := 0, 1
	var spent time.Duration
	for spent < atLeast || n == 0 {
		for range batch {
			if err := operation(); err != nil {
				return Per{}, err
			}
		}
		n += batch
		spent = time.Since(start)
		batch = nextBatch(n, spent, atLeast)
	}
	runtime.ReadMemStats(&after)
	return Per{float64(spent.Nanoseconds()) / float64(n), float64(after.Mallocs-before.Mallocs) / float64(n), n}, nil
}

// nextBatch is about a tenth of what fits into the time, so that looking at the clock costs nothing.
func nextBatch(n int, spent, atLeast time.Duration) int {
	if spent <= 0 {
		return n
	}
	return max(1, min(n, int(float64(n)*float64(atLeast)/float64(spent)/10)))
}

// Heap is how many bytes of live heap build adds. What it returns is kept until that has been measured.
func Heap(build func() (any, error)) (float64, error) {
	before := live()
	made, err := build()
	after := live()
	runtime.KeepAlive(made)
	return float64(after) - float64(before), err
}

func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first one finalized
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
