package postgres_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
)

// newPlace is a schema, and for bare commits tables outside of it.
func newPlace(b *testing.B) pooltest.Place {
	return pooltest.Place{
		Open: tests.Opener(flushingURL(b), newSchema()),
		Bare: func(held int) func(string) error {
			table := openBare(b, held)
			return func(owner string) error {
				table.insert(b, owner)
				return nil
			}
		},
		Claim: func(held int) func(string) error {
			table := openBareClaims(b, held)
			return func(owner string) error {
				table.claim(b, owner)
				return nil
			}
		},
	}
}

func BenchmarkPoolCommit(b *testing.B) { pooltest.BenchmarkCommit(b, newPlace) }

func BenchmarkPoolParallel(b *testing.B) { pooltest.BenchmarkParallel(b, newPlace) }

func BenchmarkPoolHeld(b *testing.B) { pooltest.BenchmarkHeld(b, newPlace) }

func BenchmarkPoolOpen(b *testing.B) { pooltest.BenchmarkOpen(b, "connect", newPlace) }

// BenchmarkPoolBytes also reports how many bytes the server writes to its log. The log has the indexes too and, for the
// first change of each page after a checkpoint, the whole page, of which the server does the same for a bare row.
func BenchmarkPoolBytes(b *testing.B) {
	url := sharedServer(b).url("postgres")
	db := connect(b, url)
	pooltest.BenchmarkBytes(b, func(b *testing.B) store.Store { return open(b, url, newSchema()) },
		pooltest.Meter{Unit: "log-bytes/commit", Read: func() int64 { return logPosition(b, db) }})
}

// logPosition is how many bytes the server has written to its log.
func logPosition(b *testing.B, at *pgxpool.Pool) (position int64) {
	err := at.QueryRow(b.Context(), "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").Scan(&position)
	require.NoError(b, err)
	return position
}
