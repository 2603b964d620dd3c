package servertest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// errNoMariaDB is why the tests cannot run.
var errNoMariaDB = fmt.Errorf("a MariaDB server is %w; on Debian: apt-get install mariadb-server", ErrNotInstalled)

// MariaDBUser is the user of the tests, who needs no password. The file makes sure at each start of a server that there
// is one: without it, MariaDB takes a user without a password only on the server's machine.
const (
	MariaDBUser = "tester"

	initFile  = "init.sql"
	initLines = "CREATE USER IF NOT EXISTS " + MariaDBUser + "@'%';\nGRANT ALL ON *.* TO " + MariaDBUser +
		"@'%' WITH GRANT OPTION;\n"
)

// MariaDB is how MariaDB servers are made and run.
func MariaDB(ping func(ctx context.Context, s *Server) error) Program {
	return Program{Name: "mysql", Initialise: initialiseMariaDB, Run: runMariaDB, Ping: ping, Crash: syscall.SIGKILL}
}

// MariaDBCommand is a command of one of MariaDB's programs, which root may have only in a folder that is not in its
// path.
func MariaDBCommand(name string, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name
		if _, err := os.Stat(path); err != nil {
			return nil, errNoMariaDB
		}
	}
	return exec.Command(path, args...), nil
}

func initialiseMariaDB(s *Server) (*exec.Cmd, error) {
	if err := os.WriteFile(filepath.Join(s.Dir, initFile), []byte(initLines), 0o644); err != nil {
		return nil, err
	}
	return MariaDBCommand("mariadb-install-db", "--no-defaults", "--datadir="+filepath.Join(s.Dir, "data"),
		"--skip-test-db", "--auth-root-authentication-method=normal")
}

func runMariaDB(s *Server) (*exec.Cmd, error) {
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, err
	}
	in := func(name string) string { return filepath.Join(s.Dir, name) }
	return MariaDBCommand("mariadbd", append([]string{
		"--no-defaults", "--datadir=" + in("data"), "--socket=" + in("socket"), "--bind-address=" + host, "--port=" + port,
		"--pid-file=" + in("pid"), "--init-file=" + in(initFile), "--max-connections=400",
		// A server that starts removes the temporary files of those that share the folder.
		"--tmpdir=" + s.Dir, "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M",
		// The tests kill the server, not the machine: what it has written outlives it without reaching the disk.
		"--innodb-flush-log-at-trx-commit=2", "--innodb-flush-method=nosync", "--debug-no-sync",
	}, s.Options...)...)
}
