package bolt_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// poolChildPath is the environment variable that makes a test of this file, or of pool_process_test.go, its own child:
// a process that works on the pool in the file that the variable names.
const poolChildPath = "BOLT_TEST_POOL_PATH"

// TestPoolKilled kills a child whose workers allocate and release, while the file shrinks again and again.
func TestPoolKilled(t *testing.T) {
	if path := os.Getenv(poolChildPath); path != "" {
		s, err := bolt.Open(t.Context(), path, nil)
		if err == nil {
			bolt.ShrinkForEver(s)
		}
		pooltest.Work(t, s, err)
		return
	}
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	last, smaller := int64(0), 0
	pooltest.Killing{
		Open:  func(ctx context.Context) (store.Store, error) { return bolt.Open(ctx, path, nil) },
		Child: []string{poolChildPath + "=" + path},
		Recover: func() error {
			contents(t, path)
			size := fileSize(t, path)
			if size < last {
				smaller++
			}
			last = size
			return nil
		},
		Rounds: 25, Calls: 3000,
	}.Run(t)
	require.Positive(t, smaller, "the file never shrank")
}
