package sqlite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/filetest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/sqlite"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestWatchOtherProcess follows the commits of another process: the last of them is never missed.
func TestWatchOtherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := sqlite.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	seen := make(chan store.Record)
	failed := make(chan error, 1)
	go func() {
		for revision := int64(0); ; {
			r, err := s.Watch(t.Context(), headA, revision)
			if err != nil {
				failed <- err
				return
			}
			seen <- r
			revision = r.Revision
		}
	}()
	child, output := filetest.StartChild(t, "commit", path)
	var latest store.Record
	for range 5 { // the child goes on meanwhile
		latest = <-seen
	}
	require.NoError(t, child.Process.Kill())
	_ = child.Wait()
	_, _ = output.ReadString(0)
	last, err := s.Get(t.Context(), headA)
	require.NoError(t, err)
	for latest.Revision != last.Revision {
		latest = <-seen
	}
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-failed, store.ErrClosed)
}

// TestShrink deletes most of what a file holds, and then makes some more commits. The file becomes small again while it
// is open, and holds what it is to hold.
func TestShrink(t *testing.T) {
	const held, left = 12_000, 100
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := sqlite.Open(t.Context(), path, nil)
	require.NoError(t, err)
	fill(t, s, 0, held)
	checkpoint := func() int64 {
		require.NoError(t, execute(t, path, "PRAGMA wal_checkpoint(PASSIVE)"))
		info, err := os.Stat(path)
		require.NoError(t, err)
		return info.Size()
	}
	full := checkpoint()
	head := change(t, s, store.Delete, left, held)
	for range 150 {
		head, err = storetest.CommitOne(t.Context(), s, head)
		require.NoError(t, err)
	}
	small := checkpoint()
	require.Less(t, small, full/2, "of %d bytes, %d are left", full, small)
	n := 0
	for r, err := range s.List(t.Context(), store.KindAllocation, "a") {
		require.NoError(t, err)
		require.Less(t, r.Revision, head.Revision)
		n++
	}
	require.Equal(t, left, n)
	require.NoError(t, s.Close())
	info, err := os.Stat(path + "-wal")
	require.NoError(t, err)
	require.Zero(t, info.Size(), "the log is empty when the last one has closed the file")
	requireSound(t, path)
}

// TestReadersAreNotBlocked reads while another process is stopped in the middle of a transaction that writes.
func TestReadersAreNotBlocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := sqlite.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	head := fill(t, s, 0, 10)
	shell(t, path, "SELECT 1") // skips the test without the program
	writer := exec.Command("sqlite3", "-batch", path)
	input, err := writer.StdinPipe()
	require.NoError(t, err)
	output, err := writer.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, writer.Start())
	_, err = fmt.Fprintln(input, "BEGIN IMMEDIATE; UPDATE record SET state = 'x'; SELECT 'locked';")
	require.NoError(t, err)
	_, err = output.Read(make([]byte, 100))
	require.NoError(t, err)

	filetest.Returns(t, "a read", func() {
		for i := range 10 {
			r, err := s.Get(t.Context(), allocation(i).Key)
			require.NoError(t, err)
			require.Equal(t, "allocated", r.State)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	head.Data = json.RawMessage(`1`)
	_, err = storetest.CommitOne(ctx, s, head)
	require.ErrorIs(t, err, ctx.Err())
	require.NotErrorIs(t, err, store.ErrUnknown)
	committed := make(chan error)
	go func() {
		_, err := storetest.CommitOne(t.Context(), s, head)
		committed <- err
	}()
	require.NoError(t, input.Close()) // which ends the program, and its transaction
	require.NoError(t, writer.Wait())
	require.NoError(t, <-committed)
}
