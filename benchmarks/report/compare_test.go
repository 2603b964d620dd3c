package main_test

import (
	"io"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	main "github.com/ipalloc/ipalloc/benchmarks/report"
)

// with returns made-up results in which a cell has another median.
func with(row, name string, median float64) main.Results {
	r := madeUp()
	for _, each := range r.Rows {
		if c, ok := each.Cells[name]; ok && each.Name == row {
			c.Spread = spread(median)
			each.Cells[name] = c
		}
	}
	return r
}

func TestCompare(t *testing.T) {
	require.Empty(t, main.Compare(madeUp(), madeUp()), "the same")
	for name, c := range map[string]struct {
		now  main.Results
		want string
	}{
		"slower":              {with("v4-16/fill=0%", "ipalloc", 135), "135 ns, was 90 ns: 1.50 times as much"},
		"faster":              {with("v4-16/fill=0%", "ipalloc", 30), ""},
		"within noise":        {with("v4-16/fill=0%", "ipalloc", 97), ""},
		"a peer slower":       {with("v4-16/fill=0%", "other", 1e9), ""},
		"more memory":         {with("memory", "ipalloc", 16_436), "16.1 KiB, was 8.03 KiB: 2.00 times as much"},
		"durable slower":      {with("burst", "ipalloc on bolt", 8.2e9), "8.20 s, was 4.10 s: 2.00 times as much"},
		"a lower rate":        {with("writers", "ipalloc on bolt", 21_000), "21 k/s, was 42 k/s: 2.00 times slower"},
		"a higher rate":       {with("writers", "ipalloc on bolt", 84_000), ""},
		"a rate within noise": {with("writers", "ipalloc on bolt", 40_000), ""},
		"a row that is new":   {withRow(main.Row{Name: "new", Cells: map[string]main.Cell{"ipalloc": cell(1)}}), ""},
		"a row without a value": {withRow(main.Row{
			Name: "v6-64", Cells: map[string]main.Cell{"ipalloc": {Missing: "over 1m0s"}},
		}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := main.Compare(madeUp(), c.now)
			if c.want == "" {
				require.Empty(t, got)
				return
			}
			require.Len(t, got, 1)
			require.Equal(t, c.want, got[0].Text)
		})
	}
}

func withRow(row main.Row) main.Results {
	r := madeUp()
	r.Rows = append(r.Rows, row)
	return r
}

// TestCompareMachine has everything in memory take twice as long, the bare bitmap as well: that is the machine.
func TestCompareMachine(t *testing.T) {
	now := madeUp()
	for _, row := range now.Rows {
		for name, c := range row.Cells {
			if row.Group == main.GroupAddresses && c.Missing == "" {
				c.Spread = c.Scale(2)
				row.Cells[name] = c
			}
		}
	}
	require.Empty(t, main.Compare(madeUp(), now))
	require.Contains(t, main.Changes(madeUp(), now), "the bare bitmap takes 2.00 times as long")

	// What takes four times as long is slower even so, and memory is not excused by a slow machine.
	now.Rows[0].Cells["ipalloc"] = cell(360)
	now.Rows[3].Cells["ipalloc"] = cell(16_436)
	changes := main.Compare(madeUp(), now)
	require.Len(t, changes, 2)
	require.InDelta(t, 2, changes[0].Factor, 0.001)
	require.InDelta(t, 2, changes[1].Factor, 0.001)
}

func TestCompareAllocs(t *testing.T) {
	before, now := madeUp(), madeUp()
	c := cell(90)
	c.Allocs = 0
	before.Rows[0].Cells["ipalloc"] = c
	c.Allocs = 1
	now.Rows[0].Cells["ipalloc"] = c
	changes := main.Compare(before, now)
	require.Len(t, changes, 1)
	require.Equal(t, "1.0 heap allocations, was 0.0", changes[0].Text)
	c.Allocs = 0.2
	now.Rows[0].Cells["ipalloc"] = c
	require.Empty(t, main.Compare(before, now), "one now and then is noise")
}

func TestChanges(t *testing.T) {
	require.Contains(t, main.Changes(madeUp(), madeUp()), "nothing got slower beyond noise")
	now := with("memory", "ipalloc", 1e6)
	now.Machine.Go = "go1.27"
	text := main.Changes(madeUp(), now)
	require.Contains(t, text, "another machine or Go")
	require.Contains(t, text, "worse: memory, ipalloc: 977 KiB")
}

// TestReportAgainst measures one row twice, the second time against results in which it was a thousand times faster.
func TestReportAgainst(t *testing.T) {
	const row = "v4-24/packed/fill=50%"
	first, second := t.TempDir(), t.TempDir()
	require.NoError(t, main.QuickReport(t.Context(), false, row, first, "", io.Discard))
	path := filepath.Join(first, "results.json")
	r, err := main.ReadResults(path)
	require.NoError(t, err)
	require.Len(t, r.Rows, 1)
	require.Positive(t, r.Rows[0].Cells["ipalloc"].Median)
	for name, c := range r.Rows[0].Cells {
		c.Spread = c.Scale(0.001)
		r.Rows[0].Cells[name] = c
	}
	require.NoError(t, main.WriteAll(first, r))
	require.ErrorIs(t, main.QuickReport(t.Context(), false, row, second, path, io.Discard), main.ErrSlower)
	require.ErrorIs(t, main.QuickReport(t.Context(), true, row, second, path, io.Discard), main.ErrQuick)
}

// TestQuickRows runs rows of each kind, with what they need of processes.
func TestQuickRows(t *testing.T) {
	dir := t.TempDir()
	for _, only := range []string{
		"fresh process", "every other of a /16", "goroutines=64", "lengths=20-32/held=1000", "free=1",
	} {
		require.NoError(t, main.QuickReport(t.Context(), true, only, dir, "", io.Discard), only)
	}
}
