package mysql_test

import (
	"math/rand/v2"
	"testing"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/store/mysql"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// What tests commit.
var (
	head, holding, allocation = servertest.Head, servertest.Holding, servertest.Allocation
	create, put, remove       = servertest.Create, servertest.Put, servertest.Remove
)

func TestOverlapRefused(t *testing.T) {
	tests.OverlapRefused(t, func(err error, want servertest.Overlap) {
		var overlap *mysql.OverlapError
		require.ErrorAs(t, err, &overlap)
		if want.Standing.IsValid() { // which of those in one commit is named depends on their names
			require.Equal(t, mysql.OverlapError(want), *overlap)
			require.ErrorContains(t, err, want.Prefix.String())
		}
	})
}

func TestOverlapAtTheEnd(t *testing.T) { tests.OverlapAtTheEnd(t) }

// TestOverlapByHand writes SQL as people do: a second row that begins at an address is refused by the primary key. What
// is within another row is not, as the package comment says, but the next commit beside it is.
func TestOverlapByHand(t *testing.T) {
	dsn, schema := sharedServer(t).dsn(), newSchema()
	s := open(t, dsn, schema)
	h, err := storetest.CommitOne(t.Context(), s, head("a"), create(allocation("a", "x", "10.0.0.0/24")))
	require.NoError(t, err)
	db := connect(t, dsn)
	insert := func(first, last string) error {
		_, err := db.ExecContext(t.Context(), "INSERT INTO "+quoted(schema)+".address (pool, family, first, last, kind, "+
			"name, prefix) VALUES ('a', 4, INET6_ATON(?), INET6_ATON(?), 'allocation', 'z', '10.0.0.0/24')", first, last)
		return err
	}
	var refused *driver.MySQLError
	require.ErrorAs(t, insert("10.0.0.0", "10.0.0.7"), &refused)
	require.Equal(t, uint16(1062), refused.Number)
	require.NoError(t, insert("10.0.0.8", "10.0.0.15"))
	_, err = storetest.CommitOne(t.Context(), s, h, create(allocation("a", "y", "10.0.0.9/32")))
	require.ErrorIs(t, err, mysql.ErrOverlap)
}

// TestOverlapAsPrefixes commits pairs of prefixes, most of which have much in common: the second one is refused just if
// they overlap.
func TestOverlapAsPrefixes(t *testing.T) {
	s := open(t, sharedServer(t).dsn(), newSchema())
	random := rand.New(rand.NewPCG(1, 2))
	h, err := storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	overlapped := 0
	for range 300 {
		a, b := servertest.RelatedPrefixes(random)
		h, err = storetest.CommitOne(t.Context(), s, h, put(allocation("a", "x", a.String())),
			remove(allocation("a", "y", "")))
		require.NoError(t, err)
		next, err := storetest.CommitOne(t.Context(), s, h, put(allocation("a", "y", b.String())))
		if a.Overlaps(b) {
			overlapped++
			require.ErrorIs(t, err, mysql.ErrOverlap, "%v %v", a, b)
			continue
		}
		require.NoError(t, err, "%v %v", a, b)
		h = next
	}
	require.Greater(t, overlapped, 30)
	require.Less(t, overlapped, 270)
}
