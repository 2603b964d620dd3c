package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/freeport"
	"github.com/ipalloc/ipalloc/store/mysql"
)

// server is a server of the tests' own, in a folder of its own, on a port of 127.0.0.1. If the variable
// IPALLOC_MYSQL_DSN is set, the shared one is the server that it names, such as a MySQL 8, and the user must have all
// rights.
type server struct {
	dsnOf   *driver.Config
	dir     string
	options []string // of the program, beside those that all have

	mu      sync.Mutex
	process *os.Process
	ended   chan error // has the end of the process
}

const externalDSN = "IPALLOC_MYSQL_DSN"

// The programs that make and run a server, which root may have only in a folder that is not in its path.
const (
	installProgram = "mariadb-install-db"
	serverProgram  = "mariadbd"
)

// errNoServer is why the tests cannot run.
var errNoServer = errors.New("no MariaDB server is installed; on Debian: apt-get install mariadb-server")

func program(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	path := "/usr/sbin/" + name
	if _, err := os.Stat(path); err != nil {
		return "", errNoServer
	}
	return path, nil
}

// findServer returns an error if there is no server.
func findServer() error {
	if os.Getenv(externalDSN) != "" {
		return nil
	}
	_, err1 := program(installProgram)
	_, err2 := program(serverProgram)
	return errors.Join(err1, err2)
}

// The user of the tests, and the file by which each start of a server makes sure that there is one. Its password must
// be sent, because MariaDB takes a user without one only on the server's machine.
const (
	testUser  = "tester"
	initFile  = "init.sql"
	initLines = "CREATE USER IF NOT EXISTS " + testUser + "@'%';\nGRANT ALL ON *.* TO " + testUser +
		"@'%' WITH GRANT OPTION;\n"
)

// newServer makes a server, which does not run yet.
func newServer() (*server, error) {
	if err := findServer(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "ipalloc-mysql-")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, dsnOf: driver.NewConfig()}
	s.dsnOf.User, s.dsnOf.Net, s.dsnOf.Timeout = testUser, "tcp", 20*time.Second
	if s.dsnOf.Addr, err = freeport.Addr(); err == nil {
		err = s.initialise()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

func (s *server) initialise() error {
	attributes, err := serverAttributes(s.dir)
	if err != nil {
		return err
	}
	path, err := program(installProgram)
	if err != nil {
		return err
	}
	install := exec.Command(path, "--no-defaults", "--datadir="+s.data(), "--skip-test-db",
		"--auth-root-authentication-method=normal")
	install.SysProcAttr, install.Dir = attributes, s.dir
	if output, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", installProgram, err, output)
	}
	return os.WriteFile(filepath.Join(s.dir, initFile), []byte(initLines), 0o644)
}

func (s *server) data() string { return filepath.Join(s.dir, "data") }

// start starts the server and waits until it answers.
func (s *server) start() error {
	started := make(chan error, 1)
	s.mu.Lock()
	s.ended = make(chan error, 1)
	s.mu.Unlock()
	go s.run(started)
	if err := <-started; err != nil {
		return err
	}
	return s.await()
}

// run runs the server in a thread of its own, with which it ends.
func (s *server) run(started chan<- error) {
	runtime.LockOSThread()
	command, err := s.command()
	if err != nil {
		started <- err
		return
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		started <- err
		return
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	err = command.Start()
	s.mu.Lock()
	s.process = command.Process
	ended := s.ended
	s.mu.Unlock()
	started <- err
	if err == nil {
		ended <- command.Wait()
	}
}

func (s *server) command() (*exec.Cmd, error) {
	attributes, err := serverAttributes(s.dir)
	if err != nil {
		return nil, err
	}
	path, err := program(serverProgram)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(s.address())
	if err != nil {
		return nil, err
	}
	command := exec.Command(path, append([]string{
		"--no-defaults", "--datadir=" + s.data(), "--socket=" + filepath.Join(s.dir, "socket"), "--bind-address=" + host,
		"--port=" + port, "--pid-file=" + filepath.Join(s.dir, "pid"), "--init-file=" + filepath.Join(s.dir, initFile),
		"--max-connections=400", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M",
		// The tests kill the server, not the machine: what it has written outlives it without reaching the disk.
		"--innodb-flush-log-at-trx-commit=2", "--innodb-flush-method=nosync", "--debug-no-sync",
	}, s.options...)...)
	command.SysProcAttr, command.Dir = attributes, s.dir
	return command, nil
}

// await waits until the server answers.
func (s *server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	config := s.dsnOf.Clone()
	config.Logger = &driver.NopLogger{}
	connector, err := driver.NewConnector(config)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case err := <-s.ended:
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("the server ended: %w: %s", err, log)
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop sends a signal to the server, and waits until it has ended: SIGTERM is a shutdown, SIGKILL a crash.
func (s *server) stop(signal os.Signal) error {
	s.mu.Lock()
	process, ended := s.process, s.ended
	s.mu.Unlock()
	if err := process.Signal(signal); err != nil {
		return err
	}
	<-ended
	return nil
}

// restart starts a server that was stopped.
func (s *server) restart() error { return s.start() }

// remove ends the server for good.
func (s *server) remove() error { return errors.Join(s.stop(syscall.SIGKILL), os.RemoveAll(s.dir)) }

// address is the host and port.
func (s *server) address() string { return s.dsnOf.Addr }

// dsn is how to reach the server.
func (s *server) dsn() string { return s.dsnAt(s.address()) }

// dsnAt is how to reach it at an address that leads to it.
func (s *server) dsnAt(address string) string {
	config := s.dsnOf.Clone()
	config.Addr = address
	return config.FormatDSN()
}

// shared is the server of all tests that do not stop theirs.
var shared = sync.OnceValues(func() (*server, error) {
	if dsn := os.Getenv(externalDSN); dsn != "" {
		config, err := driver.ParseDSN(dsn)
		return &server{dsnOf: config}, err
	}
	s, err := newServer()
	if err != nil {
		return nil, err
	}
	return s, s.start()
})

func TestMain(m *testing.M) {
	if findServer() != nil && !inCI() {
		_ = flag.Set("test.skip", "^Example") // the tests skip themselves
	}
	code := m.Run()
	if err := errors.Join(removeStarted(&sharedStarted, shared), removeStarted(&restlessStarted, restless)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

var sharedStarted, restlessStarted atomic.Bool

// removeStarted removes a server that was started.
func removeStarted(started *atomic.Bool, get func() (*server, error)) error {
	if !started.Load() {
		return nil
	}
	if s, err := get(); err == nil && s.process != nil {
		return s.remove()
	}
	return nil // the tests have said why
}

// sharedServer returns the server that tests share. It skips the test if none is installed, unless this is CI.
func sharedServer(t testing.TB) *server {
	t.Helper()
	sharedStarted.Store(true)
	s, err := shared()
	requireServer(t, err)
	return s
}

// inCI tells whether a server that is not installed is a failure.
func inCI() bool { return os.Getenv("CI") == "true" }

// exampleDSN is how the example reaches the server.
func exampleDSN() string {
	sharedStarted.Store(true)
	s, err := shared()
	if err != nil {
		return err.Error()
	}
	return s.dsn()
}

func requireServer(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errNoServer) && !inCI() {
		t.Skip(err)
	}
	require.NoError(t, err)
}

// restless is the server of the tests that stop theirs, or change its settings for a while. It writes to the disk
// before it answers a commit, so a commit that waits for the disk is often under way when it is killed.
var restless = sync.OnceValues(func() (*server, error) {
	s, err := newServer()
	if err != nil {
		return nil, err
	}
	s.options = []string{"--innodb-flush-log-at-trx-commit=1", "--innodb-flush-method=fsync", "--debug-no-sync=0"}
	return s, s.start()
})

// ownServer is a server that no other test uses meanwhile. The test leaves it as it was, and running.
func ownServer(t testing.TB) *server {
	t.Helper()
	restlessStarted.Store(true)
	s, err := restless()
	requireServer(t, err)
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
