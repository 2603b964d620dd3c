package measure_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/benchmarks/measure"
)

func TestSpreadOf(t *testing.T) {
	for _, c := range []struct {
		rounds []float64
		want   measure.Spread
	}{
		{[]float64{7}, measure.Spread{Median: 7, Low: 7, High: 7, Rounds: 1}},
		{[]float64{3, 1}, measure.Spread{Median: 2, Low: 1.5, High: 2.5, Rounds: 2}},
		{[]float64{5, 1, 3}, measure.Spread{Median: 3, Low: 2, High: 4, Rounds: 3}},
		{[]float64{9, 1, 5, 3, 7}, measure.Spread{Median: 5, Low: 3, High: 7, Rounds: 5}},
		{[]float64{1, 1, 1, 1000}, measure.Spread{Median: 1, Low: 1, High: 250.75, Rounds: 4}},
	} {
		rounds := append([]float64(nil), c.rounds...)
		require.Equal(t, c.want, measure.SpreadOf(rounds))
		require.Equal(t, c.rounds, rounds, "the caller's slice is not sorted")
	}
	require.Equal(t, measure.Spread{Median: 4, Low: 2, High: 6, Rounds: 3},
		measure.Spread{Median: 2, Low: 1, High: 3, Rounds: 3}.Scale(2))
}

func TestSlower(t *testing.T) {
	before := measure.Spread{Median: 100, Low: 95, High: 105, Rounds: 9}
	for name, c := range map[string]struct {
		now  measure.Spread
		want bool
	}{
		"same":               {before, false},
		"faster":             {measure.Spread{Median: 50, Low: 45, High: 55, Rounds: 9}, false},
		"slower":             {measure.Spread{Median: 130, Low: 125, High: 135, Rounds: 9}, true},
		"noise":              {measure.Spread{Median: 130, Low: 104, High: 190, Rounds: 9}, false},
		"under a tenth":      {measure.Spread{Median: 109, Low: 108, High: 110, Rounds: 9}, false},
		"a tenth":            {measure.Spread{Median: 111, Low: 106, High: 112, Rounds: 9}, true},
		"touching quartiles": {measure.Spread{Median: 130, Low: 105, High: 135, Rounds: 9}, false},
	} {
		require.Equal(t, c.want, measure.Slower(before, c.now), name)
	}
}

func TestTime(t *testing.T) {
	calls := 0
	per, err := measure.Time(0, func() error { calls++; return nil })
	require.NoError(t, err)
	require.Equal(t, 1, calls)
	require.Equal(t, 1, per.N)

	calls = 0
	var kept [][]byte
	per, err = measure.Time(5*time.Millisecond, func() error {
		calls++
		kept = append(kept, make([]byte, 64))
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, calls, per.N)
	require.Len(t, kept, calls)
	require.Greater(t, calls, 1000)
	require.GreaterOrEqual(t, per.Nanoseconds*float64(per.N), float64(5*time.Millisecond))
	require.InDelta(t, 1, per.Allocs, 0.5)

	failed := errors.New("failed")
	_, err = measure.Time(time.Hour, func() error { return failed })
	require.ErrorIs(t, err, failed)
}

func TestHeap(t *testing.T) {
	bytes, err := measure.Heap(func() (any, error) { return make([]byte, 1<<20), nil })
	require.NoError(t, err)
	require.InDelta(t, 1<<20, bytes, 1<<16)
}
