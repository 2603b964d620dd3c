package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/store/postgres"
)

// server is a PostgreSQL server of the tests' own.
type server struct{ *servertest.Server }

// programs are how servers are made and run.
var programs = servertest.Postgres(ping)

func ping(ctx context.Context, s *servertest.Server) error {
	conn, err := pgx.Connect(ctx, urlAt(s.Addr, "postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// newServer starts a server, with more options of the program than all have.
func newServer(options ...string) (server, error) {
	s, err := servertest.New(programs)
	if err != nil {
		return server{}, err
	}
	s.Options = options
	return server{s}, s.Start()
}

// url is how to reach a database of the server.
func (s server) url(database string) string { return urlAt(s.Addr, database) }

func urlAt(address, database string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable&connect_timeout=20", address, database)
}

// shared is the server of all tests that do not stop theirs.
var shared = sync.OnceValues(func() (server, error) { return newServer() })

func TestMain(m *testing.M) {
	_, err := servertest.PostgresFolder()
	servertest.Main(m, err)
}

// sharedServer returns the server that tests share. It skips the test if none is installed, unless this is CI.
func sharedServer(t testing.TB) server {
	t.Helper()
	s, err := shared()
	servertest.Require(t, err)
	return s
}

// exampleURL is how the example reaches the server.
func exampleURL() string {
	s, err := shared()
	if err != nil {
		return err.Error()
	}
	return s.url("postgres")
}

// ownServer starts a server that the test may stop, with more options of the program than all have.
func ownServer(t testing.TB, options ...string) server {
	t.Helper()
	s, err := newServer(options...)
	servertest.Require(t, err)
	t.Cleanup(func() { require.NoError(t, s.Remove()) })
	return s
}

var schemas atomic.Int64

// newSchema is the name of a schema that no other test has. It is one that goes wrong where it is not quoted.
func newSchema() string {
	return fmt.Sprintf(`it's "%d"; $$ -- %s`, schemas.Add(1), strings.Repeat("x", 20))
}

// connect returns a pool for a database, which is closed at the end of the test.
func connect(t testing.TB, url string, options ...func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	for _, option := range options {
		option(config)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// open opens a store, which is closed at the end of the test.
func open(t testing.TB, url, schema string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(context.Background(), url, &postgres.Options{Schema: schema})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// openOn opens a store on a pool, which is closed at the end of the test.
func openOn(t testing.TB, db *pgxpool.Pool, schema string) *postgres.Store {
	t.Helper()
	s, err := postgres.New(context.Background(), db, &postgres.Options{Schema: schema})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// execute runs statements one after the other, with the schema in the search path.
func execute(t testing.TB, url, schema string, statements ...string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer conn.Close(ctx)
	for _, sql := range append([]string{"SET search_path TO " + quoted(schema)}, statements...) {
		_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
		require.NoError(t, err)
	}
}

// quoted is a name in SQL.
func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }
