package postgres_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/pool"
)

// TestDocumentedQueries runs the queries of the package comment on pools of package pool.
func TestDocumentedQueries(t *testing.T) {
	url := ownDatabase(t, "queries")
	ranges, err := cidr.ParseRanges("10.0.0.0/29", "fd00::/64")
	require.NoError(t, err)
	s, all := open(t, url, ""), pool.FamilySpec{AllocateReserved: true}
	p, err := pool.Create(t.Context(), s, "lab",
		pool.Spec{Ranges: ranges, IPv4: all, IPv6: all, Cooldown: time.Hour, History: time.Hour}, nil)
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{
		Owner: "vm-1", Policy: pool.RequireDualStack, Labels: map[string]string{"node": "n1"},
	})
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "vm-2", TTL: 30 * time.Minute})
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "vm-3", TTL: 2 * time.Hour})
	require.NoError(t, err)
	_, err = p.Release(t.Context(), pool.Held{Owner: "vm-3"})
	require.NoError(t, err)
	for _, owner := range []string{"shop/http", "shop/https"} {
		_, err = p.Allocate(t.Context(), pool.Claim{Owner: owner, Scope: "shop", Share: "web"})
		require.NoError(t, err)
	}

	db := connect(t, url)
	queries := servertest.DocumentedQueries(t)
	const byAddress = "Who holds 10.0.0.7 in any pool, the longest prefix first:"
	for title, want := range map[string][][]any{
		byAddress: {},
		"Who holds anything in 10.0.0.0/24:": {
			{"10.0.0.0/32", "lab", "vm-1"}, {"10.0.0.1/32", "lab", "vm-2"}, {"10.0.0.2/32", "lab", "vm-3"},
			{"10.0.0.3/32", "lab", `share "shop" "web"`},
		},
		"What has the label node=n1 in a pool:": {{"vm-1", "{10.0.0.0/32,fd00::/128}", "allocated"}},
		"What an owner holds:":                  {{"lab", "{10.0.0.0/32,fd00::/128}", "allocated", nil}},
		"How many addresses each pool has, and how many of them are free:": {
			{"lab", "IPv4", "8", "3", "4"}, {"lab", "IPv6", "18446744073709551616", "1", "18446744073709551615"},
		},
		"What expires within the next hour:": {{"lab", "vm-2", "10.0.0.1/32", nil}},
		"What cools down, and until when:":   {{"lab", "10.0.0.2/32", nil}},
	} {
		sql, ok := queries[title]
		require.True(t, ok, title)
		require.Equal(t, want, texts(t, db, sql), title)
		delete(queries, title)
	}
	const (
		then = "Who had 10.0.0.7 yesterday at noon, in any pool that has a history; this reads the whole table history:"
		ever = "multiple of 8 bits, it stands as ipalloc.in.10.0.0.0/24, and so on):"
	)
	now := strings.ReplaceAll(queries[then], "current_date - interval '12 hours'", "now()")
	require.Empty(t, texts(t, db, queries[then]))
	require.Equal(t, [][]any{{"lab", "vm-1", "10.0.0.0/32", nil, nil, nil}},
		texts(t, db, strings.ReplaceAll(now, "10.0.0.7", "10.0.0.0")))
	require.Empty(t, texts(t, db, strings.ReplaceAll(now, "10.0.0.7", "10.0.0.2")))
	require.Equal(t, [][]any{
		{"lab", "shop/http", "10.0.0.3/32", nil, nil, nil}, {"lab", "shop/https", "10.0.0.3/32", nil, nil, nil},
	}, texts(t, db, strings.ReplaceAll(now, "10.0.0.7", "10.0.0.3")+" ORDER BY owner"))
	require.Equal(t, [][]any{{"lab", "vm-3", "10.0.0.2/32", nil, nil, "released"}},
		texts(t, db, strings.ReplaceAll(strings.ReplaceAll(queries[then], "10.0.0.7", "10.0.0.2"),
			"current_date - interval '12 hours'", "(SELECT max(began) FROM ipalloc.tenure WHERE ended IS NOT NULL)")))
	require.Empty(t, texts(t, db, queries[ever]))
	require.Equal(t, [][]any{{"vm-3", nil, nil, "released"}},
		texts(t, db, strings.ReplaceAll(queries[ever], "10.0.0.7", "10.0.0.2")))
	delete(queries, then)
	delete(queries, ever)
	require.Len(t, queries, 1, "the grants are left, see TestOpenRoles: %v", queries)
	got := texts(t, db, strings.Replace(servertest.DocumentedQueries(t)[byAddress], "10.0.0.7", "10.0.0.0", 1))
	require.Equal(t, [][]any{{"lab", "vm-1", "10.0.0.0/32", "allocated", nil}}, got)
}

// texts are the rows of a query as texts; nil for what is null, or a time.
func texts(t *testing.T, db *pgxpool.Pool, sql string) [][]any {
	t.Helper()
	rows, err := db.Query(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	all := [][]any{}
	for rows.Next() {
		var row []any
		for i, raw := range rows.RawValues() {
			name := rows.FieldDescriptions()[i].Name
			if raw == nil || slices.Contains([]string{"expires", "created", "began", "ended"}, name) {
				row = append(row, nil)
			} else {
				row = append(row, string(raw))
			}
		}
		all = append(all, row)
	}
	require.NoError(t, rows.Err())
	return all
}

// TestTenuresOfARenumberedPool asks the view for what was renumbered: each tenure begins where the one before it ended.
// Of the three, the one in between has two prefixes, and so two rows.
func TestTenuresOfARenumberedPool(t *testing.T) {
	url := ownDatabase(t, "tenures")
	pooltest.RenumberOne(t, open(t, url, ""))
	db := connect(t, url)
	require.Equal(t, [][]any{{"4"}}, texts(t, db,
		"SELECT count(*)::text FROM ipalloc.tenure a JOIN ipalloc.tenure b ON a.ended = b.began"))
}
