package bolt_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/filetest"
	"github.com/ipalloc/ipalloc/store/bolt"
)

func TestMain(m *testing.M) {
	filetest.Main(m, map[string]func(path string) error{
		"hold": hold, "commit": driver.CommitForEver, "limited": limited,
		"limited spare": limitedSpare, "limited shrink": limitedShrink,
	})
}

// hold opens the store and keeps it open.
func hold(path string) error {
	if _, err := bolt.Open(context.Background(), path, nil); err != nil {
		return err
	}
	fmt.Println("open")
	select {}
}

// TestLockedByAnotherProcess has a child hold the file, and expects to get it when the child is killed.
func TestLockedByAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	child, output := filetest.StartChild(t, "hold", path)
	line, err := output.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "open\n", line)

	_, err = bolt.Open(t.Context(), path, nil)
	require.ErrorIs(t, err, bolt.ErrLocked)
	require.ErrorContains(t, err, path)

	opened := make(chan error, 1)
	go func() {
		s, err := bolt.Open(t.Context(), path, &bolt.Options{LockWait: time.Minute})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	require.NoError(t, child.Process.Kill())
	_ = child.Wait()
	require.NoError(t, <-opened)
}

// TestKilled kills a child that commits, at random moments, some while it creates the file. Each commit that the child
// has said to have returned must be there, whole, and nothing by half.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	driver.Killed(t, nil)
}
