package etcdtest_test

import (
	"testing"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
)

func TestPoolFair(t *testing.T) {
	server := startServer(t)
	pooltest.Fair(t, func() store.Store { return openStore(t, server.addr) })
	requireExactIndexes(t, server, "/ipalloc/")
}

func TestPoolOperators(t *testing.T) {
	server := startServer(t)
	pooltest.Operators(t, func() store.Store { return openStore(t, server.addr) })
	requireExactIndexes(t, server, "/ipalloc/")
}
