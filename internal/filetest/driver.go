// Package filetest has the tests that drivers share whose store is a file, and what such tests need.
package filetest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
)

// Driver is a driver that is tested.
type Driver struct {
	// Open opens the store in the file at path, and creates it if there is none, unless it must exist.
	Open func(ctx context.Context, path string, mustExist bool) (store.Store, error)
	// RequireSound requires a file that no process has open to be sound.
	RequireSound func(t testing.TB, path string)
}

// Counting is a store that counts the commits that are tried.
type Counting struct {
	store.Store
	Commits atomic.Int64
}

// Commit implements [store.Store].
func (s *Counting) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	s.Commits.Add(1)
	return s.Store.Commit(ctx, changes...)
}

// Returns fails the test if do hangs.
func Returns(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		require.FailNow(t, what+" hangs")
	}
}
