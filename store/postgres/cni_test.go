package postgres_test

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ipalloc/ipalloc/internal/cnitest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
)

// TestCNI has the CNI plugin of two nodes share a PostgreSQL server, also while the server restarts.
func TestCNI(t *testing.T) {
	s := ownServer(t)
	cnitest.Cluster{
		Program: "ipalloc-postgres", Modules: "../..", Server: s.Addr,
		URL: func(_ *testing.T, addr string) string {
			return "postgres://postgres@" + addr + "/postgres?sslmode=disable&schema=cni"
		},
		Restart: func() {
			assert.NoError(t, s.Stop(os.Interrupt))
			assert.NoError(t, s.Restart())
		},
		Open: func(ctx context.Context) (store.Store, error) {
			return postgres.Open(ctx, s.url("postgres"), &postgres.Options{Schema: "cni"})
		},
	}.Run(t)
}
