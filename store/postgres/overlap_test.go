package postgres_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// What tests commit.
var (
	head, holding, allocation = servertest.Head, servertest.Holding, servertest.Allocation
	create, put, remove       = servertest.Create, servertest.Put, servertest.Remove
)

// TestOverlapRefused has the constraint refuse them.
func TestOverlapRefused(t *testing.T) {
	tests.OverlapRefused(t, func(err error, want servertest.Overlap) {
		var overlap *postgres.OverlapError
		require.ErrorAs(t, err, &overlap)
		require.Equal(t, "address_overlap", overlap.Constraint)
		require.Equal(t, want.Record, overlap.Record)
		require.Equal(t, want.Prefix, overlap.Prefix)
		if want.Standing.IsValid() {
			require.Equal(t, want.Standing, overlap.Standing)
		}
		require.ErrorContains(t, err, "address_overlap")
		require.ErrorContains(t, err, want.Prefix.String())
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused)
	})
}

func TestOverlapAtTheEnd(t *testing.T) { tests.OverlapAtTheEnd(t) }

// TestOverlapByHand writes SQL as people do. What it does to table allocation is as in a commit.
func TestOverlapByHand(t *testing.T) {
	url, schema := sharedServer(t).url("postgres"), newSchema()
	s := open(t, url, schema)
	h, err := storetest.CommitOne(t.Context(), s, head("a"), create(allocation("a", "x", "10.0.0.0/24")),
		create(allocation("a", "y", "10.0.1.0/24")))
	require.NoError(t, err)
	db := connect(t, url, func(config *pgxpool.Config) { config.ConnConfig.RuntimeParams["search_path"] = quoted(schema) })
	for _, sql := range []string{
		"INSERT INTO allocation (kind, pool, name, revision, prefixes) VALUES ('allocation', 'a', 'z', 1, '{10.0.0.7/32}')",
		"INSERT INTO record (kind, pool, name, revision, prefixes) " +
			"VALUES ('cooling', 'a', 'z', 1, '{192.0.2.0/24,10.0.0.0/8}')",
		"UPDATE allocation SET prefixes = '{10.0.0.0/25}' WHERE name = 'y'",
		"UPDATE allocation SET name = 'z', prefixes = prefixes || '{10.0.0.0/25}' WHERE name = 'y'",
	} {
		_, err := db.Exec(t.Context(), sql)
		require.ErrorContains(t, err, "address_overlap", sql)
	}
	execute(t, url, schema, "UPDATE allocation SET name = 'z', prefixes = '{10.0.2.0/24}' WHERE name = 'y'; "+
		"DELETE FROM allocation WHERE name = 'x'")
	_, err = storetest.CommitOne(t.Context(), s, h, create(allocation("a", "w", "10.0.0.0/23")))
	require.NoError(t, err)
	found, err := s.Find(t.Context(), "a", netip.MustParseAddr("10.0.2.1"))
	require.NoError(t, err)
	require.Equal(t, "z", found.Name)
	execute(t, url, schema, "TRUNCATE allocation")
	_, err = s.Find(t.Context(), "a", netip.MustParseAddr("10.0.2.1"))
	require.ErrorIs(t, err, store.ErrNotFound)
}

// TestBoxesOverlapAsPrefixes compares pairs of prefixes, most of which have much in common: the boxes that the
// constraint looks for first must overlap just if the prefixes do.
func TestBoxesOverlapAsPrefixes(t *testing.T) {
	url, schema := sharedServer(t).url("postgres"), newSchema()
	open(t, url, schema)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var left, right []string
	for range 20_000 {
		a, b := servertest.RelatedPrefixes(random)
		left, right = append(left, a.String()), append(right, b.String())
	}
	in := pgx.Identifier{schema}.Sanitize() + "."
	var differ, overlap int
	var example *string
	err := connect(t, url).QueryRow(t.Context(), `
		SELECT count(*) FILTER (WHERE boxes <> prefixes), count(*) FILTER (WHERE prefixes),
			min(a || ' ' || b) FILTER (WHERE boxes <> prefixes)
		FROM (SELECT a, b, a && b AS prefixes,
				`+in+`high_box(a) && `+in+`high_box(b) AND `+in+`low_box(a) && `+in+`low_box(b) AS boxes
			FROM unnest($1::text[]::cidr[], $2::text[]::cidr[]) AS pairs (a, b)) AS compared`,
		left, right).Scan(&differ, &overlap, &example)
	require.NoError(t, err)
	require.Zero(t, differ, "for example %v", example)
	require.Greater(t, overlap, 1000)
	require.Less(t, overlap, 19_000)
}
