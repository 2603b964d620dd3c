package bolt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store/bolt"
)

// waitsForLock reports whether anybody waits for a lock on the whole file.
func waitsForLock(t *testing.T, path string) bool {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	text, err := os.ReadFile("/proc/locks")
	require.NoError(t, err)
	stat, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "-> FLOCK") && strings.Contains(line, fmt.Sprintf(":%d ", stat.Ino)) {
			return true
		}
	}
	return false
}

// Who opens the file again and again does not overtake who waits for it.
func TestNobodyOvertakesWhoWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	for range 20 {
		var served atomic.Bool
		done := make(chan error, 1)
		go func() {
			waiter, err := bolt.Open(t.Context(), path, &bolt.Options{LockWait: -1})
			served.Store(true)
			if err == nil {
				err = waiter.Close()
			}
			done <- err
		}()
		require.Eventually(t, func() bool { return waitsForLock(t, path) }, 2*time.Minute, time.Millisecond)
		require.NoError(t, s.Close())
		s, err = bolt.Open(t.Context(), path, &bolt.Options{LockWait: -1})
		require.NoError(t, err)
		require.True(t, served.Load(), "it was overtaken")
		require.NoError(t, <-done)
	}
	require.NoError(t, s.Close())
}

// Who gives up waiting does not keep the file from others.
func TestWhoGivesUpLeavesTheLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	for range 3 {
		_, err := bolt.Open(t.Context(), path, &bolt.Options{LockWait: time.Millisecond})
		require.ErrorIs(t, err, bolt.ErrLocked)
	}
	require.NoError(t, s.Close())
	s, err = bolt.Open(t.Context(), path, &bolt.Options{LockWait: -1})
	require.NoError(t, err)
	require.NoError(t, s.Close())
}
