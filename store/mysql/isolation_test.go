package mysql_test

import (
	"fmt"
	"testing"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestIsolation is under each isolation level that a session can have by default.
func TestIsolation(t *testing.T) {
	for _, level := range []string{"READ-UNCOMMITTED", "READ-COMMITTED", "REPEATABLE-READ", "SERIALIZABLE"} {
		t.Run(level, func(t *testing.T) {
			db := connect(t, sharedServer(t).dsn(), func(config *driver.Config) {
				config.Params = map[string]string{"tx_isolation": "'" + level + "'"}
			})
			tests.Isolation(t, openOn(t, db, 8, newSchema()))
		})
	}
}

func TestRevisionsDoNotFall(t *testing.T) {
	err := tests.RevisionsDoNotFall(t, "UPDATE record SET revision = revision + 1000 WHERE kind = 'allocation'")
	require.ErrorContains(t, err, "later commit")
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
			r := allocation("a", fmt.Sprint(part, " ", i), prefix)
			r.Labels = map[string]string{"node": fmt.Sprint(i % 10)}
			writes = append(writes, create(r))
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
		"SELECT name FROM " + in + "label WHERE pool = 'a' AND hash = UNHEX(SHA2('4:node7', 256)) AND name > '1 5' " +
			"ORDER BY name LIMIT 32",
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
