package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestOpenAtOnce has many create the same schema, and others, in a new database in which even the extension is missing.
func TestOpenAtOnce(t *testing.T) {
	execute(t, sharedServer(t).url("postgres"), "public", "CREATE DATABASE at_once")
	url, schema := sharedServer(t).url("at_once"), newSchema()
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() {
			in := schema
			if i%4 == 3 {
				in = fmt.Sprint("other ", i%8)
			}
			s, err := postgres.Open(context.Background(), url, &postgres.Options{Schema: in})
			if err == nil {
				_, err = storetest.CommitOne(context.Background(), s, head(fmt.Sprint(i)))
				s.Close()
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	n := 0
	for _, err := range open(t, url, schema).List(t.Context(), store.KindPool, "") {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 12, n)
}

func TestOpenVersions(t *testing.T) {
	url, schema := sharedServer(t).url("postgres"), newSchema()
	_, err := postgres.Open(t.Context(), url, &postgres.Options{Schema: schema, MustExist: true})
	require.ErrorIs(t, err, postgres.ErrNoSchema)
	s := open(t, url, schema)
	require.Equal(t, schema, s.Schema())
	_, err = storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	again, err := postgres.Open(t.Context(), url, &postgres.Options{Schema: schema, MustExist: true})
	require.NoError(t, err)
	require.NoError(t, again.Close())
	execute(t, url, schema, fmt.Sprintf("INSERT INTO migration VALUES (%d)", postgres.Version+1))
	_, err = postgres.Open(t.Context(), url, &postgres.Options{Schema: schema})
	require.ErrorIs(t, err, store.ErrNewerFormat)
	require.ErrorContains(t, err, fmt.Sprintf("%q", schema))
}

// TestOpenRoles opens with a role that may not create anything, before and after an administrator has run the
// migrations.
func TestOpenRoles(t *testing.T) {
	server, schema := sharedServer(t), "roles"
	execute(t, server.url("postgres"), "public", "CREATE ROLE plain LOGIN", "CREATE DATABASE roles",
		"GRANT CONNECT ON DATABASE roles TO plain")
	admin := server.url("roles")
	plain := strings.Replace(admin, "postgres@", "plain@", 1)
	_, err := postgres.Open(t.Context(), plain, &postgres.Options{Schema: schema})
	require.ErrorIs(t, err, postgres.ErrNoSchema)
	require.ErrorContains(t, err, "permission denied")

	migrations, err := postgres.Migrations(schema)
	require.NoError(t, err)
	require.Len(t, migrations, postgres.Version)
	for i, m := range migrations {
		require.Equal(t, i+1, m.Version)
		execute(t, admin, "public", m.SQL)
	}
	// What the package comment says that the role needs.
	execute(t, admin, schema, `
		GRANT USAGE ON SCHEMA roles TO plain;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA roles TO plain;
		GRANT USAGE ON ALL SEQUENCES IN SCHEMA roles TO plain`)
	s := open(t, plain, schema)
	h, err := storetest.CommitOne(t.Context(), s, head("a"), create(allocation("a", "x", "10.0.0.0/24")))
	require.NoError(t, err)
	_, err = storetest.CommitOne(t.Context(), s, h, put(allocation("a", "x", "10.0.1.0/24")))
	require.NoError(t, err)
}

// TestOpenRoleCreates opens with a role that owns the database and is no superuser.
func TestOpenRoleCreates(t *testing.T) {
	server := sharedServer(t)
	execute(t, server.url("postgres"), "public", "CREATE ROLE owner LOGIN", "CREATE DATABASE owned OWNER owner")
	s := open(t, strings.Replace(server.url("owned"), "postgres@", "owner@", 1), "")
	require.Equal(t, postgres.DefaultSchema, s.Schema())
	_, err := storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
}

func TestOpenInvalid(t *testing.T) {
	url := sharedServer(t).url("postgres")
	for _, schema := range []string{"a\x00b", "\xff", strings.Repeat("s", 64), "a$ipalloc$b"} {
		_, err := postgres.Open(t.Context(), url, &postgres.Options{Schema: schema})
		require.ErrorIs(t, err, store.ErrInvalid)
		_, err = postgres.Migrations(schema)
		require.ErrorIs(t, err, store.ErrInvalid)
	}
	for _, schema := range []string{strings.Repeat("s", 63), `"`, "'", "$$", "é", "select", "A b"} {
		s := open(t, url, schema)
		_, err := storetest.CommitOne(t.Context(), s, head("a"), create(allocation("a", "x", "10.0.0.0/24")))
		require.NoError(t, err, schema)
	}
	_, err := postgres.Open(t.Context(), "host=", nil)
	require.Error(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = postgres.Open(ctx, url, nil)
	require.ErrorIs(t, err, context.Canceled)
	execute(t, url, "public", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
	_, err = postgres.Open(t.Context(), sharedServer(t).url("latin"), nil)
	require.ErrorIs(t, err, store.ErrInvalid)
	require.ErrorContains(t, err, "LATIN1")
}

// TestNewLeavesPool checks that a pool of the caller's can be used after Close.
func TestNewLeavesPool(t *testing.T) {
	db := connect(t, sharedServer(t).url("postgres"))
	s, err := postgres.New(t.Context(), db, &postgres.Options{Schema: newSchema()})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, db.Ping(t.Context()))
	_, err = s.Get(t.Context(), head("a").Key)
	require.ErrorIs(t, err, store.ErrClosed)
}

// TestLongKeys stores keys that are as long as an index takes, and some that are longer.
func TestLongKeys(t *testing.T) {
	s := open(t, sharedServer(t).url("postgres"), newSchema())
	long := func(n int) string { // that does not compress
		var text strings.Builder
		for i := uint64(1); text.Len() < n; i = i*6364136223846793005 + 1442695040888963407 {
			fmt.Fprintf(&text, "%016x", i)
		}
		return text.String()[:n]
	}
	h, err := storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	pool, name := long(1024), long(1024)
	fits := allocation(pool, name, "10.0.0.0/24 2001:db8::/64")
	other := holding(store.Kind(long(552)), pool, name, "10.0.0.0/24")
	h, err = storetest.CommitOne(t.Context(), s, h, create(fits), create(other))
	require.NoError(t, err)
	_, err = s.Get(t.Context(), other.Key)
	require.NoError(t, err)
	other.Kind = store.Kind(long(553))
	_, err = storetest.CommitOne(t.Context(), s, h, create(other))
	require.ErrorIs(t, err, store.ErrTooLarge)
	var tooLarge *store.TooLargeError
	require.ErrorAs(t, err, &tooLarge)
	require.Equal(t, store.TooLargeError{What: "key in bytes", Size: 2601, Limit: 2600}, *tooLarge)
}

// TestModes runs commits, reads and refusals in each of the modes in which pgx can run statements, some of which
// poolers need, and in each isolation level.
func TestModes(t *testing.T) {
	url := sharedServer(t).url("postgres")
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec,
		pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			db := connect(t, url, func(config *pgxpool.Config) { config.ConnConfig.DefaultQueryExecMode = mode })
			s, err := postgres.New(t.Context(), db, &postgres.Options{Schema: newSchema()})
			require.NoError(t, err)
			requireWorks(t, s)
		})
	}
}

// requireWorks commits, reads and is refused.
func requireWorks(t *testing.T, s *postgres.Store) {
	t.Helper()
	x := allocation("a", `x's "\`, "10.0.0.0/24 2001:db8::/64")
	x.Created = time.Date(2024, 2, 29, 12, 0, 0, 123456000, time.UTC)
	x.Expires = x.Created.AddDate(8000-2024, 0, 0)
	x.Data = []byte(`{"a": [1, "\u0000\ud800 \\ '"]}`)
	h, err := storetest.CommitOne(t.Context(), s, head("a"), create(x))
	require.NoError(t, err)
	x.Revision = h.Revision
	got, err := s.Get(t.Context(), x.Key)
	require.NoError(t, err)
	require.Equal(t, x, got)
	found, err := s.Find(t.Context(), "a", x.Prefixes[1].Addr())
	require.NoError(t, err)
	require.Equal(t, x, found)
	for r, err := range s.List(t.Context(), store.KindAllocation, "") {
		require.NoError(t, err)
		require.Equal(t, x, r)
	}
	for r, err := range s.ByExpiry(t.Context(), store.KindAllocation, "a") {
		require.NoError(t, err)
		require.Equal(t, x, r)
	}
	_, err = storetest.CommitOne(t.Context(), s, head("a"))
	require.ErrorIs(t, err, store.ErrConflict)
	_, err = storetest.CommitOne(t.Context(), s, h, create(x))
	var exists *store.ExistsError
	require.ErrorAs(t, err, &exists)
	require.Equal(t, []store.Record{x}, exists.Records)
	_, err = storetest.CommitOne(t.Context(), s, h, create(allocation("a", "y", "10.0.0.7/32")))
	require.ErrorIs(t, err, postgres.ErrOverlap)
	require.NotErrorIs(t, err, store.ErrUnknown)
}
