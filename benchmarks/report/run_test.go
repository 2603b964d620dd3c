package main_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	main "github.com/ipalloc/ipalloc/benchmarks/report"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
)

// TestBrokenRow lets this library fail in a row. The row is kept with the reason, and the next row is still measured.
func TestBrokenRow(t *testing.T) {
	r, err := main.BrokenRun(t.Context())
	require.ErrorIs(t, err, main.ErrBroken)
	require.Len(t, r.Rows, 2)
	require.Contains(t, r.Rows[0].Cells["ipalloc"].Missing, main.ErrBroken.Error())
	require.InDelta(t, 1, r.Rows[1].Cells["ipalloc"].Median, 0)
	require.Zero(t, r.Missing)
}

// interruptWhen cancels as soon as the text is logged.
type interruptWhen struct {
	text   string
	cancel context.CancelFunc
}

func (i interruptWhen) Write(p []byte) (int, error) {
	if strings.Contains(string(p), i.text) {
		i.cancel()
	}
	return len(p), nil
}

// TestInterrupted interrupts a run after a row with servers: what it has is written, and nothing else is left.
func TestInterrupted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := t.TempDir()
	err := main.QuickReport(ctx, false, main.GroupDurable, dir, "", interruptWhen{"held=0", cancel})
	require.ErrorIs(t, err, context.Canceled)
	r, err := main.ReadResults(filepath.Join(dir, "results.json"))
	require.NoError(t, err)
	require.Len(t, r.Rows, 1)
	require.Positive(t, r.Missing)
	text, err := os.ReadFile(filepath.Join(dir, "table.md"))
	require.NoError(t, err)
	require.Contains(t, string(text), "did not come to its end")
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "ipalloc-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestOrder wants rows that need the same pools to follow each other, and those that spoil them last.
func TestOrder(t *testing.T) {
	order := main.Order()
	at := func(name string) int {
		i := slices.Index(order, name)
		require.GreaterOrEqual(t, i, 0, name)
		return i
	}
	require.Less(t, at("allocate and release/writers=64"), at("allocate/held=1000"))
	require.Equal(t, at("allocate/held=1000")+1, at("bytes written a change/held=1000"))
	require.Less(t, at("fresh process, held=60000: open and allocate"),
		at("bytes written a change/every other of a /16 held"))
	require.Less(t, at("bytes written a change/every other of a /16 held"), at("burst: 128 processes, 16 claims each"))
}

// TestPlaces wants a place that fits to be used again, and another one to be made where it does not.
func TestPlaces(t *testing.T) {
	kind, ok := durable.Named("ipalloc on bolt")
	require.True(t, ok)
	t.Setenv("TMPDIR", t.TempDir())
	servers, all := durable.NewServers(t.TempDir()), main.NewPlaces()
	take := func(held, nth int) *main.Place {
		p, err := main.TakePlace(t.Context(), all, kind, servers, held, nth)
		require.NoError(t, err)
		owners, err := p.Pool.(durable.Auditor).Audit(t.Context())
		require.NoError(t, err)
		require.Len(t, owners, held/nth)
		return p
	}
	first := take(20, 1)
	require.Same(t, first, take(20, 1))
	require.Same(t, first, take(20, 2), "it is thinned out")
	require.Same(t, first, take(20, 2))
	other := take(20, 1)
	require.NotSame(t, first, other)
	require.Same(t, other, take(30, 1), "owners are added")
	require.NotSame(t, other, take(10, 1))
	require.NoError(t, all.End())
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "ipalloc-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestSpread(t *testing.T) {
	require.Equal(t, []float64{10, 50, 90}, main.Spread(5, 0, 100, 90, 10, 50), "with room they stay, in order")
	require.Equal(t, []float64{50, 55, 60}, main.Spread(5, 0, 100, 50, 50, 51), "they move up")
	require.Equal(t, []float64{90, 95, 100}, main.Spread(5, 0, 100, 99, 99, 100), "but not beyond the top")
	require.Equal(t, []float64{0, 5}, main.Spread(5, 0, 100, -3, -2), "nor below the bottom")
}
