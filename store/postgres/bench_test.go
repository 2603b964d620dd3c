package postgres_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store/storetest"
)

// newBackend is a backend in a schema of its own.
func newBackend(t testing.TB) storetest.Backend {
	return storetest.Backend{Open: tests.Opener(tests.Place(t))}
}

func BenchmarkStore(b *testing.B) { storetest.Benchmarks(b, newBackend) }

var bareTables atomic.Int64

// bareTable is a table that knows nothing of pools.
type bareTable struct {
	pool *pgxpool.Pool
	sql  string
}

func openBare(b *testing.B, held int) bareTable {
	b.Helper()
	name := fmt.Sprint("bare", bareTables.Add(1))
	t := bareTable{connect(b, sharedServer(b).url("postgres")), "INSERT INTO " + name + " VALUES ($1, $2)"}
	_, err := t.pool.Exec(b.Context(), "CREATE TABLE "+name+" (owner text PRIMARY KEY, value text NOT NULL)")
	require.NoError(b, err)
	_, err = t.pool.Exec(b.Context(),
		"INSERT INTO "+name+" SELECT 'held-' || i, repeat('x', 200) FROM generate_series(1, $1::int) i", held)
	require.NoError(b, err)
	return t
}

// insert is a bare transaction of one row.
func (t bareTable) insert(b *testing.B, owner string) {
	_, err := t.pool.Exec(b.Context(), t.sql, owner, strings.Repeat("x", 200))
	require.NoError(b, err)
}

// BenchmarkBareInsert is what BenchmarkStore's commits are compared with: a transaction that inserts a row of 200
// bytes.
func BenchmarkBareInsert(b *testing.B) {
	for _, held := range []int{0, 60_000} {
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			table, i := openBare(b, held), 0
			for b.Loop() {
				i++
				table.insert(b, fmt.Sprint("new-", i))
			}
		})
	}
}
