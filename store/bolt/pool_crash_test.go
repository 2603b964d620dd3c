package bolt_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// poolChildPath is the environment variable that makes a test of this file, or of pool_process_test.go, its own child: a
// process that works on the pool in the file that the variable names.
const poolChildPath = "BOLT_TEST_POOL_PATH"

// TestPoolKilled kills a child whose workers allocate and release.
func TestPoolKilled(t *testing.T) {
	if path := os.Getenv(poolChildPath); path != "" {
		s, err := bolt.Open(t.Context(), path, nil)
		pooltest.Work(t, s, err)
		return
	}
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	pooltest.Killing{
		Open:   func(ctx context.Context) (store.Store, error) { return bolt.Open(ctx, path, nil) },
		Child:  []string{poolChildPath + "=" + path},
		Rounds: 25, Calls: 3000,
	}.Run(t)
}

// What pool_process_test.go takes from pooltest.

const crashPool = pooltest.Name

type crashEvent = pooltest.Event

func crashSpec(t *testing.T) pool.Spec { return pooltest.Spec(t) }

func startPoolChild(t *testing.T, path string, env ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	return pooltest.Start(t, append(env, poolChildPath+"="+path)...)
}

func readEvents(output io.Reader, take func(crashEvent)) string {
	return pooltest.ReadEvents(output, take)
}

func allocateTold(ctx context.Context, p *pool.Pool, c pool.Claim) error {
	return pooltest.Allocate(ctx, p, c)
}

func releaseTold(ctx context.Context, p *pool.Pool, owner string) error {
	return pooltest.Release(ctx, p, owner)
}

func requireConsistent(t *testing.T, p *pool.Pool) map[string]pool.Allocation {
	t.Helper()
	return pooltest.RequireConsistent(t, p)
}
