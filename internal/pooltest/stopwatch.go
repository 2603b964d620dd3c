package pooltest

import (
	"slices"
	"testing"
	"time"
)

// stopwatch keeps how long each of several things took. They are done in turns, so a disturbance
// of the machine affects all of them.
type stopwatch map[string][]time.Duration

func (w stopwatch) measure(name string, do func()) {
	start := time.Now()
	do()
	w[name] = append(w[name], time.Since(start))
}

// report reports the medians, instead of the time of a whole turn.
func (w stopwatch) report(b *testing.B) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	for name := range w {
		b.ReportMetric(w.median(name), name+"-ns")
	}
}

// median is in nanoseconds.
func (w stopwatch) median(name string) float64 {
	slices.Sort(w[name])
	return float64(w[name][len(w[name])/2].Nanoseconds())
}
