package mysql_test

import (
	"database/sql"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/internal/servertest"
)

// TestPoolKilled kills a child whose workers allocate and release.
func TestPoolKilled(t *testing.T) {
	if tests.WorkAsChild(t) {
		return
	}
	server := sharedServer(t)
	db, children := connect(t, server.dsn()), server.config.Clone()
	children.DBName = childDB
	execute(t, server.dsn(), "", "CREATE DATABASE IF NOT EXISTS "+childDB)
	tests.Kill(t, children.FormatDSN(), pooltest.Killing{
		Recover: func() error { return awaitNone(t, db, "db = '"+childDB+"'") },
		Rounds:  4, Calls: 500,
	})
}

// childDB is the database that children name when they connect, by which their sessions are known.
const childDB = "children"

// atWork are the sessions of tests that are not idle.
const atWork = "command <> 'Sleep' AND user = '" + servertest.MariaDBUser + "'"

// awaitNone waits until no other session is of a kind: what those of a lost client were doing they do to the end.
func awaitNone(t *testing.T, db *sql.DB, where string) error {
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		n := 0
		err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM information_schema.processlist "+
			"WHERE id <> CONNECTION_ID() AND "+where).Scan(&n)
		if err == nil && n > 0 && time.Now().After(deadline) {
			err = fmt.Errorf("%d sessions of a lost client are still there", n)
		}
		if err != nil || n == 0 {
			return err
		}
	}
}

// TestServerKilled kills the server amid the work of such a child, and has it stop in an orderly way. In either case it
// recovers from its log.
func TestServerKilled(t *testing.T) {
	if tests.WorkAsChild(t) {
		return
	}
	s := ownServer(t)
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			tests.Kill(t, s.dsn(), pooltest.Killing{
				Kill:    func() error { return s.Stop(signal) },
				Recover: s.Restart,
				Rounds:  3, Calls: 150,
			})
		})
	}
}
