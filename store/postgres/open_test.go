package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestOpenAtOnce has a new database, in which even the extension is missing.
func TestOpenAtOnce(t *testing.T) { tests.OpenAtOnce(t, ownDatabase(t, "at_once")) }

func TestOpenVersions(t *testing.T) { tests.OpenVersions(t) }

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

func TestNewLeavesPool(t *testing.T) {
	db := connect(t, sharedServer(t).url("postgres"))
	servertest.ConnectionsStay(t, openOn(t, db, newSchema()), db.Ping)
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
// poolers need.
func TestModes(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			tests.RequireWorks(t, openOn(t, connect(t, sharedServer(t).url("postgres"), inMode(mode)), newSchema()))
		})
	}
}
