package postgres_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// buffers returns how many rows a query has, and how many pages of 8 KiB it reads.
func buffers(t *testing.T, db *pgxpool.Pool, sql string) (rows, pages int) {
	t.Helper()
	var text []byte
	err := db.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+sql, pgx.QueryExecModeSimpleProtocol).
		Scan(&text)
	require.NoError(t, err)
	var plans []struct {
		Plan struct {
			Rows int `json:"Actual Rows"`
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	require.NoError(t, json.Unmarshal(text, &plans))
	return plans[0].Plan.Rows, plans[0].Plan.Hit + plans[0].Plan.Read
}

// TestLabelsUseTheIndex counts the pages that the server reads among 60,000 records, of which some labels are those of
// all: with statistics and without, from the first record and from the middle.
func TestLabelsUseTheIndex(t *testing.T) {
	url, schema := sharedServer(t).url("postgres"), newSchema()
	open(t, url, schema)
	execute(t, url, schema, `INSERT INTO allocation (kind, pool, name, revision, labels)
		SELECT 'allocation', 'lab', 'owner ' || i, 1, jsonb_build_object('node', 'n' || i % 6000, 'all', 'yes')
		FROM generate_series(1, 60000) i`)
	db := connect(t, url)
	_, all := buffers(t, db, fmt.Sprintf("SELECT count(labels) FROM %s.allocation", quoted(schema)))
	require.Greater(t, all, 500, "pages of the table")
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			execute(t, url, schema, "ANALYZE allocation", "ANALYZE label")
		}
		for args, want := range map[string]int{
			`'lab', 'node', 'n7', '', 256`: 10, `'lab', 'node', 'n7'`: 10, `'lab', 'all', 'no', '', 256`: 0,
			`'lab', 'all', 'yes', '', 8`: 8, `'lab', 'all', 'yes', 'owner 5', 8`: 8,
		} {
			call := fmt.Sprintf("SELECT * FROM %s.labelled(%s)", quoted(schema), args)
			buffers(t, db, call) // with what is read of the catalogue, once in a session
			rows, pages := buffers(t, db, call)
			require.Equal(t, want, rows)
			require.LessOrEqual(t, pages, 20+10*want, call)
		}
	}
}

// TestLabelsFollowRows changes labels with SQL by hand, and asks for them with the function for people and the store.
func TestLabelsFollowRows(t *testing.T) {
	url, schema := sharedServer(t).url("postgres"), newSchema()
	s := open(t, url, schema)
	x, y := allocation("lab", "x", "10.0.0.1/32"), allocation("lab", "y", "10.0.0.2/32")
	x.Labels, y.Labels = map[string]string{"node": "n1"}, map[string]string{"node": "n1", "pod": "web"}
	_, err := storetest.CommitOne(t.Context(), s, head("lab"), create(x), create(y))
	require.NoError(t, err)
	db := connect(t, url)
	found := func(label, value string) (names []string) {
		rows, err := db.Query(t.Context(), fmt.Sprintf("SELECT name FROM %s.labelled('lab', $1, $2)", quoted(schema)),
			label, value)
		require.NoError(t, err)
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		var stored []string
		l := store.Labelled{Kind: store.KindAllocation, Pool: "lab", Name: label, Value: value}
		for r, err := range s.ByLabel(t.Context(), l) {
			require.NoError(t, err)
			stored = append(stored, r.Name)
		}
		require.ElementsMatch(t, names, stored)
		return names
	}
	require.Equal(t, []string{"x", "y"}, found("node", "n1"))
	execute(t, url, schema, `UPDATE allocation SET labels = labels || '{"node": "n2"}' WHERE name = 'y'`)
	require.Equal(t, []string{"x"}, found("node", "n1"))
	require.Equal(t, []string{"y"}, found("node", "n2"))
	execute(t, url, schema, `UPDATE allocation SET name = 'z' WHERE name = 'y'`)
	require.Equal(t, []string{"z"}, found("pod", "web"))
	execute(t, url, schema, `UPDATE allocation SET kind = 'cooling' WHERE name = 'z'`)
	require.Empty(t, found("pod", "web"))
	execute(t, url, schema, `UPDATE allocation SET kind = 'allocation' WHERE name = 'z'`)
	require.Equal(t, []string{"z"}, found("pod", "web"))
	execute(t, url, schema, `UPDATE allocation SET labels = NULL WHERE name = 'z'`)
	require.Empty(t, found("pod", "web"))
	execute(t, url, schema, `TRUNCATE allocation`)
	require.Empty(t, found("node", "n1"))
}
