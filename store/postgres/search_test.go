package postgres_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store/postgres"
)

// TestSearchesUseIndexes counts the pages that the server reads among 60,000 records in two pools for what a store asks
// for, with a plan that holds for all arguments: with statistics, and without, as in tables that were just loaded.
func TestSearchesUseIndexes(t *testing.T) {
	url, schema := sharedServer(t).url("postgres"), newSchema()
	open(t, url, schema)
	execute(t, url, schema, "ALTER TABLE allocation SET (autovacuum_enabled = off)",
		"ALTER TABLE address SET (autovacuum_enabled = off)",
		`INSERT INTO allocation (kind, pool, name, revision, prefixes, expires)
		SELECT 'allocation', 'lab' || i % 2, 'owner ' || i, 1, ARRAY[('10.0.0.0'::inet + i)::cidr],
		'2026-01-01'::timestamptz + i * interval '1 second' FROM generate_series(1, 60000) i`)
	db := connect(t, url, func(c *pgxpool.Config) { c.MaxConns = 1 }) // a prepared statement belongs to a connection
	_, err := db.Exec(t.Context(), "SET plan_cache_mode = force_generic_plan")
	require.NoError(t, err)
	for name, sql := range postgres.Searches(schema) {
		_, err := db.Exec(t.Context(), fmt.Sprintf("PREPARE search_%s AS %s", name, sql))
		require.NoError(t, err)
	}
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			execute(t, url, schema, "ANALYZE allocation", "ANALYZE address")
		}
		for call, want := range map[string]int{
			`get('allocation', 'lab1', 'owner 7')`:                               1,
			`listPool('allocation', 'lab1', '', 8)`:                              8,
			`listPool('allocation', 'lab1', 'owner 5', 8)`:                       8,
			`listPool('allocation', 'none', '', 8)`:                              0,
			`listAll('allocation', '', '', 8)`:                                   8,
			`listAll('allocation', 'lab1', 'owner 5', 8)`:                        8,
			`byExpiry('allocation', 'lab1', '0001-01-01', '', 8)`:                8,
			`byExpiry('allocation', 'lab1', '2026-01-01 08:00', 'owner 5', 8)`:   8,
			`byExpiry('allocation', 'lab1', '2026-01-01 23:00', 'owner 5', 256)`: 0,
			`find('lab1', '10.0.0.7')`:                                           1,
			`find('lab1', '10.0.200.7')`:                                         1,
			`find('lab1', '10.0.200.8')`:                                         0,
			`find('lab1', '10.2.0.8')`:                                           0,
		} {
			call := "EXECUTE search_" + call
			buffers(t, db, call) // with what is read of the catalogue, once in a session
			rows, pages := buffers(t, db, call)
			t.Log(analyzed, call, pages)
			require.Equal(t, want, rows, call)
			require.LessOrEqual(t, pages, 30+4*want, "%s with statistics: %v", call, analyzed)
		}
	}
}
