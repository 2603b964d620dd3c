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

	_ "github.com/lib/pq" // the driver that go-ipam uses
	goipam "github.com/metal-stack/go-ipam"

	"github.com/ipalloc/ipalloc/internal/freeport"
)

const (
	postgresServer = "PostgreSQL"
	postgresUser   = "postgres"
)

// startPostgres starts a server on the loopback interface, with the defaults of initdb. It needs the
// programs of a PostgreSQL server. As root it also needs a user postgres, as whom it runs the
// server, with the data in a folder of that user.
func startPostgres(string) (address string, stop func() error, err error) {
	programs, err := postgresPrograms()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "ipalloc-postgres-")
	if err != nil {
		return "", nil, err
	}
	server, address, err := runPostgres(programs, dir)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop = func() error {
		return errors.Join(server.Process.Signal(syscall.SIGINT), server.Wait(), os.RemoveAll(dir)) // a fast shutdown
	}
	if err := awaitPostgres(address); err != nil {
		return "", nil, errors.Join(err, stop())
	}
	return address, stop, nil
}

func runPostgres(programs, dir string) (*exec.Cmd, string, error) {
	attributes, err := serverAttributes(dir, postgresUser)
	if err != nil {
		return nil, "", err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(programs, "initdb"), "-D", data, "-A", "trust",
		"-U", postgresUser, "-E", "UTF8", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = attributes, dir
	if output, err := initdb.CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("initdb: %w: %s", err, output)
	}
	address, err := freeport.Addr()
	if err != nil {
		return nil, "", err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", err
	}
	server := exec.Command(filepath.Join(programs, "postgres"), "-D", data, "-h", host, "-p", port, "-k", "", "-N", "300")
	server.SysProcAttr, server.Dir = attributes, dir
	return server, address, server.Start()
}

// postgresPrograms is the folder of initdb and postgres: in the path, or where Debian puts them.
func postgresPrograms() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err == nil && len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	return "", errors.New("no PostgreSQL server is installed")
}

// awaitPostgres waits until the server answers.
func awaitPostgres(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	db, err := sql.Open("postgres", postgresURL(host, port, postgresUser))
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

func postgresURL(host, port, database string) string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", postgresUser, net.JoinHostPort(host, port), database)
}

// onPostgres makes a database.
func onPostgres(ctx context.Context, servers *Servers, _ string) (string, func() error, error) {
	address, err := servers.place(postgresServer)
	if err != nil {
		return "", nil, err
	}
	host, port, place, err := splitPlace(address)
	if err != nil {
		return "", nil, err
	}
	db, err := sql.Open("postgres", postgresURL(host, port, postgresUser))
	if err != nil {
		return "", nil, err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, "CREATE DATABASE "+place)
	return address, func() error { return nil }, err
}

func barePostgres() Kind {
	return Kind{
		Name: "bare PostgreSQL", Module: "github.com/lib/pq", Floor: true, Grows: true,
		Note:    "no allocator: one row of 200 bytes inserted, or deleted, in one transaction",
		Prepare: onPostgres, Open: openBarePostgres,
	}
}

type barePostgresPlace struct {
	db    *sql.DB
	first [4]byte
	calls atomic.Uint32
	swap  *sql.Stmt // prepared by the first one
	swaps int
}

func openBarePostgres(ctx context.Context, address string, prefix netip.Prefix) (Pool, error) {
	host, port, place, err := splitPlace(address)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("postgres", postgresURL(host, port, place))
	if err != nil {
		return nil, err
	}
	db.SetMaxIdleConns(64)
	b := &barePostgresPlace{db: db, first: prefix.Addr().As4()}
	_, err = db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS bare (owner text PRIMARY KEY, value text NOT NULL)")
	return b, err
}

// Allocate returns the number of the call as an address.
func (b *barePostgresPlace) Allocate(ctx context.Context, owner string) (netip.Addr, error) {
	addr := b.first
	binary.BigEndian.PutUint32(addr[:], binary.BigEndian.Uint32(b.first[:])+b.calls.Add(1))
	_, err := b.db.ExecContext(ctx, "INSERT INTO bare VALUES ($1, $2) ON CONFLICT (owner) DO UPDATE SET value = $2",
		owner, strings.Repeat("x", 200))
	return netip.AddrFrom4(addr), err
}

func (b *barePostgresPlace) Release(ctx context.Context, owner string) error {
	_, err := b.db.ExecContext(ctx, "DELETE FROM bare WHERE owner = $1", owner)
	return err
}

// Fill makes the rows in one statement, for names that count up.
func (b *barePostgresPlace) Fill(ctx context.Context, owners []string) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, owner := range owners {
		if _, err := tx.ExecContext(ctx, "INSERT INTO bare VALUES ($1, $2)", owner, strings.Repeat("x", 200)); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// Swap implements Swapper.
func (b *barePostgresPlace) Swap(ctx context.Context) error {
	if b.swap == nil {
		return b.firstSwap(ctx)
	}
	result, err := b.swap.ExecContext(ctx, swapOwner, swapValue(b.swaps+1), swapValue(b.swaps))
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

func (b *barePostgresPlace) firstSwap(ctx context.Context) (err error) {
	if _, err := b.db.ExecContext(ctx, "INSERT INTO bare VALUES ($1, $2)", swapOwner, swapValue(0)); err != nil {
		return err
	}
	b.swap, err = b.db.PrepareContext(ctx, "UPDATE bare SET value = $2 WHERE owner = $1 AND value = $3")
	return err
}

func (b *barePostgresPlace) Close() error { return b.db.Close() }

func goIPAMPostgres() Kind {
	return Kind{
		Name: "go-ipam PostgreSQL", Module: goIPAMModule,
		Note:    "a prefix with all its addresses is one row of JSON; no owners: the caller keeps the address",
		Prepare: onPostgres,
		Open: func(ctx context.Context, address string, prefix netip.Prefix) (Pool, error) {
			host, port, place, err := splitPlace(address)
			if err != nil {
				return nil, err
			}
			storage, err := goipam.NewPostgresStorage(host, port, postgresUser, "", place, goipam.SSLModeDisable)
			if err != nil {
				return nil, err
			}
			return openGoIPAM(ctx, storage, prefix)
		},
	}
}
