package postgres_test

import (
	"testing"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store/postgres"
)

// TestPoolProcesses has many processes allocate from one pool at once.
func TestPoolProcesses(t *testing.T) {
	if at, ok := childPlace(); ok {
		s, err := postgres.Open(t.Context(), at.url, &postgres.Options{Schema: at.schema})
		pooltest.Race(t, s, err)
		return
	}
	if testing.Short() {
		t.Skip("starts processes")
	}
	at := place{sharedServer(t).url("postgres"), newSchema()}
	pooltest.Racing{Open: at.open, Child: at.child()}.Run(t)
}
