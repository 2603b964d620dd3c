package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/store/mysql"
)

// server is a server of the tests' own. If the variable IPALLOC_MYSQL_DSN is set, the shared one is the server that it
// names, such as a MySQL 8, and the user must have all rights.
type server struct {
	*servertest.Server
	config *driver.Config
}

const externalDSN = "IPALLOC_MYSQL_DSN"

// programs are how servers are made and run.
var programs = servertest.MariaDB(ping)

func ping(ctx context.Context, s *servertest.Server) error {
	config := configOf(s)
	config.Logger = &driver.NopLogger{}
	connector, err := driver.NewConnector(config)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	return db.PingContext(ctx)
}

func configOf(s *servertest.Server) *driver.Config {
	config := driver.NewConfig()
	config.User, config.Net, config.Addr, config.Timeout = servertest.MariaDBUser, "tcp", s.Addr, 20*time.Second
	return config
}

// newServer starts a server, with more options of the program than all have.
func newServer(options ...string) (*server, error) {
	s, err := servertest.New(programs)
	if err != nil {
		return nil, err
	}
	s.Options = options
	return &server{s, configOf(s)}, s.Start()
}

// dsn is how to reach the server.
func (s *server) dsn() string { return s.dsnAt(s.config.Addr) }

// dsnAt is how to reach it at an address that leads to it.
func (s *server) dsnAt(address string) string {
	config := s.config.Clone()
	config.Addr = address
	return config.FormatDSN()
}

// shared is the server of all tests that do not stop theirs.
var shared = sync.OnceValues(func() (*server, error) {
	if dsn := os.Getenv(externalDSN); dsn != "" {
		config, err := driver.ParseDSN(dsn)
		return &server{config: config}, err
	}
	return newServer()
})

func TestMain(m *testing.M) {
	_, err := servertest.MariaDBCommand("mariadbd")
	if os.Getenv(externalDSN) != "" {
		err = nil
	}
	servertest.Main(m, err)
}

// sharedServer returns the server that tests share. It skips the test if none is installed, unless this is CI.
func sharedServer(t testing.TB) *server {
	t.Helper()
	s, err := shared()
	servertest.Require(t, err)
	return s
}

// exampleDSN is how the example reaches the server.
func exampleDSN() string {
	s, err := shared()
	if err != nil {
		return err.Error()
	}
	return s.dsn()
}

// restless is the server of the tests that stop theirs, or change its settings for a while. It writes to the disk
// before it answers a commit, so a commit that waits for the disk is often under way when it is killed.
var restless = sync.OnceValues(func() (*server, error) {
	return newServer("--innodb-flush-log-at-trx-commit=1", "--innodb-flush-method=fsync", "--debug-no-sync=0")
})

// ownServer is a server that no other test uses meanwhile. The test leaves it as it was, and running.
func ownServer(t testing.TB) *server {
	t.Helper()
	s, err := restless()
	servertest.Require(t, err)
	return s
}

var schemas atomic.Int64

// newSchema is the name of a schema that no other test has. It is one that goes wrong where it is not quoted.
func newSchema() string {
	return fmt.Sprintf("it's `%d`; -- %s %x", schemas.Add(1), strings.Repeat("x", 20), os.Getpid())
}

// connect returns a db for the server at a DSN, which is closed at the end of the test.
func connect(t testing.TB, dsn string, options ...func(*driver.Config)) *sql.DB {
	t.Helper()
	config, err := driver.ParseDSN(dsn)
	require.NoError(t, err)
	config.InterpolateParams, config.Logger = true, &driver.NopLogger{}
	for _, option := range options {
		option(config)
	}
	connector, err := driver.NewConnector(config)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	return db
}

// open opens a store, which is closed at the end of the test.
func open(t testing.TB, dsn, schema string) *mysql.Store {
	t.Helper()
	s, err := mysql.Open(context.Background(), dsn, &mysql.Options{Schema: schema})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// openOn opens a store on a db that has at most so many connections.
func openOn(t testing.TB, db *sql.DB, conns int, schema string) *mysql.Store {
	t.Helper()
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(max(2, conns))
	s, err := mysql.New(context.Background(), db, &mysql.Options{Schema: schema})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// execute runs statements one after the other, in the schema.
func execute(t testing.TB, dsn, schema string, statements ...string) {
	t.Helper()
	conn, err := connect(t, dsn).Conn(context.Background())
	require.NoError(t, err)
	defer conn.Close()
	if schema != "" {
		statements = append([]string{"USE " + quoted(schema)}, statements...)
	}
	for _, text := range statements {
		_, err = conn.ExecContext(context.Background(), text)
		require.NoError(t, err, text)
	}
}

// schemaMark is what tells a call in the schema from others in the text of a statement.
func schemaMark(schema string) string { return quoted(schema) + "." }

// quoted is a name in SQL.
func quoted(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// literal is a text in SQL.
func literal(text string) string { return fmt.Sprintf("X'%x'", text) }
