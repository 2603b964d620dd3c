package postgres_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// newBackend is a backend in a schema of its own.
func newBackend(t testing.TB) storetest.Backend {
	return storetest.Backend{Open: tests.Opener(tests.Place(t))}
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmarks(b, func(testing.TB) storetest.Backend {
		return storetest.Backend{Open: tests.Opener(flushingURL(b), newSchema())}
	})
}

// flushing is the server of benchmarks. As servers do, and unlike that of the tests, it flushes each commit to the
// disk.
var flushing = sync.OnceValues(func() (server, error) { return newServer("-c", "fsync=on") })

func flushingURL(b *testing.B) string {
	b.Helper()
	s, err := flushing()
	servertest.Require(b, err)
	return s.url("postgres")
}

var bareTables atomic.Int64

// bareTable is a table that knows nothing of pools.
type bareTable struct {
	pool  *pgxpool.Pool
	name  string
	turn  int // how many claims there were
	value string
}

func openBare(b *testing.B, held int) *bareTable {
	b.Helper()
	t := &bareTable{pool: connect(b, flushingURL(b)), name: fmt.Sprint("bare", bareTables.Add(1))}
	t.value = strings.Repeat("x", 200)
	t.execute(b, "CREATE TABLE @ (owner text PRIMARY KEY, value text NOT NULL)")
	t.execute(b, "INSERT INTO @ SELECT 'held-' || i, $2 FROM generate_series(1, $1::int) i", held, t.value)
	return t
}

// openBareClaims is a table of claims beside one with a head.
func openBareClaims(b *testing.B, held int) *bareTable {
	b.Helper()
	t := openBare(b, held)
	t.execute(b, "ALTER TABLE @ ADD prefix cidr, ADD EXCLUDE USING gist (prefix inet_ops WITH &&)")
	t.execute(b, `CREATE TABLE @_head (pool text PRIMARY KEY, revision bigint NOT NULL, data text NOT NULL)
		WITH (fillfactor = 40)`)
	t.execute(b, "INSERT INTO @_head VALUES ('pool', 0, '')")
	return t
}

// execute executes a statement, in which the name of the table is @, and returns how many rows it changed.
func (t *bareTable) execute(b *testing.B, sql string, args ...any) int64 {
	b.Helper()
	done, err := t.pool.Exec(b.Context(), strings.ReplaceAll(sql, "@", t.name), args...)
	require.NoError(b, err)
	return done.RowsAffected()
}

// insert is a bare transaction of one row.
func (t *bareTable) insert(b *testing.B, owner string) {
	t.execute(b, "INSERT INTO @ VALUES ($1, $2)", owner, t.value)
}

// claim is a transaction, in one round trip, that replaces a head if nobody else has, and inserts a row with an address
// that no other row has.
func (t *bareTable) claim(b *testing.B, owner string) {
	granted := t.execute(b, `WITH head AS (
			UPDATE @_head SET revision = revision + 1, data = $2 WHERE pool = 'pool' AND revision = $3 RETURNING revision
		) INSERT INTO @ SELECT $1, $2, ('10.0.0.0'::inet + revision)::cidr FROM head`, owner, t.value, t.turn)
	require.EqualValues(b, 1, granted)
	t.turn++
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
