package mysql_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/mysql"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestIsolation has writers contend for heads, one and several at once, and for a record beside them, under each
// isolation level that a session can have by default. All that they may see is conflicts, and no commit is lost.
func TestIsolation(t *testing.T) {
	for _, level := range []string{"READ-UNCOMMITTED", "READ-COMMITTED", "REPEATABLE-READ", "SERIALIZABLE"} {
		t.Run(level, func(t *testing.T) {
			db := connect(t, sharedServer(t).dsn(), func(config *driver.Config) {
				config.Params = map[string]string{"tx_isolation": "'" + level + "'"}
			})
			s := openOn(t, db, 8, newSchema())
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
func contend(t *testing.T, s *mysql.Store, name string, both bool) error {
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
	dsn, schema := sharedServer(t).dsn(), newSchema()
	s := open(t, dsn, schema)
	h, err := storetest.CommitOne(t.Context(), s, head("a"), create(allocation("a", "x", "10.0.0.1/32")))
	require.NoError(t, err)
	execute(t, dsn, schema, "UPDATE record SET revision = revision + 1000 WHERE kind = 'allocation'")
	_, err = storetest.CommitOne(t.Context(), s, h, put(allocation("a", "x", "10.0.0.2/32")))
	require.ErrorContains(t, err, "later commit")
	require.NotErrorIs(t, err, store.ErrUnknown)
	got, err := s.Get(t.Context(), h.Key)
	require.NoError(t, err)
	require.Equal(t, h.Revision, got.Revision)
}

// TestSearchesUseIndexes asks the server how it would run what is asked for in large tables.
func TestSearchesUseIndexes(t *testing.T) {
	dsn, schema := sharedServer(t).dsn(), newSchema()
	s := open(t, dsn, schema)
	h := head("a")
	for part := range 2 {
		writes := make([]store.Write, 0, 1000)
		for i := range 1000 {
			prefix := fmt.Sprintf("10.%d.%d.%d/32", part, i/200, i%200)
			writes = append(writes, create(allocation("a", fmt.Sprint(part, " ", i), prefix)))
		}
		var err error
		h, err = storetest.CommitOne(t.Context(), s, h, writes...)
		require.NoError(t, err)
	}
	db, in := connect(t, dsn), schemaMark(schema)
	for _, query := range []string{
		"SELECT * FROM " + in + "record WHERE kind = 'allocation' AND pool = 'a' AND name > '1 5' ORDER BY name LIMIT 256",
		"SELECT * FROM " + in + "record WHERE kind = 'allocation' AND pool = 'a' AND expires > '2026-01-01' " +
			"ORDER BY expires, name LIMIT 8",
		"SELECT last FROM " + in + "address WHERE pool = 'a' AND family = 4 AND first <= INET6_ATON('10.1.0.7') " +
			"ORDER BY first DESC LIMIT 1",
	} {
		rows, err := db.QueryContext(t.Context(), "EXPLAIN "+query)
		require.NoError(t, err)
		columns, err := rows.Columns()
		require.NoError(t, err)
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new([]byte)
		}
		require.True(t, rows.Next())
		require.NoError(t, rows.Scan(values...))
		plan := ""
		for _, value := range values {
			plan += string(*value.(*[]byte)) + " "
		}
		require.Contains(t, plan, " range ", query)
		require.NotContains(t, plan, "filesort", query)
		require.NoError(t, rows.Close())
	}
}
