package servertest

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"syscall"
)

// errNoPostgres is why the tests cannot run.
var errNoPostgres = fmt.Errorf("a PostgreSQL server is %w; on Debian: apt-get install postgresql", ErrNotInstalled)

// Postgres is how PostgreSQL servers are made and run. Their superuser is postgres, who needs no password.
func Postgres(ping func(ctx context.Context, s *Server) error) Program {
	return Program{
		Name: "postgres", Initialise: initialisePostgres, Run: runPostgres, Ping: ping, Crash: syscall.SIGQUIT,
	}
}

// PostgresFolder is the folder of PostgreSQL's programs, those of servers among them: that of the one in the path, or
// where Debian puts them, of the newest version.
func PostgresFolder() (string, error) {
	initdb, err := exec.LookPath("initdb")
	if err == nil {
		initdb, err = filepath.EvalSymlinks(initdb)
	}
	if err != nil {
		found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
		if err != nil || len(found) == 0 {
			return "", errNoPostgres
		}
		initdb = found[len(found)-1]
	}
	return filepath.Dir(initdb), nil
}

// PostgresCommand is a command of one of PostgreSQL's programs.
func PostgresCommand(name string, args ...string) (*exec.Cmd, error) {
	folder, err := PostgresFolder()
	if err != nil {
		return nil, err
	}
	return exec.Command(filepath.Join(folder, name), args...), nil
}

func initialisePostgres(s *Server) (*exec.Cmd, error) {
	return PostgresCommand("initdb", "-D", filepath.Join(s.Dir, "data"), "-A", "trust", "-U", "postgres", "-E", "UTF8",
		"--locale=C", "--no-sync")
}

func runPostgres(s *Server) (*exec.Cmd, error) {
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, err
	}
	return PostgresCommand("postgres", append([]string{
		"-D", filepath.Join(s.Dir, "data"), "-h", host, "-p", port, "-k", s.Dir,
		"-c", "max_connections=400", "-c", "log_min_messages=warning",
		// The tests kill the server, not the machine: what it has written outlives it without reaching the disk.
		"-c", "fsync=off",
	}, s.Options...)...)
}
