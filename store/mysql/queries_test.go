package mysql_test

import (
	"database/sql"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/pool"
)

// TestDocumentedQueries runs the queries of the package comment on pools of package pool.
func TestDocumentedQueries(t *testing.T) {
	dsn, schema := sharedServer(t).dsn(), newSchema()
	ranges, err := cidr.ParseRanges("10.0.0.0/29", "fd00::/64")
	require.NoError(t, err)
	s, all := open(t, dsn, schema), pool.FamilySpec{AllocateReserved: true}
	p, err := pool.Create(t.Context(), s, "lab",
		pool.Spec{Ranges: ranges, IPv4: all, IPv6: all, Cooldown: time.Hour, History: time.Hour}, nil)
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "vm-1", Policy: pool.RequireDualStack})
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{
		Owner: "vm-2", TTL: 30 * time.Minute, Labels: map[string]string{"node": "n1"},
	})
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "vm-3", TTL: 2 * time.Hour})
	require.NoError(t, err)
	_, err = p.Release(t.Context(), pool.Held{Owner: "vm-3"})
	require.NoError(t, err)
	for _, owner := range []string{"shop/http", "shop/https"} {
		_, err = p.Allocate(t.Context(), pool.Claim{Owner: owner, Scope: "shop", Share: "web"})
		require.NoError(t, err)
	}

	db := connect(t, dsn)
	queries := servertest.DocumentedQueries(t)
	const byAddress = "Who holds 10.0.0.7 in any pool:"
	for title, want := range map[string][][]any{
		byAddress: {},
		"Who holds anything in 10.0.0.0/24:": {
			{"10.0.0.0/32", "lab", "vm-1"}, {"10.0.0.1/32", "lab", "vm-2"}, {"10.0.0.2/32", "lab", "vm-3"},
			{"10.0.0.3/32", "lab", `share "shop" "web"`},
		},
		"What an owner holds:": {{"lab", `["10.0.0.0/32","fd00::/128"]`, "allocated", nil}},
		"How many addresses each pool has, and how many of them are free:": {
			{"lab", "IPv4", "8", "3", "4"}, {"lab", "IPv6", "18446744073709551616", "1", "18446744073709551615"},
		},
		"What expires within the next hour:": {{"lab", "vm-2", "10.0.0.1/32", nil}},
		"What cools down, and until when:":   {{"lab", "10.0.0.2/32", nil}},
		"What an owner holds in a pool, found with the primary key, whose columns are bytes:": {
			{`["10.0.0.0/32","fd00::/128"]`, "allocated"},
		},
		"Who has the label node with the value n1 in a pool, found with the index of labels:": {{"vm-2"}},
	} {
		query, ok := queries[title]
		require.True(t, ok, title)
		require.Equal(t, want, texts(t, db, in(schema, query)), title)
		delete(queries, title)
	}
	const then = "Who had 10.0.0.7 by itself yesterday at noon, in any pool that has a history; this reads all of it:"
	require.Empty(t, texts(t, db, in(schema, queries[then])))
	now := strings.ReplaceAll(queries[then], "CURDATE() - INTERVAL 12 HOUR", "UTC_TIMESTAMP(6)")
	require.Equal(t, [][]any{{"lab", "vm-1", nil, nil, nil}},
		texts(t, db, in(schema, strings.ReplaceAll(now, "10.0.0.7", "10.0.0.0"))))
	require.Empty(t, texts(t, db, in(schema, strings.ReplaceAll(now, "10.0.0.7", "10.0.0.2"))))
	require.Equal(t, [][]any{{"lab", "shop/http", nil, nil, nil}, {"lab", "shop/https", nil, nil, nil}},
		texts(t, db, in(schema, strings.ReplaceAll(now, "10.0.0.7", "10.0.0.3")+" ORDER BY owner")))
	begun := "(SELECT MAX(began) FROM ipalloc.tenure WHERE ended IS NOT NULL)"
	past := strings.ReplaceAll(queries[then], "CURDATE() - INTERVAL 12 HOUR", begun)
	require.Equal(t, [][]any{{"lab", "vm-3", nil, nil, "released"}},
		texts(t, db, in(schema, strings.ReplaceAll(past, "10.0.0.7", "10.0.0.2"))))
	delete(queries, then)
	require.Len(t, queries, 1, "the grants are left, see TestOpenUsers: %v", queries)
	got := texts(t, db, in(schema, strings.ReplaceAll(servertest.DocumentedQueries(t)[byAddress], "10.0.0.7", "10.0.0.0")))
	require.Equal(t, [][]any{{"lab", "vm-1", "10.0.0.0/32", "allocated", nil}}, got)
}

// in is a documented query, of another schema.
func in(schema, query string) string {
	return strings.ReplaceAll(query, "ipalloc.", schemaMark(schema))
}

// texts are the rows of a query as texts; nil for what is null, or a time.
func texts(t *testing.T, db *sql.DB, query string) [][]any {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	require.NoError(t, err)
	all := [][]any{}
	for rows.Next() {
		values, into := make([]sql.NullString, len(columns)), []any{}
		for i := range values {
			into = append(into, &values[i])
		}
		require.NoError(t, rows.Scan(into...))
		row := make([]any, len(columns))
		for i, name := range columns {
			if values[i].Valid && !slices.Contains([]string{"expires", "created", "began", "ended"}, name) {
				row[i] = values[i].String
			}
		}
		all = append(all, row)
	}
	require.NoError(t, rows.Err())
	return all
}

// TestTenuresOfARenumberedPool asks the view for what was renumbered: each tenure begins where the one before it ended.
func TestTenuresOfARenumberedPool(t *testing.T) {
	dsn, schema := sharedServer(t).dsn(), newSchema()
	pooltest.RenumberOne(t, open(t, dsn, schema))
	require.Equal(t, [][]any{{"2"}}, texts(t, connect(t, dsn), in(schema,
		"SELECT COUNT(*) FROM ipalloc.tenure a JOIN ipalloc.tenure b ON a.ended = b.began")))
}
