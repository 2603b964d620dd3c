package durable

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/ipalloc/ipalloc/internal/freeport"
)

const (
	mysqlServer  = "MariaDB"
	mysqlAccount = "mysql" // of the system, as which the server runs
	mysqlUser    = "bench"
)

// startMySQL starts a MariaDB server on the loopback interface, with its defaults. It needs the programs of such a
// server. As root it also needs a user mysql, as which it runs the server, with the data in a folder of that user.
func startMySQL(string) (address string, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "ipalloc-mysql-")
	if err != nil {
		return "", nil, err
	}
	server, address, err := runMySQL(dir)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop = func() error {
		return errors.Join(server.Process.Signal(syscall.SIGTERM), server.Wait(), os.RemoveAll(dir))
	}
	if err := awaitMySQL(address); err != nil {
		return "", nil, errors.Join(err, stop())
	}
	return address, stop, nil
}

func runMySQL(dir string) (*exec.Cmd, string, error) {
	install, err := mysqlProgram("mariadb-install-db")
	if err != nil {
		return nil, "", err
	}
	program, err := mysqlProgram("mariadbd")
	if err != nil {
		return nil, "", err
	}
	attributes, err := serverAttributes(dir, mysqlAccount)
	if err != nil {
		return nil, "", err
	}
	data, users := filepath.Join(dir, "data"), filepath.Join(dir, "users.sql")
	installing := exec.Command(install, "--no-defaults", "--datadir="+data, "--skip-test-db",
		"--auth-root-authentication-method=normal")
	installing.SysProcAttr, installing.Dir = attributes, dir
	if output, err := installing.CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("mariadb-install-db: %w: %s", err, output)
	}
	text := "CREATE USER IF NOT EXISTS " + mysqlUser + "@'%';\nGRANT ALL ON *.* TO " + mysqlUser + "@'%';\n"
	if err := os.WriteFile(users, []byte(text), 0o644); err != nil {
		return nil, "", err
	}
	address, err := freeport.Addr()
	if err != nil {
		return nil, "", err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", err
	}
	server := exec.Command(program, "--no-defaults", "--datadir="+data, "--bind-address="+host, "--port="+port,
		"--socket="+filepath.Join(dir, "socket"), "--init-file="+users, "--max-connections=600")
	server.SysProcAttr, server.Dir = attributes, dir
	return server, address, server.Start()
}

// mysqlProgram is a program in the path, or where Debian puts those for root.
func mysqlProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	path := "/usr/sbin/" + name
	if _, err := os.Stat(path); err != nil {
		return "", errors.New("no MariaDB server is installed")
	}
	return path, nil
}

// awaitMySQL waits until the server answers.
func awaitMySQL(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	db, err := sql.Open("mysql", mysqlDSN(host, port))
	if err != nil {
		return err
	}
	defer db.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err = db.Ping(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func mysqlDSN(host, port string) string {
	config := mysql.NewConfig()
	config.User, config.Net, config.Addr, config.InterpolateParams = mysqlUser, "tcp", net.JoinHostPort(host, port), true
	return config.FormatDSN()
}

// onMySQL makes a database.
func onMySQL(ctx context.Context, servers *Servers, _ string) (string, func() error, error) {
	address, err := servers.place(mysqlServer)
	if err != nil {
		return "", nil, err
	}
	host, port, place, err := splitPlace(address)
	if err != nil {
		return "", nil, err
	}
	db, err := sql.Open("mysql", mysqlDSN(host, port))
	if err != nil {
		return "", nil, err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, "CREATE DATABASE `"+place+"`")
	return address, func() error { return nil }, err
}

func bareMySQL() Kind {
	return Kind{
		Name: "bare MariaDB", Module: "github.com/go-sql-driver/mysql", Floor: true, Grows: true,
		Note:    "no allocator: one row of 200 bytes inserted, or deleted, in one transaction",
		Prepare: onMySQL, Open: openBareMySQL,
	}
}

type bareMySQLPlace struct {
	db    *sql.DB
	table string
	first [4]byte
	calls atomic.Uint32
	swaps int
}

func openBareMySQL(ctx context.Context, address string, prefix netip.Prefix) (Pool, error) {
	host, port, place, err := splitPlace(address)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("mysql", mysqlDSN(host, port))
	if err != nil {
		return nil, err
	}
	db.SetMaxIdleConns(64)
	b := &bareMySQLPlace{db: db, table: "`" + place + "`.bare", first: prefix.Addr().As4()}
	_, err = db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS "+b.table+
		" (owner varchar(200) PRIMARY KEY, value text NOT NULL) ENGINE = InnoDB")
	return b, err
}

// Allocate returns the number of the call as an address.
func (b *bareMySQLPlace) Allocate(ctx context.Context, owner string) (netip.Addr, error) {
	addr := b.first
	binary.BigEndian.PutUint32(addr[:], binary.BigEndian.Uint32(b.first[:])+b.calls.Add(1))
	_, err := b.db.ExecContext(ctx, "REPLACE INTO "+b.table+" VALUES (?, ?)", owner, strings.Repeat("x", 200))
	return netip.AddrFrom4(addr), err
}

func (b *bareMySQLPlace) Release(ctx context.Context, owner string) error {
	_, err := b.db.ExecContext(ctx, "DELETE FROM "+b.table+" WHERE owner = ?", owner)
	return err
}

// Fill makes the rows in one transaction, for names that count up.
func (b *bareMySQLPlace) Fill(ctx context.Context, owners []string) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, owner := range owners {
		_, err := tx.ExecContext(ctx, "INSERT INTO "+b.table+" VALUES (?, ?)", owner, strings.Repeat("x", 200))
		if err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// Swap implements Swapper.
func (b *bareMySQLPlace) Swap(ctx context.Context) error {
	if b.swaps == 0 {
		b.swaps++
		_, err := b.db.ExecContext(ctx, "INSERT INTO "+b.table+" VALUES (?, ?)", swapOwner, swapValue(b.swaps))
		return err
	}
	result, err := b.db.ExecContext(ctx, "UPDATE "+b.table+" SET value = ? WHERE owner = ? AND value = ?",
		swapValue(b.swaps+1), swapOwner, swapValue(b.swaps))
	if err != nil {
		return err
	}
	rows, err := result.RowsAffected()
	if err == nil && rows != 1 {
		err = errSwapped
	}
	b.swaps++
	return err
}

func (b *bareMySQLPlace) Close() error { return b.db.Close() }
