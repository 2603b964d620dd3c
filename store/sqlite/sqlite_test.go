package sqlite_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/sqlite"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// fileBackend is a backend in a file of its own.
func fileBackend(t testing.TB) storetest.Backend {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	return storetest.Backend{
		Open: func(ctx context.Context) (store.Store, error) { return sqlite.Open(ctx, path, nil) },
		Damage: func(ctx context.Context, key store.Key) error {
			return execute(t, path, "UPDATE record SET prefixes = '[\"10.0.0.256\"]' WHERE kind = ? AND pool = ? AND name = ?",
				string(key.Kind), key.Pool, key.Name)
		},
	}
}

func TestConformance(t *testing.T) { storetest.Run(t, fileBackend) }

// execute does with the file what another program may do.
func execute(t testing.TB, path, text string, args ...any) error {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), text, args...)
	return err
}

// requireSound has SQLite check the whole file, and compares table address with the records.
func requireSound(t testing.TB, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer db.Close()
	var result string
	require.NoError(t, db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&result))
	require.Equal(t, "ok", result)
	const differences = `
		WITH want AS (
			SELECT r.kind, r.pool, r.name, p.value FROM record r, json_each(r.prefixes) p
			WHERE r.kind IN ('allocation', 'cooling')
		), have AS (SELECT kind, pool, name, prefix FROM address)
		SELECT count(*) FROM (
			SELECT * FROM (SELECT * FROM want EXCEPT SELECT * FROM have) UNION ALL
			SELECT * FROM (SELECT * FROM have EXCEPT SELECT * FROM want)
		)`
	var n int
	require.NoError(t, db.QueryRowContext(t.Context(), differences).Scan(&n))
	require.Zero(t, n, "rows in which table address differs from the records")
}
