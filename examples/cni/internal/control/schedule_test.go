package control_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/examples/cni/internal/control"
	"github.com/ipalloc/ipalloc/examples/cni/internal/driver"
	"github.com/ipalloc/ipalloc/examples/cni/internal/driver/file"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// With a schedule the reconciler runs at its times, goes on after a run that fails, and serves metrics.
func TestSchedule(t *testing.T) {
	path, list := filepath.Join(t.TempDir(), "pools.db"), filepath.Join(t.TempDir(), "list")
	change(t, path, func(p *pool.Pool) {
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: "a/eth0", Labels: map[string]string{"network": "net"}})
		require.NoError(t, err)
	})
	now := time.Date(2026, 2, 28, 23, 50, 0, 0, time.UTC)
	var waits []time.Duration
	ticks := make(chan time.Time)
	log, write := io.Pipe()
	c := &control.Control{
		Drivers: driver.Set{file.Driver()}, Stdout: io.Discard, Log: slog.New(slog.NewTextHandler(write, nil)),
		Now:   func() time.Time { return now },
		After: func(d time.Duration) <-chan time.Time { waits = append(waits, d); now = now.Add(d); return ticks },
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.Run(ctx, []string{"reconcile", "-store", "file://" + path, "-from", "list", "-file", list,
			"-schedule", "30 4 * * *", "-grace", "0", "-metrics", "127.0.0.1:0"})
	}()
	lines := bufio.NewScanner(log)
	find := func(text string) string {
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return lines.Text()
			}
		}
		require.Fail(t, "the reconciler ended without "+text)
		return ""
	}
	_, address, _ := strings.Cut(find("serving metrics"), "address=")
	find("until=2026-03-01T04:30:00")
	ticks <- now
	find("the run failed") // there is no list yet
	require.NoError(t, os.WriteFile(list, []byte("b"), 0o600))
	find("until=2026-03-02T04:30:00")
	ticks <- now
	find("until=2026-03-03T04:30:00")
	metrics := read(t, "http://"+address+"/metrics")
	for _, line := range []string{
		`ipalloc_reconciler_runs_total{result="error"} 1`, `ipalloc_reconciler_runs_total{result="ok"} 1`,
		`ipalloc_reconciler_released_total{pool="net"} 1`, `ipalloc_reconciler_missing{pool="net"} 0`,
		`ipalloc_reconciler_live{pool="net"} 0`, "ipalloc_reconciler_last_success_timestamp_seconds 1.7724258e+09",
		"ipalloc_reconciler_duration_seconds 0",
	} {
		require.Contains(t, metrics, line)
	}
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, []time.Duration{4*time.Hour + 40*time.Minute, 24 * time.Hour, 24 * time.Hour}, waits)
	change(t, path, func(p *pool.Pool) {
		_, err := p.Get(t.Context(), pool.Held{Owner: "a/eth0"})
		require.ErrorIs(t, err, pool.ErrNotFound)
	})
}

// change calls f with the pool in a file.
func change(t *testing.T, path string, f func(p *pool.Pool)) {
	t.Helper()
	db, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer db.Close()
	spec, err := pool.ParseSpec("10.0.0.0/24")
	require.NoError(t, err)
	p, err := pool.Ensure(t.Context(), db, "net", spec, pool.Refuse, nil)
	require.NoError(t, err)
	f(p)
}

func read(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(text)
}
