package postgres_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestIsolation has writers contend for heads, one and several at once, and for a record beside them, under each
// default isolation level that a database can have. All that they may see is conflicts, and no commit is lost.
func TestIsolation(t *testing.T) {
	for _, level := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			db := connect(t, sharedServer(t).url("postgres"), parameter("default_transaction_isolation", level))
			s, err := postgres.New(t.Context(), db, &postgres.Options{Schema: newSchema()})
			require.NoError(t, err)
			requireWorks(t, s)
			const writers, each = 4, 25
			errs := make([]error, writers)
			var wg sync.WaitGroup
			for i := range writers {
				wg.Go(func() {
					for n := range each {
						errs[i] = errors.Join(errs[i], contend(t, s, fmt.Sprint(i, " ", n), n%2 == 0))
					}
				})
			}
			wg.Wait()
			require.NoError(t, errors.Join(errs...))
			n := 0
			for r, err := range s.List(t.Context(), store.KindAllocation, "one") {
				require.NoError(t, err)
				require.NotEqual(t, "last", r.Name)
				n++
			}
			require.Equal(t, writers*each, n)
		})
	}
}

// contend creates a record beside one or two heads, which others want to change too, and beside a record that is
// written with heads of its own.
func contend(t *testing.T, s *postgres.Store, name string, both bool) error {
	for {
		changes := []store.Change{{Head: head("one"), Writes: []store.Write{create(allocation("one", name, ""))}}}
		if both {
			changes = append(changes,
				store.Change{Head: head("two"), Writes: []store.Write{put(holding("other", "shared", "last", ""))}})
		}
		for i := range changes {
			stored, err := s.Get(t.Context(), changes[i].Head.Key)
			switch {
			case err == nil:
				changes[i].Head = stored
			case !errors.Is(err, store.ErrNotFound):
				return err
			}
		}
		_, err := s.Commit(t.Context(), changes...)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// TestRevisionsDoNotFall has a record with a revision that another commit, which began later, has written. A commit
// does not put a lower one in its place.
func TestRevisionsDoNotFall(t *testing.T) {
	url, schema := sharedServer(t).url("postgres"), newSchema()
	s := open(t, url, schema)
	h, err := storetest.CommitOne(t.Context(), s, head("a"), create(allocation("a", "x", "10.0.0.1/32")))
	require.NoError(t, err)
	execute(t, url, schema, "UPDATE allocation SET revision = revision + 1000")
	_, err = storetest.CommitOne(t.Context(), s, h, put(allocation("a", "x", "10.0.0.2/32")))
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "40001", refused.Code)
	require.NotErrorIs(t, err, store.ErrUnknown)
	got, err := s.Get(t.Context(), h.Key)
	require.NoError(t, err)
	require.Equal(t, h.Revision, got.Revision)
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
