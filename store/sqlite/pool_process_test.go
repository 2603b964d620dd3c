package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/sqlite"
)

// poolChildPath is the environment variable that makes a test of this file its own child: a process that works on the
// pool in the file that the variable names.
const poolChildPath = "SQLITE_TEST_POOL_PATH"

// opener returns what opens the file at path.
func opener(path string) func(context.Context) (store.Store, error) {
	return func(ctx context.Context) (store.Store, error) { return sqlite.Open(ctx, path, nil) }
}

// TestPoolKilled kills a child whose workers allocate and release.
func TestPoolKilled(t *testing.T) {
	if path := os.Getenv(poolChildPath); path != "" {
		s, err := sqlite.Open(t.Context(), path, nil)
		pooltest.Work(t, s, err)
		return
	}
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	pooltest.Killing{
		Open: opener(path), Child: []string{poolChildPath + "=" + path}, Rounds: 20, Calls: 2000,
	}.Run(t)
}

// TestPoolRace has many processes, and several stores in this one, allocate from one pool at once.
func TestPoolRace(t *testing.T) {
	if path := os.Getenv(poolChildPath); path != "" {
		s, err := sqlite.Open(t.Context(), path, nil)
		pooltest.Race(t, s, err)
		return
	}
	if testing.Short() {
		t.Skip("starts processes")
	}
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	pooltest.Racing{Open: opener(path), Child: []string{poolChildPath + "=" + path}}.Run(t)
}

func TestPoolFair(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	pooltest.Fair(t, func() store.Store {
		s, err := sqlite.Open(t.Context(), path, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	})
}

// TestWorld has processes work on one file at the same time, and kills and stops them.
func TestWorld(t *testing.T) {
	if path := os.Getenv(poolChildPath); path != "" {
		pooltest.WorkInWorld(t, opener(path))
		return
	}
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	pooltest.World{
		Open: opener(path), Child: func(string) []string { return []string{poolChildPath + "=" + path} }, Calls: 64,
	}.Run(t)
}

// runPlugin is the environment variable that tells a child of TestPlugins for whom it allocates.
const runPlugin = "SQLITE_TEST_PLUGIN"

// TestPlugins has fifty processes at once do what a CNI plugin does, each for its own container: open the file, which
// one of them creates, allocate, and close.
func TestPlugins(t *testing.T) {
	if path := os.Getenv(poolChildPath); path != "" {
		require.NoError(t, allocateOnce(t, path, os.Getenv(runPlugin)))
		return
	}
	if testing.Short() {
		t.Skip("starts processes")
	}
	const plugins = 50
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	var all sync.WaitGroup
	for i := range plugins {
		all.Go(func() {
			child, output := pooltest.Start(t, poolChildPath+"="+path, fmt.Sprintf("%s=container-%d", runPlugin, i))
			others := pooltest.ReadEvents(output, func(pooltest.Event) {})
			assert.NoError(t, child.Wait(), others)
		})
	}
	all.Wait()
	s, err := sqlite.Open(t.Context(), path, &sqlite.Options{MustExist: true})
	require.NoError(t, err)
	defer s.Close()
	p, err := pool.Open(t.Context(), s, pooltest.Name, nil)
	require.NoError(t, err)
	require.Len(t, pooltest.RequireConsistent(t, p), plugins)
}

// allocateOnce is the child.
func allocateOnce(t *testing.T, path, owner string) error {
	s, err := sqlite.Open(t.Context(), path, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	p, err := pool.Ensure(t.Context(), s, pooltest.Name, pooltest.Spec(t), pool.Keep, nil)
	if err != nil {
		return err
	}
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: owner})
	return err
}

func TestPoolOperators(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	pooltest.Operators(t, func() store.Store {
		s, err := sqlite.Open(t.Context(), path, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	})
}
