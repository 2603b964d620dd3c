package bolt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// poolChildRun is the environment variable that tells a child of TestPoolProcesses its line and its number in it.
const poolChildRun = "BOLT_TEST_POOL_RUN"

// What each process allocates, and how many of the owners of the process before it in its line it releases.
const runOwners, runReleases = 20, 5

func runOwner(line, run, n int) string { return fmt.Sprintf("line-%d/run-%d/%d", line, run, n) }

// TestPoolProcesses has four lines of processes wait for one file, as the runs of a CNI plugin do: each opens the file,
// allocates, releases what another one was granted, closes the file and ends.
func TestPoolProcesses(t *testing.T) {
	if path := os.Getenv(poolChildPath); path != "" {
		runOnce(t, path)
		return
	}
	if testing.Short() {
		t.Skip("starts processes")
	}
	const lines, runs = 4, 8
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	createRunPool(t, path)
	var wg sync.WaitGroup
	var told [lines][]pooltest.Event
	for line := range lines {
		wg.Go(func() {
			for run := range runs {
				told[line] = append(told[line], startRun(t, path, line, run)...)
			}
		})
	}
	wg.Wait()
	want := heldAfter(t, slices.Concat(told[:]...))
	require.Len(t, want, lines*(runs*runOwners-(runs-1)*runReleases))
	requireHeld(t, path, want)
}

func createRunPool(t *testing.T, path string) {
	t.Helper()
	s, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	_, err = pool.Create(t.Context(), s, pooltest.Name, pooltest.Spec(t), nil)
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// runOnce is the child.
func runOnce(t *testing.T, path string) {
	var line, run int
	_, err := fmt.Sscan(os.Getenv(poolChildRun), &line, &run)
	require.NoError(t, err)
	s, err := bolt.Open(t.Context(), path, &bolt.Options{LockWait: time.Minute})
	require.NoError(t, err)
	p, err := pool.Open(t.Context(), s, pooltest.Name, nil)
	require.NoError(t, err)
	policies := []pool.FamilyPolicy{pool.SingleStack, pool.PreferDualStack, pool.RequireDualStack}
	for n := range runOwners {
		c := pool.Claim{Owner: runOwner(line, run, n), Policy: policies[n%3]}
		require.NoError(t, pooltest.Allocate(t.Context(), p, c))
	}
	for n := range runReleases {
		if run > 0 {
			require.NoError(t, pooltest.Release(t.Context(), p, runOwner(line, run-1, n)))
		}
	}
	require.NoError(t, s.Close())
}

// startRun runs a child to its end, and returns what it has told.
func startRun(t *testing.T, path string, line, run int) (told []pooltest.Event) {
	child, output := pooltest.Start(t, poolChildPath+"="+path, fmt.Sprintf("%s=%d %d", poolChildRun, line, run))
	others := pooltest.ReadEvents(output, func(e pooltest.Event) { told = append(told, e) })
	assert.NoError(t, child.Wait(), others)
	return told
}

// heldAfter is what is held after these events, of which no two are a grant, or a release, for the same owner.
func heldAfter(t *testing.T, events []pooltest.Event) map[string]pooltest.Event {
	t.Helper()
	held := map[string]pooltest.Event{}
	for _, release := range []bool{false, true} {
		for _, e := range events {
			switch {
			case !e.Returned || e.Release != release:
			case release:
				require.Equal(t, held[e.Owner].Prefixes, e.Prefixes)
				require.Equal(t, held[e.Owner].Generation, e.Generation)
				delete(held, e.Owner)
			default:
				held[e.Owner] = e
			}
		}
	}
	return held
}

// requireHeld checks that the pool in the file holds this and nothing else.
func requireHeld(t *testing.T, path string, want map[string]pooltest.Event) {
	t.Helper()
	s, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	p, err := pool.Open(t.Context(), s, pooltest.Name, nil)
	require.NoError(t, err)
	found := pooltest.RequireConsistent(t, p)
	require.Len(t, found, len(want))
	for owner, e := range want {
		require.Equal(t, e.Prefixes, found[owner].Prefixes, "what %s was granted", owner)
		require.Equal(t, e.Generation, found[owner].Generation, "what %s was granted", owner)
	}
	require.NoError(t, s.Close())
}
