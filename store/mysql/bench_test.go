package mysql_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store/storetest"
)

func BenchmarkStore(b *testing.B) { storetest.Benchmarks(b, newBackend) }

var bareTables atomic.Int64

// bareTable is a table that knows nothing of pools.
type bareTable struct {
	db  *sql.DB
	sql string
}

func openBare(b *testing.B, held int) bareTable {
	b.Helper()
	dsn, name := sharedServer(b).dsn(), fmt.Sprint("bare.t", bareTables.Add(1))
	t := bareTable{connect(b, dsn), "INSERT INTO " + name + " VALUES (?, ?)"}
	t.db.SetMaxIdleConns(minIdle)
	execute(b, dsn, "", "CREATE DATABASE IF NOT EXISTS bare",
		"CREATE TABLE "+name+" (owner varchar(200) PRIMARY KEY, value text NOT NULL) ENGINE = InnoDB")
	rows := make([]string, 0, held)
	for i := range held {
		rows = append(rows, fmt.Sprintf("('held-%d', '%s')", i, strings.Repeat("x", 200)))
	}
	for some := range slices.Chunk(rows, 10_000) {
		execute(b, dsn, "", "INSERT INTO "+name+" VALUES "+strings.Join(some, ","))
	}
	return t
}

// insert is a bare transaction of one row.
func (t bareTable) insert(b *testing.B, owner string) {
	_, err := t.db.ExecContext(b.Context(), t.sql, owner, strings.Repeat("x", 200))
	require.NoError(b, err)
}

// minIdle is how many connections are kept.
const minIdle = 16

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
