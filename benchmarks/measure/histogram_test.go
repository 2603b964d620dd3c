package measure_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/benchmarks/measure"
)

// TestHistogram compares quantiles with those of the sorted durations, of all magnitudes.
func TestHistogram(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	var h measure.Histogram
	var all []time.Duration
	for range 5000 {
		d := time.Duration(math.Exp(random.Float64() * math.Log(float64(time.Hour))))
		h.Add(d)
		all = append(all, d)
	}
	slices.Sort(all)
	require.Equal(t, len(all), h.Count())
	require.Equal(t, all[len(all)-1], h.Longest())
	for _, q := range []float64{0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.9999, 1} {
		want := all[max(0, int(math.Ceil(q*float64(len(all))))-1)]
		require.GreaterOrEqual(t, h.Quantile(q), want, "%v", q)
		require.LessOrEqual(t, h.Quantile(q), want+want/64, "%v", q)
	}
}

// TestHistogramFew has durations that have a class of their own.
func TestHistogramFew(t *testing.T) {
	var h measure.Histogram
	require.Zero(t, h.Quantile(0.5))
	for d := range time.Duration(100) {
		h.Add(d + 1)
	}
	require.Equal(t, time.Duration(50), h.Quantile(0.5))
	require.Equal(t, time.Duration(99), h.Quantile(0.99))
	require.Equal(t, time.Duration(100), h.Quantile(1))
	h.Add(-1)
	require.Equal(t, time.Duration(0), h.Quantile(0))
	h.Add(math.MaxInt64)
	require.Equal(t, time.Duration(math.MaxInt64), h.Longest())
	require.Equal(t, h.Longest(), h.Quantile(1))
}
