package mysql_test

import (
	"testing"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store/mysql"
)

// TestPoolProcesses has many processes allocate from one pool at once.
func TestPoolProcesses(t *testing.T) {
	if at, ok := childPlace(); ok {
		s, err := mysql.Open(t.Context(), at.dsn, &mysql.Options{Schema: at.schema})
		pooltest.Race(t, s, err)
		return
	}
	if testing.Short() {
		t.Skip("starts processes")
	}
	at := place{sharedServer(t).dsn(), newSchema()}
	pooltest.Racing{Open: at.open, Child: at.child()}.Run(t)
}
