package postgres_test

import (
	"context"
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
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/freeport"
	"github.com/ipalloc/ipalloc/store/postgres"
)

// server is a PostgreSQL server of the tests' own, in a folder of its own, on a port of 127.0.0.1.
type server struct {
	programs, dir, addr string   // addr is the host and port
	options             []string // of the program, beside those that all have

	mu      sync.Mutex
	process *os.Process
	ended   chan error // has the end of the process
}

// errNoServer is why the tests cannot run.
var errNoServer = errors.New("no PostgreSQL server is installed; on Debian: apt-get install postgresql")

// serverPrograms is the folder of initdb and postgres: in the path, or where Debian puts them, of the newest version.
func serverPrograms() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errNoServer
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// newServer makes a server, which does not run yet.
func newServer() (*server, error) {
	programs, err := serverPrograms()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "ipalloc-postgres-")
	if err != nil {
		return nil, err
	}
	s := &server{programs: programs, dir: dir}
	if s.addr, err = freeport.Addr(); err == nil {
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
	initdb := exec.Command(filepath.Join(s.programs, "initdb"), "-D", filepath.Join(s.dir, "data"), "-A", "trust",
		"-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = attributes, s.dir
	if output, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, output)
	}
	return nil
}

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
	attributes, err := serverAttributes(s.dir)
	if err != nil {
		started <- err
		return
	}
	host, port, err := net.SplitHostPort(s.addr)
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
	command := exec.Command(filepath.Join(s.programs, "postgres"), append([]string{
		"-D", filepath.Join(s.dir, "data"), "-h", host, "-p", port, "-k", s.dir,
		"-c", "max_connections=400", "-c", "log_min_messages=warning",
		// The tests kill the server, not the machine: what it has written outlives it without reaching the disk.
		"-c", "fsync=off"}, s.options...)...)
	command.SysProcAttr, command.Dir, command.Stdout, command.Stderr = attributes, s.dir, log, log
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

// await waits until the server answers.
func (s *server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.url("postgres"))
		if err == nil {
			return conn.Close(ctx)
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

// stop sends a signal to the server, and waits until it has ended: SIGINT is a shutdown, SIGQUIT one without a
// checkpoint, SIGKILL a crash.
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

// restart starts a server that was stopped, however that was: the processes of one that was killed may still be ending,
// and do not let another start.
func (s *server) restart() error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err := s.start(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// remove ends the server for good.
func (s *server) remove() error { return errors.Join(s.stop(os.Interrupt), os.RemoveAll(s.dir)) }

// url is how to reach a database of the server.
func (s *server) url(database string) string { return urlAt(s.addr, database) }

func urlAt(address, database string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable&connect_timeout=20", address, database)
}

// shared is the server of all tests that do not stop theirs.
var shared = sync.OnceValues(func() (*server, error) {
	s, err := newServer()
	if err != nil {
		return nil, err
	}
	return s, s.start()
})

func TestMain(m *testing.M) {
	if _, err := serverPrograms(); err != nil && !inCI() {
		_ = flag.Set("test.skip", "^Example") // the tests skip themselves
	}
	code := m.Run()
	if s, err := sharedIfStarted(); s != nil && err == nil {
		if err := s.remove(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

var sharedStarted atomic.Bool

func sharedIfStarted() (*server, error) {
	if !sharedStarted.Load() {
		return nil, nil
	}
	return shared()
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

// exampleURL is how the example reaches the server.
func exampleURL() string {
	sharedStarted.Store(true)
	s, err := shared()
	if err != nil {
		return err.Error()
	}
	return s.url("postgres")
}

func requireServer(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errNoServer) && !inCI() {
		t.Skip(err)
	}
	require.NoError(t, err)
}

// ownServer starts a server that the test may stop, with more options of the program than all have.
func ownServer(t testing.TB, options ...string) *server {
	t.Helper()
	s, err := newServer()
	requireServer(t, err)
	s.options = options
	require.NoError(t, s.start())
	t.Cleanup(func() { require.NoError(t, s.remove()) })
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
