package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/mysql"
)

// The environment variables that make a test of this file, or of pool_process_test.go, its own child: a process that
// works on the pool in the schema that they name.
const (
	poolChildDSN    = "MYSQL_TEST_POOL_DSN"
	poolChildSchema = "MYSQL_TEST_POOL_SCHEMA"
)

// place is where a pool is.
type place struct{ dsn, schema string }

// childPlace is the place that this process is to work on, if it is a child.
func childPlace() (place, bool) {
	dsn, ok := os.LookupEnv(poolChildDSN)
	return place{dsn, os.Getenv(poolChildSchema)}, ok
}

func (at place) open(ctx context.Context) (store.Store, error) {
	return mysql.Open(ctx, at.dsn, &mysql.Options{Schema: at.schema})
}

// child is the environment that makes a test a child that works on the place.
func (at place) child() []string {
	return []string{poolChildDSN + "=" + at.dsn, poolChildSchema + "=" + at.schema}
}

// workAsChild tells whether this process is a child, which it is until it is killed.
func workAsChild(t *testing.T) bool {
	t.Helper()
	at, ok := childPlace()
	if ok {
		s, err := at.open(t.Context())
		pooltest.Work(t, s, err)
	}
	return ok
}

// TestPoolKilled kills a child whose workers allocate and release.
func TestPoolKilled(t *testing.T) {
	if workAsChild(t) {
		return
	}
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	dsn, schema := sharedServer(t).dsn(), newSchema()
	at, db := place{dsn, schema}, connect(t, dsn)
	pooltest.Killing{
		Open:    at.open,
		Child:   at.child(),
		Recover: func() error { return awaitCommits(t, db, schema) },
		Rounds:  4, Calls: 500,
	}.Run(t)
}

// awaitCommits waits until the commits of a child that was killed have ended: what its sessions were doing they do to
// the end.
func awaitCommits(t *testing.T, db *sql.DB, schema string) error {
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		n := 0
		err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM information_schema.processlist "+
			"WHERE command <> 'Sleep' AND id <> CONNECTION_ID() AND INSTR(info, ?) > 0", schemaMark(schema)).Scan(&n)
		if err == nil && n > 0 && time.Now().After(deadline) {
			err = fmt.Errorf("%d sessions of a killed process are still there", n)
		}
		if err != nil || n == 0 {
			return err
		}
	}
}

// TestServerKilled kills the server amid the work of such a child, and has it stop in an orderly way. In either case it
// recovers from its log.
func TestServerKilled(t *testing.T) {
	if workAsChild(t) {
		return
	}
	if testing.Short() {
		t.Skip("starts and kills a server")
	}
	s := ownServer(t)
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			at := place{s.dsn(), newSchema()}
			pooltest.Killing{
				Open:    at.open,
				Child:   at.child(),
				Kill:    func() error { return s.stop(signal) },
				Recover: s.restart,
				Rounds:  3, Calls: 150,
			}.Run(t)
		})
	}
}
