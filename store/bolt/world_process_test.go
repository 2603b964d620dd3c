package bolt_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// TestWorld has processes take turns with one file, each for a few calls, and kills and stops them. The file shrinks
// again and again.
func TestWorld(t *testing.T) {
	if path := os.Getenv(poolChildPath); path != "" {
		pooltest.WorkInWorld(t, func(ctx context.Context) (store.Store, error) {
			s, err := bolt.Open(ctx, path, &bolt.Options{LockWait: time.Minute})
			if err == nil {
				bolt.ShrinkForEver(s)
			}
			return s, err
		})
		return
	}
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	pooltest.World{
		Open:  func(ctx context.Context) (store.Store, error) { return bolt.Open(ctx, path, nil) },
		Child: func(string) []string { return []string{poolChildPath + "=" + path} },
		Calls: 16,
	}.Run(t)
}
