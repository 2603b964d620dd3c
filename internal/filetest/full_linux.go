package filetest

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/internal/unmet"
	"github.com/ipalloc/ipalloc/pool"
)

// smallDisk mounts a file system of that size, which resize changes.
func smallDisk(t *testing.T, size string) (folder string, resize func(size string)) {
	t.Helper()
	folder = t.TempDir()
	unmet.Skip(t, syscall.Mount("none", folder, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(folder, 0)) })
	return folder, func(size string) {
		require.NoError(t, syscall.Mount("none", folder, "tmpfs", syscall.MS_REMOUNT, "size="+size))
	}
}

// FullDisk fills a disk of that size with allocations. The first that finds no room fails at once and says so, nothing
// is lost, and the store goes on when there is room.
func (d Driver) FullDisk(t *testing.T, size string) {
	folder, resize := smallDisk(t, size)
	path := filepath.Join(folder, "ipalloc.db")
	s, err := d.Open(t.Context(), path, false)
	require.NoError(t, err)
	counted := &Counting{Store: s}
	p, err := pool.Create(t.Context(), counted, pooltest.Name, pooltest.Spec(t), nil)
	require.NoError(t, err)

	granted := map[string]pool.Allocation{}
	owner := ""
	for err == nil {
		require.Less(t, len(granted), 5000, "the disk does not fill")
		owner = fmt.Sprint("owner-", len(granted))
		counted.Commits.Store(0)
		var a pool.Allocation
		if a, err = p.Allocate(t.Context(), pool.Claim{Owner: owner}); err == nil {
			granted[owner] = a
		}
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, "no space left on device")
	require.ErrorContains(t, err, path)
	require.EqualValues(t, 1, counted.Commits.Load(), "commits that were tried")
	requireGranted(t, p, granted)

	resize("10m")
	granted[owner], err = p.Allocate(t.Context(), pool.Claim{Owner: owner})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	s, err = d.Open(t.Context(), path, false)
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

// CreateOnFullDisk creates a store on a disk of that size, which is too small. Nothing is left behind.
func (d Driver) CreateOnFullDisk(t *testing.T, size string) {
	folder, _ := smallDisk(t, size)
	path := filepath.Join(folder, "ipalloc.db")
	_, err := d.Open(t.Context(), path, false)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, path)
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, entries)
}
