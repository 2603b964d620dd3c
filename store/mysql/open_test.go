package mysql_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/mysql"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestOpenAtOnce has many create the same schema, and others.
func TestOpenAtOnce(t *testing.T) {
	dsn, schema := sharedServer(t).dsn(), newSchema()
	other := newSchema()
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() {
			in := schema
			if i%4 == 3 {
				in = fmt.Sprint(other, i%8)
			}
			s, err := mysql.Open(context.Background(), dsn, &mysql.Options{Schema: in})
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
	for _, err := range open(t, dsn, schema).List(t.Context(), store.KindPool, "") {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 12, n)
}

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
		requireWorks(t, s)
	}
}

func TestOpenVersions(t *testing.T) {
	dsn, schema := sharedServer(t).dsn(), newSchema()
	_, err := mysql.Open(t.Context(), dsn, &mysql.Options{Schema: schema, MustExist: true})
	require.ErrorIs(t, err, mysql.ErrNoSchema)
	s := open(t, dsn, schema)
	require.Equal(t, schema, s.Schema())
	_, err = storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	again, err := mysql.Open(t.Context(), dsn, &mysql.Options{Schema: schema, MustExist: true})
	require.NoError(t, err)
	require.NoError(t, again.Close())
	execute(t, dsn, schema, fmt.Sprintf("INSERT INTO migration VALUES (%d, NOW())", mysql.Version+1))
	_, err = mysql.Open(t.Context(), dsn, &mysql.Options{Schema: schema})
	require.ErrorIs(t, err, store.ErrNewerFormat)
	require.ErrorContains(t, err, fmt.Sprintf("%q", schema))
}

// TestOpenUsers opens with a user that may not create anything, before and after an administrator has run the
// migrations, and with one that may create just what it needs. They have the rights that the package comment names.
func TestOpenUsers(t *testing.T) {
	server := sharedServer(t)
	dsnOf := func(user string) string {
		config := server.dsnOf.Clone()
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

	all := documentedQueries(t)["These rights are all that a user of the tables needs, also to end sessions of its own:"]
	grant := strings.NewReplacer("ipalloc.", schemaMark(schema), "TO user", "TO plain@'%'").Replace(all)
	execute(t, server.dsn(), "", grant, strings.NewReplacer("plain", "creator", "GRANT ",
		"GRANT CREATE, DROP, INDEX, ALTER, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, ").Replace(grant))
	creator := open(t, dsnOf("creator"), schema)
	requireWorks(t, creator)
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

// TestNewLeavesDB checks that a db of the caller's can be used after Close.
func TestNewLeavesDB(t *testing.T) {
	db := connect(t, sharedServer(t).dsn())
	s, err := mysql.New(t.Context(), db, &mysql.Options{Schema: newSchema()})
	require.NoError(t, err)
	_, err = storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, db.PingContext(t.Context()))
	_, err = s.Get(t.Context(), head("a").Key)
	require.ErrorIs(t, err, store.ErrClosed)
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
			requireWorks(t, openOn(t, connect(t, sharedServer(t).dsn(), option), 4, newSchema()))
		})
	}
}

// requireWorks commits, reads and is refused.
func requireWorks(t *testing.T, s *mysql.Store) {
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
	require.ErrorIs(t, err, mysql.ErrOverlap)
	require.NotErrorIs(t, err, store.ErrUnknown)
}
