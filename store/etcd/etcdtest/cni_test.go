package etcdtest_test

import (
	"context"
	"testing"

	"github.com/ipalloc/ipalloc/internal/cnitest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
)

// TestCNI has the CNI plugin of two nodes share an etcd server, also while the server restarts.
func TestCNI(t *testing.T) {
	s := newServer(t, true)
	s.start(t)
	s.ready(t)
	cnitest.Cluster{
		Program: "ipalloc-etcd", Modules: "../../..", Server: s.addr,
		URL:     func(_ *testing.T, addr string) string { return "etcd://" + addr + "/cni/" },
		Restart: func() { s.restart(t) },
		Open: func(ctx context.Context) (store.Store, error) {
			return etcd.Open(ctx, clientConfig(s.addr), &etcd.Options{Prefix: "/cni/"})
		},
	}.Run(t)
}
