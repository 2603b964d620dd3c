package bolt_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// smallDisk mounts a file system of that size, which resize changes.
func smallDisk(t *testing.T, size string) (folder string, resize func(size string)) {
	t.Helper()
	folder = t.TempDir()
	if err := syscall.Mount("none", folder, "tmpfs", 0, "size="+size); err != nil {
		if os.Getenv("CI") == "true" {
			require.NoError(t, err)
		}
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(folder, 0)) })
	return folder, func(size string) {
		require.NoError(t, syscall.Mount("none", folder, "tmpfs", syscall.MS_REMOUNT, "size="+size))
	}
}

// TestFullDisk fills a disk with allocations. The first that finds no room fails at once and says so, nothing is lost,
// and the store goes on when there is room.
func TestFullDisk(t *testing.T) {
	folder, resize := smallDisk(t, "200k")
	path := filepath.Join(folder, "ipalloc.db")
	s, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	counted := &countingStore{Store: s}
	p, err := pool.Create(t.Context(), counted, pooltest.Name, pooltest.Spec(t), nil)
	require.NoError(t, err)

	granted := map[string]pool.Allocation{}
	owner := ""
	for err == nil {
		require.Less(t, len(granted), 5000, "the disk does not fill")
		owner = fmt.Sprint("owner-", len(granted))
		counted.commits.Store(0)
		var a pool.Allocation
		if a, err = p.Allocate(t.Context(), pool.Claim{Owner: owner}); err == nil {
			granted[owner] = a
		}
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, "no space left on device")
	require.ErrorContains(t, err, path)
	require.EqualValues(t, 1, counted.commits.Load(), "commits that were tried")
	requireGranted(t, p, granted)

	resize("10m")
	granted[owner], err = p.Allocate(t.Context(), pool.Claim{Owner: owner})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	s, err = bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	p, err = pool.Open(t.Context(), s, pooltest.Name, nil)
	require.NoError(t, err)
	requireGranted(t, p, granted)
}

// requireGranted checks that the pool has these allocations and no others.
func requireGranted(t *testing.T, p *pool.Pool, granted map[string]pool.Allocation) {
	t.Helper()
	found := pooltest.RequireConsistent(t, p)
	require.Len(t, found, len(granted))
	for owner, a := range granted {
		require.Equal(t, a.Prefixes, found[owner].Prefixes)
	}
}

// TestCreateOnFullDisk leaves nothing behind.
func TestCreateOnFullDisk(t *testing.T) {
	folder, _ := smallDisk(t, "4k")
	path := filepath.Join(folder, "ipalloc.db")
	_, err := bolt.Open(context.Background(), path, nil)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, path)
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// TestFileSizeLimit lets no file of this process grow. The system refuses when bbolt makes its file larger, and bbolt
// passes on the text of that error alone.
func TestFileSizeLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, counted, p := openPool(t, path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	limit := before
	limit.Cur = uint64(info.Size())
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	restore := func() { require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before)) }
	defer restore()

	var steps []pool.Step
	for i := range 200 {
		steps = append(steps, pool.Allocate(pool.Claim{Owner: fmt.Sprint(i)}))
	}
	_, err = p.All(t.Context(), steps...)
	require.ErrorIs(t, err, syscall.EFBIG)
	require.EqualValues(t, 2, counted.commits.Load(), "commits that were tried, with that which made the pool")
	restore()
	_, err = p.All(t.Context(), steps...)
	require.NoError(t, err)
	require.NoError(t, s.Close())
}
