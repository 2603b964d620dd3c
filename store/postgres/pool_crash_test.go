package postgres_test

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
)

// The environment variables that make a test of this file, or of pool_process_test.go, its own child: a process that
// works on the pool in the schema that they name.
const (
	poolChildURL    = "POSTGRES_TEST_POOL_URL"
	poolChildSchema = "POSTGRES_TEST_POOL_SCHEMA"
)

// place is where a pool is.
type place struct{ url, schema string }

// childPlace is the place that this process is to work on, if it is a child.
func childPlace() (place, bool) {
	url, ok := os.LookupEnv(poolChildURL)
	return place{url, os.Getenv(poolChildSchema)}, ok
}

func (at place) open(ctx context.Context) (store.Store, error) {
	return postgres.Open(ctx, at.url, &postgres.Options{Schema: at.schema})
}

// child is the environment that makes a test a child that works on the place.
func (at place) child() []string {
	return []string{poolChildURL + "=" + at.url, poolChildSchema + "=" + at.schema}
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
	url := sharedServer(t).url("postgres")
	at, db := place{url + "&application_name=" + poolChildName, newSchema()}, connect(t, url)
	pooltest.Killing{
		Open:    at.open,
		Child:   at.child(),
		Recover: func() error { return awaitSessions(t, db) },
		Rounds:  8, Calls: 2000,
	}.Run(t)
}

// poolChildName is the name of the sessions of children.
const poolChildName = "ipalloc_child"

// awaitSessions waits until the sessions of a child that was killed have ended: what they were doing they do to the
// end.
func awaitSessions(t *testing.T, db *pgxpool.Pool) error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		n := 0
		err := db.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", poolChildName).
			Scan(&n)
		if err == nil && n > 0 && time.Now().After(deadline) {
			err = fmt.Errorf("%d sessions of a killed process are still there", n)
		}
		if err != nil || n == 0 {
			return err
		}
	}
}

// TestServerKilled kills the server amid the work of such a child: with SIGKILL to the process that starts all others,
// whose sessions so end by and by, and with an immediate shutdown. In either case it recovers from its log.
func TestServerKilled(t *testing.T) {
	if workAsChild(t) {
		return
	}
	if testing.Short() {
		t.Skip("starts and kills a server")
	}
	// A commit that waits for the disk is often under way when the server is killed.
	s := ownServer(t, "-c", "fsync=on")
	for _, signal := range []os.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			at := place{s.url("postgres"), newSchema()}
			pooltest.Killing{
				Open:    at.open,
				Child:   at.child(),
				Kill:    func() error { return s.stop(signal) },
				Recover: s.restart,
				Rounds:  8, Calls: 300,
				AnswersAll: signal == syscall.SIGKILL, // a session that lost its parent first answers
			}.Run(t)
		})
	}
}
