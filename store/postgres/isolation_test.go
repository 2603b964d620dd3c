package postgres_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestIsolation is under each default isolation level that a database can have.
func TestIsolation(t *testing.T) {
	for _, level := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			db := connect(t, sharedServer(t).url("postgres"), parameter("default_transaction_isolation", level))
			tests.Isolation(t, openOn(t, db, newSchema()))
		})
	}
}

func TestRevisionsDoNotFall(t *testing.T) {
	var refused *pgconn.PgError
	require.ErrorAs(t, tests.RevisionsDoNotFall(t, "UPDATE allocation SET revision = revision + 1000"), &refused)
	require.Equal(t, "40001", refused.Code)
}

// TestHeadCreatedMeanwhile has a commit look for a head that is not there yet, and wait; meanwhile another creates it,
// with a record that both want to create. That the head is another one is what the first must say, not that the record
// exists.
func TestHeadCreatedMeanwhile(t *testing.T) {
	url, schema := sharedServer(t).url("postgres"), newSchema()
	s, db := open(t, url, schema), connect(t, url)
	b, err := storetest.CommitOne(t.Context(), s, head("b"))
	require.NoError(t, err)
	locked, err := db.Begin(t.Context())
	require.NoError(t, err)
	_, err = locked.Exec(t.Context(),
		"SELECT FROM "+quoted(schema)+".record WHERE kind = 'pool' AND pool = 'b' FOR UPDATE")
	require.NoError(t, err)
	writes := []store.Write{create(allocation("a", "x", "10.0.0.1/32"))}
	result := make(chan error, 1)
	go func() {
		_, err := s.Commit(t.Context(), store.Change{Head: head("a"), Writes: writes}, store.Change{Head: b})
		result <- err
	}()
	require.Eventually(t, func() bool {
		var waits bool
		err := db.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND "+
			"strpos(query, $1) > 0)", quoted(schema)).Scan(&waits)
		return err == nil && waits
	}, time.Minute, time.Millisecond)
	other := open(t, url, schema)
	turn, err := other.Turn(t.Context(), head("c").Key) // at another head, so it does not wait at this one
	require.NoError(t, err)
	heads, err := other.Commit(t.Context(), store.Change{Head: head("a"), Writes: writes, Turn: turn})
	require.NoError(t, err)
	created := heads[0]
	require.NoError(t, locked.Rollback(t.Context()))
	var conflict *store.ConflictError
	require.ErrorAs(t, <-result, &conflict)
	require.Equal(t, created.Key, conflict.Current.Key)
	require.Equal(t, created.Revision, conflict.Current.Revision)
}
