package postgres_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ipalloc/ipalloc/internal/pooltest"
)

// TestPoolKilled kills a child whose workers allocate and release.
func TestPoolKilled(t *testing.T) {
	if tests.WorkAsChild(t) {
		return
	}
	url := sharedServer(t).url("postgres")
	db := connect(t, url)
	tests.Kill(t, url+"&application_name="+poolChildName, pooltest.Killing{
		Recover: func() error { return awaitSessions(t, db) },
		Rounds:  8, Calls: 2000,
	})
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
	if tests.WorkAsChild(t) {
		return
	}
	// A commit that waits for the disk is often under way when the server is killed.
	s := ownServer(t, "-c", "fsync=on")
	for _, signal := range []os.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			tests.Kill(t, s.url("postgres"), pooltest.Killing{
				Kill:    func() error { return s.Stop(signal) },
				Recover: s.Restart,
				Rounds:  8, Calls: 300,
				AnswersAll: signal == syscall.SIGKILL, // a session that lost its parent first answers
			})
		})
	}
}
