package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
)

// newPlace is a file, and for bare commits another one.
func newPlace(b *testing.B) pooltest.Place {
	return pooltest.Place{
		Open: opener(filepath.Join(b.TempDir(), "ipalloc.db")),
		Bare: func(held int) func(string) error {
			insert := openBare(b, held)
			return func(owner string) error {
				_, err := insert.Exec(owner, make([]byte, 200))
				return err
			}
		},
	}
}

// openBare makes a database that knows nothing of pools: one table of small values. It returns what inserts one.
func openBare(b *testing.B, held int) *sql.Stmt {
	b.Helper()
	db, err := sql.Open("sqlite", filepath.Join(b.TempDir(), "bare.db")+
		"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	require.NoError(b, err)
	db.SetMaxOpenConns(1)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	_, err = db.Exec("CREATE TABLE record (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID; BEGIN")
	require.NoError(b, err)
	insert, err := db.Prepare("INSERT OR REPLACE INTO record VALUES (?, ?)")
	require.NoError(b, err)
	for i := range held {
		_, err := insert.Exec(pooltest.Owner(i), make([]byte, 200))
		require.NoError(b, err)
	}
	_, err = db.Exec("COMMIT")
	require.NoError(b, err)
	return insert
}

func BenchmarkPoolCommit(b *testing.B) { pooltest.BenchmarkCommit(b, newPlace) }

func BenchmarkPoolParallel(b *testing.B) { pooltest.BenchmarkParallel(b, newPlace) }

func BenchmarkPoolOpen(b *testing.B) { pooltest.BenchmarkOpen(b, "file", newPlace) }
