package etcdtest_test

import (
	"context"
	"os"
	"testing"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
)

// TestPoolProcesses has many processes allocate from one pool at once.
func TestPoolProcesses(t *testing.T) {
	open := func(addr string) func(context.Context) (store.Store, error) {
		return func(ctx context.Context) (store.Store, error) { return etcd.Open(ctx, clientConfig(addr), nil) }
	}
	if addr := os.Getenv(poolChildAddr); addr != "" {
		s, err := open(addr)(t.Context())
		pooltest.Race(t, s, err)
		return
	}
	if testing.Short() {
		t.Skip("starts processes")
	}
	server := startServer(t)
	pooltest.Racing{Open: open(server.addr), Child: []string{poolChildAddr + "=" + server.addr}}.Run(t)
	requireExactIndexes(t, server, "/ipalloc/")
}
