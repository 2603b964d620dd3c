package postgres_test

import (
	"testing"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// TestWorld has processes work on pools of one network, kills and stops them, and breaks their connections.
func TestWorld(t *testing.T) {
	if at, ok := childPlace(); ok {
		pooltest.WorkInWorld(t, at.open)
		return
	}
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	server, schema := sharedServer(t), newSchema()
	pooltest.World{
		Open:    place{server.url("postgres"), schema}.open,
		Network: func(t *testing.T) pooltest.Network { return proxy.New(t, server.addr) },
		Child:   func(addr string) []string { return place{urlAt(addr, "postgres"), schema}.child() },
	}.Run(t)
}
