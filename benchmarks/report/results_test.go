package main_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	main "github.com/ipalloc/ipalloc/benchmarks/report"

	"github.com/ipalloc/ipalloc/benchmarks/measure"
	"github.com/ipalloc/ipalloc/benchmarks/processes"
)

func TestMain(m *testing.M) {
	if processes.RunJob() {
		return
	}
	os.Exit(m.Run())
}

func spread(median float64) measure.Spread {
	return measure.Spread{Median: median, Low: median * 0.95, High: median * 1.05, Rounds: 11}
}

func cell(median float64) main.Cell { return main.Cell{Spread: spread(median), Allocs: -1} }

// madeUp are results with a cell of each sort.
func madeUp() main.Results {
	allocs := cell(12_345)
	allocs.Allocs = 17
	note := cell(4.1e9)
	note.Note = "slowest claim 3.90 s"
	return main.Results{
		Machine: main.Machine{CPU: "A CPU", Cores: 2, OS: "linux", Arch: "amd64", Go: "go1.26"},
		Taken:   time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Took: "12m0s",
		Subjects: []main.Subject{
			{Name: "ipalloc", Module: "github.com/ipalloc/ipalloc", Version: "v0.1.0",
				Package: "allocator", Order: "lowest free"},
			{Name: "floor", Module: "github.com/ipalloc/ipalloc"},
			{Name: "other", Module: "example.org/other", Version: "v1.2.3", Order: "random", Note: "no owners"},
			{Name: "gone", Module: "example.org/gone", Absent: "not served"},
			{Name: "ipalloc on bolt", Module: "github.com/ipalloc/ipalloc"},
		},
		Rows: []main.Row{
			{Name: "v4-16/fill=0%", Group: main.GroupAddresses, Unit: main.Nanoseconds, Plot: main.PlotFill, X: 100,
				Cells: map[string]main.Cell{"ipalloc": cell(90), "floor": cell(15), "other": allocs}},
			{Name: "v4-16/fill=99%", Group: main.GroupAddresses, Unit: main.Nanoseconds, Plot: main.PlotFill, X: 1,
				Cells: map[string]main.Cell{"ipalloc": cell(51.2), "floor": cell(15), "other": {Missing: "over 1m0s"}}},
			{Name: "v6-64", Group: main.GroupAddresses, Unit: main.Nanoseconds,
				Cells: map[string]main.Cell{
					"ipalloc": cell(160), "floor": {Missing: "has no such thing"}, "other": {Missing: "capped at 65,536"},
				}},
			{Name: "memory", Group: "Memory", Unit: main.Bytes,
				Cells: map[string]main.Cell{"ipalloc": cell(8218), "other": cell(3 << 20)}},
			{Name: "burst", Group: main.GroupDurable, Unit: main.Nanoseconds,
				Cells: map[string]main.Cell{"ipalloc on bolt": note}},
			{Name: "writers", Group: main.GroupDurable, Unit: main.PairsSecond, Plot: main.PlotWriters, X: 64,
				Cells: map[string]main.Cell{"ipalloc on bolt": cell(42_000)}},
		},
	}
}

// TestTable compares with testdata/table.md. After a change on purpose: UPDATE_GOLDEN=1 go test -run TestTable ./report
func TestTable(t *testing.T) {
	const golden = "testdata/table.md"
	got := main.Table(madeUp())
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(golden, []byte(got), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestWriteAll(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, main.WriteAll(dir, madeUp()))
	read, err := main.ReadResults(filepath.Join(dir, "results.json"))
	require.NoError(t, err)
	require.Equal(t, madeUp(), read)
	for _, name := range []string{"table.md", "fill.svg", "writers.svg"} {
		require.FileExists(t, filepath.Join(dir, name))
	}
	svg, err := os.ReadFile(filepath.Join(dir, "fill.svg"))
	require.NoError(t, err)
	require.Contains(t, string(svg), "100 ns", "the ticks have units")
	require.Contains(t, string(svg), "other", "the legend names each line")
	require.NoFileExists(t, filepath.Join(dir, "memory.svg"), "there is no point for it")
}

func TestReadResults(t *testing.T) {
	dir := t.TempDir()
	quick := madeUp()
	quick.Quick = true
	require.NoError(t, main.WriteAll(dir, quick))
	_, err := main.ReadResults(filepath.Join(dir, "results.json"))
	require.ErrorIs(t, err, main.ErrQuick)
	_, err = main.ReadResults(filepath.Join(dir, "none.json"))
	require.ErrorIs(t, err, os.ErrNotExist)
	broken := filepath.Join(dir, "broken.json")
	require.NoError(t, os.WriteFile(broken, []byte("{"), 0o600))
	_, err = main.ReadResults(broken)
	require.ErrorContains(t, err, "broken.json")
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		value float64
		unit  main.Unit
		want  string
	}{
		{0, main.Nanoseconds, "0 ns"}, {15.04, main.Nanoseconds, "15 ns"}, {90, main.Nanoseconds, "90 ns"},
		{51.26, main.Nanoseconds, "51.3 ns"}, {999.4, main.Nanoseconds, "999 ns"},
		{999.6, main.Nanoseconds, "1 µs"}, {1500, main.Nanoseconds, "1.50 µs"},
		{2e6, main.Nanoseconds, "2 ms"}, {61e9, main.Nanoseconds, "61 s"},
		{8192, main.Bytes, "8 KiB"}, {512, main.Bytes, "512 B"},
		{42_000, main.PairsSecond, "42 k/s"}, {65_536, main.Number, "65.5 k"}, {0.1, main.Number, "0.10"},
	} {
		require.Equal(t, c.want, main.Format(c.value, c.unit), "%v %s", c.value, c.unit)
	}
}
