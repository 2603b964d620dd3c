package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/filetest"
	"github.com/ipalloc/ipalloc/store/sqlite"
)

func TestMain(m *testing.M) {
	filetest.Main(m, map[string]func(path string) error{"hold": hold, "commit": driver.CommitForEver})
}

// hold draws a ticket of the line, so that it has its turn, and never ends it.
func hold(path string) error {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	if _, err := s.Turn(ctx, headA); err != nil {
		return err
	}
	fmt.Println("turn")
	select {}
}

// TestKilled kills a child that commits, at random moments, some while it creates the file. Each commit that the child
// has said to have returned must be there, whole, and nothing by half. Most of them are in the log then, which the next
// one that opens the file takes over.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	logs := 0
	driver.Killed(t, func(path string) {
		if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
			logs++
		}
	})
	require.Positive(t, logs, "no kill left a log")
}
