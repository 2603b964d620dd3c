package mysql_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/mysql"
	"github.com/ipalloc/ipalloc/store/storetest"
)

func TestOpenAtOnce(t *testing.T) { tests.OpenAtOnce(t, sharedServer(t).dsn()) }

// TestOpenInterrupted has the creation of the schema be interrupted after each statement. The next one completes it.
func TestOpenInterrupted(t *testing.T) {
	dsn := sharedServer(t).dsn()
	migrations, err := mysql.Migrations("interrupted")
	require.NoError(t, err)
	statements := migrations[0].Statements()
	for n := 1; n < len(statements); n += 3 {
		execute(t, dsn, "", "DROP DATABASE IF EXISTS interrupted")
		execute(t, dsn, "", statements[:n]...)
		s := open(t, dsn, "interrupted")
		tests.RequireWorks(t, s)
	}
}

func TestOpenVersions(t *testing.T) { tests.OpenVersions(t) }

// TestOpenUsers opens with a user that may not create anything, before and after an administrator has run the
// migrations, and with one that may create just what it needs. They have the rights that the package comment names.
func TestOpenUsers(t *testing.T) {
	server := sharedServer(t)
	dsnOf := func(user string) string {
		config := server.config.Clone()
		config.User, config.Passwd = user, "secret"
		return config.FormatDSN()
	}
	schema := fmt.Sprint("users", newSchema())
	for _, user := range []string{"plain", "creator"} {
		execute(t, server.dsn(), "", "DROP USER IF EXISTS "+user+"@'%'", "CREATE USER "+user+"@'%' IDENTIFIED BY 'secret'")
	}
	_, err := mysql.Open(t.Context(), dsnOf("plain"), &mysql.Options{Schema: schema})
	require.ErrorIs(t, err, mysql.ErrNoSchema)
	require.ErrorContains(t, err, "denied")

	const title = "These rights are all that a user of the tables needs, also to end sessions of its own:"
	all := servertest.DocumentedQueries(t)[title]
	grant := strings.NewReplacer("ipalloc.", schemaMark(schema), "TO user", "TO plain@'%'").Replace(all)
	execute(t, server.dsn(), "", grant, strings.NewReplacer("plain", "creator", "GRANT ",
		"GRANT CREATE, DROP, INDEX, ALTER, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, ").Replace(grant))
	creator := open(t, dsnOf("creator"), schema)
	tests.RequireWorks(t, creator)
	s := open(t, dsnOf("plain"), schema)
	h, err := s.Get(t.Context(), head("a").Key)
	require.NoError(t, err)
	turn, err := s.Turn(t.Context(), h.Key)
	require.NoError(t, err)
	_, err = s.Turn(t.Context(), h.Key) // ends the session of the first
	require.NoError(t, err)
	turn.End()
	migrations, err := mysql.Migrations(schema)
	require.NoError(t, err)
	require.Len(t, migrations, mysql.Version)
	require.Equal(t, 1, migrations[0].Version)
	require.Contains(t, migrations[0].SQL, schemaMark(schema))
}

func TestOpenInvalid(t *testing.T) {
	dsn := sharedServer(t).dsn()
	for _, schema := range []string{"a\x00b", "\xff", strings.Repeat("s", 65), "a\nb", "a ", "😀"} {
		_, err := mysql.Open(t.Context(), dsn, &mysql.Options{Schema: schema})
		require.ErrorIs(t, err, store.ErrInvalid)
		_, err = mysql.Migrations(schema)
		require.ErrorIs(t, err, store.ErrInvalid)
	}
	for _, schema := range []string{strings.Repeat("é", 64), `"`, "'", "`", "é", "select", "A b", "a.b", "//"} {
		s := open(t, dsn, schema)
		_, err := storetest.CommitOne(t.Context(), s, head("a"), create(allocation("a", "x", "10.0.0.0/24")))
		require.NoError(t, err, schema)
	}
	_, err := mysql.Open(t.Context(), "no dsn", nil)
	require.Error(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = mysql.Open(ctx, dsn, nil)
	require.ErrorIs(t, err, context.Canceled)
	for what, params := range map[string]map[string]string{
		"latin1": {"charset": "latin1"}, "autocommit": {"autocommit": "0"},
	} {
		db := connect(t, dsn, func(config *driver.Config) {
			if what == "latin1" {
				config.InterpolateParams = false
				require.NoError(t, config.Apply(driver.Charset("latin1", "latin1_swedish_ci")))
				return
			}
			config.Params = params
		})
		_, err := mysql.New(t.Context(), db, nil)
		require.ErrorIs(t, err, store.ErrInvalid)
		require.ErrorContains(t, err, what)
	}
}

func TestNewLeavesDB(t *testing.T) {
	db := connect(t, sharedServer(t).dsn())
	servertest.ConnectionsStay(t, openOn(t, db, 4, newSchema()), db.PingContext)
}

// TestLongKeys stores keys that are as long as the contract allows, with all that indexes have beside them.
func TestLongKeys(t *testing.T) {
	s := open(t, sharedServer(t).dsn(), newSchema())
	long := func(letter string) string { return strings.Repeat(letter, store.MaxNameBytes/len(letter)) }
	r := holding(store.Kind(long("k")), long("é"), long("n"), "")
	r.Expires = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	a := allocation(long("é"), long("n"), "10.0.0.0/24 2001:db8::/64")
	h, err := storetest.CommitOne(t.Context(), s, head("a"), create(r), create(a))
	require.NoError(t, err)
	r.Revision = h.Revision
	got, err := s.Get(t.Context(), r.Key)
	require.NoError(t, err)
	require.Equal(t, r, got)
	found, err := s.Find(t.Context(), a.Pool, a.Prefixes[1].Addr())
	require.NoError(t, err)
	require.Equal(t, a.Key, found.Key)
}

// TestModes runs commits, reads and refusals on sessions with settings that a caller's db may have.
func TestModes(t *testing.T) {
	for name, option := range map[string]func(*driver.Config){
		"prepared":   func(config *driver.Config) { config.InterpolateParams = false },
		"parse time": func(config *driver.Config) { config.ParseTime = true },
		"sql mode": func(config *driver.Config) {
			config.Params = map[string]string{"sql_mode": "'ANSI,NO_BACKSLASH_ESCAPES'"}
		},
		"no sql mode": func(config *driver.Config) { config.Params = map[string]string{"sql_mode": "''"} },
		"time zone":   func(config *driver.Config) { config.Params = map[string]string{"time_zone": "'+05:00'"} },
	} {
		t.Run(name, func(t *testing.T) {
			tests.RequireWorks(t, openOn(t, connect(t, sharedServer(t).dsn(), option), 4, newSchema()))
		})
	}
}
