package durable

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"net/netip"
	"path/filepath"
	"sync/atomic"

	_ "modernc.org/sqlite" // the driver of database/sql

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/sqlite"
)

func ipallocSQLite() Kind {
	k := Kind{Name: "ipalloc on SQLite", Note: "one transaction a commit, the log synced", Prepare: inFolder}
	return ours(k, func(ctx context.Context, address string) (store.Store, error) {
		return sqlite.Open(ctx, filepath.Join(address, "ipalloc.db"), nil)
	})
}

func bareSQLite() Kind {
	return Kind{
		Name: "bare SQLite", Module: "modernc.org/sqlite", Floor: true, Grows: true,
		Note:    "no allocator: one value of 200 bytes put, or deleted, in one synced transaction",
		Prepare: inFolder, Open: openBareSQLite,
	}
}

// bareSQLiteFile is a table of small values.
type bareSQLiteFile struct {
	db             *sql.DB
	insert, remove *sql.Stmt
	swap           *sql.Stmt
	first          uint32
	calls          atomic.Uint32
	swaps          int
}

func openBareSQLite(ctx context.Context, address string, prefix netip.Prefix) (Pool, error) {
	path := filepath.Join(address, "bare.db")
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(300000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	first := prefix.Addr().As4()
	b := &bareSQLiteFile{db: db, first: binary.BigEndian.Uint32(first[:])}
	if err := b.prepare(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return b, nil
}

func (b *bareSQLiteFile) prepare(ctx context.Context) error {
	const table = "CREATE TABLE IF NOT EXISTS record (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID"
	if _, err := b.db.ExecContext(ctx, table); err != nil {
		return err
	}
	for text, statement := range map[string]**sql.Stmt{
		"INSERT OR REPLACE INTO record VALUES (?, ?)":             &b.insert,
		"DELETE FROM record WHERE key = ?":                        &b.remove,
		"UPDATE record SET value = ? WHERE key = ? AND value = ?": &b.swap,
	} {
		var err error
		if *statement, err = b.db.PrepareContext(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

// Allocate returns the number of the call as an address.
func (b *bareSQLiteFile) Allocate(_ context.Context, owner string) (netip.Addr, error) {
	var addr [4]byte
	binary.BigEndian.PutUint32(addr[:], b.first+b.calls.Add(1))
	_, err := b.insert.Exec(owner, bareValue)
	return netip.AddrFrom4(addr), err
}

func (b *bareSQLiteFile) Release(_ context.Context, owner string) error {
	_, err := b.remove.Exec(owner)
	return err
}

// bareValue has 200 bytes.
var bareValue = swapValue(0)

func (b *bareSQLiteFile) Fill(ctx context.Context, owners []string) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	insert := tx.StmtContext(ctx, b.insert)
	for _, owner := range owners {
		if _, err := insert.Exec(owner, bareValue); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// Swap implements Swapper.
func (b *bareSQLiteFile) Swap(context.Context) error {
	b.swaps++
	if b.swaps == 1 {
		_, err := b.insert.Exec(swapOwner, swapValue(1))
		return err
	}
	result, err := b.swap.Exec(swapValue(b.swaps), swapOwner, swapValue(b.swaps-1))
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errSwapped, err)
	}
	return nil
}

func (b *bareSQLiteFile) Close() error { return b.db.Close() }
