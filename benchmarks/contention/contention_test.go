package main_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	main "github.com/ipalloc/ipalloc/benchmarks/contention"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
)

func TestMain(m *testing.M) {
	if durable.RunServer() || main.RunHandle() {
		return
	}
	os.Exit(m.Run())
}

// run returns the rows of a command that must not fail.
func run(t *testing.T, args ...string) []main.Row {
	t.Helper()
	if testing.Short() {
		t.Skip("writers go on for a second and more")
	}
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	require.NoError(t, main.Command(t.Context(), append(args, "-json"), &out, io.Discard))
	var rows []main.Row
	require.NoError(t, json.Unmarshal(out.Bytes(), &rows))
	left, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	require.Empty(t, left)
	for _, r := range rows {
		requireSound(t, r)
	}
	return rows
}

// requireSound wants figures that fit together, and nothing to have failed, but no figure to be good.
func requireSound(t *testing.T, r main.Row) {
	t.Helper()
	require.Positive(t, r.Claims, "%+v", r)
	require.InEpsilon(t, float64(r.Claims)/r.Seconds, r.PerSecond, 1e-9)
	require.LessOrEqual(t, r.P50, r.P99)
	require.LessOrEqual(t, r.P99, r.Longest)
	require.LessOrEqual(t, r.Slowest, r.Fastest)
	require.Empty(t, r.Errors)
	require.Positive(t, r.Commits)
}

// TestStores measures handles in this process on stores that cannot be shared, and on one that can.
func TestStores(t *testing.T) {
	rows := run(t, "-store", "memory,bolt,etcd", "-writers", "1x4,4x1", "-for", "600ms")
	require.Len(t, rows, 3*4)
	for i, r := range rows {
		if i%4 == 0 || i%4 == 3 {
			require.Equal(t, "bare", r.As)
			continue
		}
		require.Equal(t, i%4 == 2, r.OfOneHandle > 0, "%+v", r)
		require.GreaterOrEqual(t, r.Fastest*float64(r.Handles), r.PerSecond*(1-1e-9))
	}
	require.InEpsilon(t, rows[2].PerSecond/rows[1].PerSecond, rows[2].OfOneHandle, 1e-9)
}

// TestProcesses kills and stops some of the processes.
func TestProcesses(t *testing.T) {
	rows := run(t, "-store", "etcd,bolt", "-as", "processes", "-writers", "4x2", "-for", "2s",
		"-kill", "0.25", "-stop", "0.25", "-held", "1ms")
	require.Len(t, rows, 5, "bolt has none but the bare rows")
	require.Equal(t, 1, rows[1].Killed)
	require.Equal(t, 1, rows[1].Stopped)
	require.Positive(t, rows[1].LongestBeside)
}

// TestWait has more writers than addresses.
func TestWait(t *testing.T) {
	rows := run(t, "-store", "memory", "-wait", "-addresses", "3", "-writers", "1x8,2x4", "-for", "500ms")
	require.Len(t, rows, 4)
	for _, r := range rows[1:3] {
		require.InDelta(t, 150, r.Possible, 1e-9)
		require.LessOrEqual(t, r.PerSecond, 160., "no more than is possible, but for what is held in the end")
	}
}

// TestTable prints a line a row.
func TestTable(t *testing.T) {
	var out, progress bytes.Buffer
	err := main.Command(t.Context(), []string{"-store", "memory", "-writers", "1x1", "-for", "20ms"}, &out, &progress)
	require.NoError(t, err)
	lines := strings.Split(out.String(), "\n")
	require.Contains(t, lines[0], "longest/p50")
	require.Contains(t, lines[2], "| bare")
	require.Contains(t, lines[3], "| goroutines | 1x1")
	for _, line := range lines[1:5] {
		require.Equal(t, strings.Count(lines[0], "|"), strings.Count(line, "|"))
	}
	require.Contains(t, progress.String(), "memory goroutines 1x1: ")
}

// TestFlags refuses what cannot be measured.
func TestFlags(t *testing.T) {
	for args, want := range map[string]string{
		"-store disk":                    `"disk" is none of memory, bolt`,
		"-as threads":                    `"threads" is none of`,
		"-writers 4":                     `"4" is not a number of handles`,
		"-writers 1x1,4x0":               `"4x0" is not`,
		"-writers 1x1x1":                 `"1x1x1" is not`,
		"-kill 0.1":                      "-kill and -stop need -as processes",
		"-as processes -kill 2":          "are shares",
		"-for -1s":                       "lengths of time",
		"-addresses -1":                  "-addresses",
		"-addresses 15 -writers 4x4":     "4x4 writers would find a pool of 15 addresses full",
		"-as processes -stop -1 -kill 1": "are shares",
	} {
		err := main.Command(t.Context(), strings.Fields(args), io.Discard, io.Discard)
		require.ErrorContains(t, err, want, args)
	}
}
