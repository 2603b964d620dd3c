package etcdtest_test

import (
	"context"
	"os"
	"testing"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
)

// poolChildAddr is the environment variable that makes a test of this file its own child: a process that works on the
// pool in the server whose address the variable has.
const poolChildAddr = "ETCD_TEST_POOL_ADDR"

// TestPoolKilled kills a child whose workers allocate and release.
func TestPoolKilled(t *testing.T) {
	if addr := os.Getenv(poolChildAddr); addr != "" {
		pooltest.Work(t, openStore(t, addr), nil)
		return
	}
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	server := startServer(t)
	open := func(ctx context.Context) (store.Store, error) { return etcd.Open(ctx, clientConfig(server.addr), nil) }
	pooltest.Killing{
		Open:    open,
		Child:   []string{poolChildAddr + "=" + server.addr},
		Recover: func() error { return pooltest.Fence(t.Context(), open) },
		Rounds:  25, Calls: 3000,
	}.Run(t)
	requireExactIndexes(t, server, "/ipalloc/")
}
