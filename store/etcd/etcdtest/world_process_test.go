package etcdtest_test

import (
	"context"
	"os"
	"testing"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// TestWorld has processes work on pools of one network, kills and stops them, and breaks their connections.
func TestWorld(t *testing.T) {
	open := func(addr string) func(context.Context) (store.Store, error) {
		return func(ctx context.Context) (store.Store, error) { return etcd.Open(ctx, clientConfig(addr), nil) }
	}
	if addr := os.Getenv(poolChildAddr); addr != "" {
		pooltest.WorkInWorld(t, open(addr))
		return
	}
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	server := startServer(t)
	pooltest.World{
		Open:    open(server.addr),
		Network: func(t *testing.T) pooltest.Network { return proxy.New(t, server.addr) },
		Child:   func(addr string) []string { return []string{poolChildAddr + "=" + addr} },
	}.Run(t)
	requireExactIndexes(t, server, "/ipalloc/")
}
