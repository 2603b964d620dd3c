package main_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	main "github.com/ipalloc/ipalloc/benchmarks/contention"
)

// at is a call that was granted, from when until when, in milliseconds since the run's begin.
func at(begin, end int64) main.Call {
	return main.Call{Begin: begin * 1e6, Took: time.Duration(end-begin) * time.Millisecond}
}

// TestSum has 100 waits of 1 to 100 ms.
func TestSum(t *testing.T) {
	var calls []main.Call
	for i := range int64(100) {
		calls = append(calls, at(i*1000, i*1000+i+1))
	}
	r := main.Sum(100*time.Second, 50, 150, main.Told{Calls: calls})
	require.Equal(t, 100, r.Claims)
	require.InDelta(t, 1, r.PerSecond, 1e-9)
	require.InEpsilon(t, 50*time.Millisecond, r.P50, 1./64)
	require.InEpsilon(t, 99*time.Millisecond, r.P99, 1./64)
	require.Equal(t, 100*time.Millisecond, r.Longest)
	require.InEpsilon(t, 2, r.LongestOfP50, 1./64)
	require.InDelta(t, 3, r.ConflictsEach, 1e-9)
	require.InDelta(t, 1, r.SlowestOfMean, 1e-9)
	require.Equal(t, "conflicts", main.Missed(r))
}

// TestSumFailed counts what failed, and what was granted too late. All of them have waited, but those that released.
func TestSumFailed(t *testing.T) {
	busy, failed, release := at(0, 40), at(0, 50), at(0, 900)
	busy.Busy, failed.Error, release.Error, release.Release = true, "down", "down", true
	r := main.Sum(time.Second, 1, 0, main.Told{Calls: []main.Call{at(0, 10), busy, failed, release, at(900, 1100)}})
	require.Equal(t, 1, r.Claims)
	require.Equal(t, 1, r.Busy)
	require.Equal(t, map[string]int{"down": 2}, r.Errors)
	require.Equal(t, 200*time.Millisecond, r.Longest)
	require.Equal(t, "busy, errors", main.Missed(r))
}

// TestSumDown has a handle go down for half of the run, and another one for ever.
func TestSumDown(t *testing.T) {
	half := main.Told{
		WasDown: true, From: 2 * time.Second, To: 7 * time.Second,
		Calls: []main.Call{at(0, 1), at(1, 2), at(1990, 7100), at(7100, 7101)},
	}
	gone := main.Told{WasDown: true, From: 5 * time.Second, Calls: []main.Call{at(0, 1)}}
	beside := main.Told{Calls: []main.Call{at(100, 1900), at(6900, 8900), at(9000, 9010)}}
	r := main.Sum(10*time.Second, 1, 0, half, gone, beside)
	require.Equal(t, 8, r.Claims)
	require.InDelta(t, 0.2, r.Slowest, 1e-9, "one in 5 s")
	require.InDelta(t, 0.8, r.Fastest, 1e-9, "four in 5 s")
	require.InDelta(t, 0.2/((0.8+0.2+0.3)/3), r.SlowestOfMean, 1e-9)
	require.Equal(t, 2*time.Second, r.Longest, "what took while its own handle was down is no wait")
	require.Equal(t, 2*time.Second, r.LongestBeside)
}

// TestCompare looks for one handle in the same store that runs in the same way.
func TestCompare(t *testing.T) {
	row := func(store, as string, handles, goroutines int, perSecond float64) main.Row {
		return main.Row{Store: store, As: as, Handles: handles, Goroutines: goroutines, PerSecond: perSecond}
	}
	rows := []main.Row{
		row("etcd", "bare", 1, 1, 7), row("etcd", "goroutines", 16, 4, 50), row("etcd", "goroutines", 4, 1, 50),
		row("etcd", "goroutines", 1, 64, 100), row("bolt", "goroutines", 1, 4, 100), row("etcd", "processes", 1, 64, 25),
		row("etcd", "processes", 16, 4, 50),
	}
	main.Compare(rows)
	var got []float64
	for _, r := range rows {
		got = append(got, r.OfOneHandle)
	}
	require.Equal(t, []float64{0, 0.5, 0, 0, 0, 0, 2}, got)
	require.Equal(t, "slowest, of one", main.Missed(rows[1]))
	require.Equal(t, "slowest", main.Missed(rows[6]))
	require.Empty(t, main.Missed(rows[0]))
}

// TestMissedWait has other aims.
func TestMissedWait(t *testing.T) {
	r := main.Row{Handles: 1, Possible: 700, PerSecond: 601, LongestOfP50: 10, P99OfP50: 100}
	require.Empty(t, main.Missed(r))
	r.PerSecond, r.LongestOfP50, r.Overtaken = 599, 10.1, 1
	require.Equal(t, "grants, order, longest", main.Missed(r))
}

// TestOvertaken compares with each pair of calls.
func TestOvertaken(t *testing.T) {
	const slack = 5 * time.Millisecond
	for name, c := range map[string]struct {
		calls []main.Call
		want  int
	}{
		"none":          {nil, 0},
		"in order":      {[]main.Call{at(0, 50), at(10, 60), at(20, 70)}, 0},
		"one":           {[]main.Call{at(10, 60), at(0, 70), at(20, 90)}, 1},
		"two":           {[]main.Call{at(0, 70), at(10, 80), at(20, 30)}, 2},
		"by two":        {[]main.Call{at(0, 70), at(10, 20), at(20, 30)}, 1},
		"same begin":    {[]main.Call{at(0, 70), at(5, 20)}, 0},
		"same end":      {[]main.Call{at(0, 70), at(20, 65)}, 0},
		"beyond a near": {[]main.Call{at(0, 70), at(3, 71), at(20, 30)}, 2},
	} {
		require.Equal(t, c.want, main.Overtaken(c.calls, slack), name)
	}
}

// TestStrikes wants each struck handle to be another one, and all to be up again in the end.
func TestStrikes(t *testing.T) {
	const length = time.Minute
	for seed := range uint64(100) {
		strikes := main.Strikes(seed, 16, 0.1, 0.1, length)
		require.Len(t, strikes, 4)
		seen := map[int]bool{}
		for i, s := range strikes {
			handle, after, stop := s.Of()
			require.False(t, seen[handle])
			seen[handle] = true
			require.Less(t, handle, 16)
			require.Equal(t, i >= 2, stop > 0)
			require.Positive(t, after)
			require.Less(t, after+stop, length)
		}
	}
	require.Len(t, main.Strikes(1, 1, 0.1, 0.1, length), 1, "there is one handle only")
	require.Empty(t, main.Strikes(1, 64, 0, 0, length))
}
