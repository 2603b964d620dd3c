package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"iter"
	"strings"
	"sync"

	"github.com/ipalloc/ipalloc/store"
)

// Store is a [store.Store] in a schema of a MySQL or MariaDB server. The package comment says what it guarantees.
//
// The zero Store is not usable, see [Open] and [New]. A Store must not be copied. All methods may be called by any
// number of goroutines at once. Each except Watch takes a connection while it runs.
type Store struct {
	db      *sql.DB
	schema  string
	packet  int // the size of the largest packet that the server takes, in bytes
	sql     statements
	closeDB func() error // nil if the db is the caller's
	closing sync.Once
	closed  chan struct{}
	poller  *poller
	turns   store.Turns
	locking chan struct{} // has room for as many calls as may wait in the server at once, nil for any number
}

var _ store.Store = (*Store)(nil)

func newStore(db *sql.DB, schema string, packet int) *Store {
	s := &Store{db: db, schema: schema, packet: packet, sql: statementsFor(schema), closed: make(chan struct{})}
	if conns := db.Stats().MaxOpenConnections; conns > 0 {
		s.locking = make(chan struct{}, conns-1) // one connection is for what is read in a turn
	}
	s.poller = newPoller(s)
	return s
}

// statements are the texts of what is sent, for one schema.
type statements struct {
	get, listPool, listAll, byExpiry, find string
	byLabel                                string
	apply, turn, join, leave, withdraw     string
	getAll, revisions, oust                string
}

func statementsFor(schema string) statements {
	in := quoteName(schema) + "."
	selected := "SELECT r.kind, r.pool, r.name, " + columns + " FROM " + in + "record r WHERE r.kind = ? AND "
	return statements{
		get:      selected + "r.pool = ? AND r.name = ?",
		listPool: selected + "r.pool = ? AND (? OR r.name > ?) ORDER BY r.name LIMIT ?",
		// A comparison of rows would not use the index.
		listAll: "(" + selected + "r.pool = ? AND r.name > ? ORDER BY r.name LIMIT ?) UNION ALL (" +
			selected + "r.pool > ? ORDER BY r.pool, r.name LIMIT ?) ORDER BY pool, name LIMIT ?",
		byExpiry: "(" + selected + "r.pool = ? AND r.expires = ? AND r.name > ? ORDER BY r.name LIMIT ?) UNION ALL (" +
			selected + "r.pool = ? AND r.expires > ? ORDER BY r.expires, r.name LIMIT ?) ORDER BY 9, name LIMIT ?",
		// Rows of a pool do not overlap, so only the last one that begins no later than the address can contain it.
		find: "SELECT r.kind, r.pool, r.name, " + columns + " FROM (SELECT a.kind, a.pool, a.name, a.last FROM " + in +
			"address a WHERE a.pool = ? AND a.family = ? AND a.first <= UNHEX(?) ORDER BY a.first DESC LIMIT 1) a JOIN " +
			in + "record r ON r.kind = a.kind AND r.pool = a.pool AND r.name = a.name" +
			" WHERE a.kind = 'allocation' AND a.last >= UNHEX(?)",
		byLabel: "SELECT r.kind, r.pool, r.name, " + columns + " FROM " + in + "label l STRAIGHT_JOIN " + in +
			"record r ON r.kind = ? AND r.pool = l.pool AND r.name = l.name" +
			" WHERE l.pool = ? AND l.hash = UNHEX(?) AND (? OR l.name > ?) ORDER BY l.name LIMIT ?",
		apply:     "CALL " + in + "apply(?, ?, ?, ?, ?, ?, ?)",
		turn:      "CALL " + in + "take_turn(?, ?, ?)",
		join:      "CALL " + in + "join_line(?, ?, ?, ?, ?)",
		leave:     "CALL " + in + "leave_lines()",
		withdraw:  "CALL " + in + "withdraw(?, ?)",
		getAll:    "CALL " + in + "get_all(?)",
		revisions: "CALL " + in + "revisions(?)",
		oust:      "CALL " + in + "oust(?, ?)",
	}
}

// Schema returns the name of the schema that the store is in.
func (s *Store) Schema() string { return s.schema }

// Get implements [store.Store]. Cost: one round trip.
func (s *Store) Get(ctx context.Context, key store.Key) (store.Record, error) {
	if err := key.Validate(); err != nil {
		return store.Record{}, err
	}
	all, err := s.query(ctx, s.sql.get, string(key.Kind), key.Pool, key.Name)
	switch {
	case err != nil:
		return store.Record{}, s.wrap(fmt.Errorf("get %v: %w", key, err))
	case len(all) == 0:
		return store.Record{}, s.wrap(fmt.Errorf("%w: %v", store.ErrNotFound, key))
	}
	return all[0], nil
}

// query returns the records that a statement selects. It holds no connection when it returns.
func (s *Store) query(ctx context.Context, text string, args ...any) (all []store.Record, err error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	rows, err := s.db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		var key store.Key
		var f fields
		if err := rows.Scan(append([]any{(*string)(&key.Kind), &key.Pool, &key.Name}, f.into()...)...); err != nil {
			return nil, withContext(ctx, err)
		}
		r, err := f.record(key)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, withContext(ctx, rows.Err())
}

// begin returns an error if the context has ended or the store is closed.
func (s *Store) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.isClosed() {
		return store.ErrClosed
	}
	return nil
}

// acquire takes a connection.
func (s *Store) acquire(ctx context.Context) (*sql.Conn, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	return conn, nil
}

// failed is an error of database/sql when nothing was sent, or nothing that matters.
func (s *Store) failed(ctx context.Context, err error) error {
	if s.isClosed() {
		return fmt.Errorf("%w: %w", store.ErrClosed, err)
	}
	return withContext(ctx, err)
}

// discard closes a connection instead of giving it back: its session may have locks, or a transaction.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = conn.Close()
}

func (s *Store) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// wrap adds the schema to err.
func (s *Store) wrap(err error) error { return fmt.Errorf("schema %q: %w", s.schema, err) }

// Close implements [store.Store]. It ends calls of Watch. If [Open] made the store, it also waits for other running
// calls, and closes the connections.
func (s *Store) Close() (err error) {
	s.closing.Do(func() {
		close(s.closed)
		s.poller.close()
		if s.closeDB != nil {
			err = s.closeDB()
		}
	})
	return err
}

// pageRecords is how many records List reads at once.
const pageRecords = 256

// List implements [store.Store]. It yields the records in the order of their pools and names, byte by byte. It holds at
// most 256 of them in memory, which it reads in one statement, and no connection while it yields.
func (s *Store) List(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := store.ValidateList(kind, pool); err != nil {
			yield(store.Record{}, err)
			return
		}
		last := store.Key{Pool: pool}
		for first := true; ; first = false {
			text, args := s.sql.listPool, []any{string(kind), pool, first, last.Name, pageRecords}
			if pool == "" {
				text, args = s.sql.listAll, []any{
					string(kind), last.Pool, last.Name, pageRecords, string(kind), last.Pool, pageRecords, pageRecords,
				}
			}
			page, err := s.query(ctx, text, args...)
			if err != nil {
				yield(store.Record{}, s.wrap(fmt.Errorf("list: %w", err)))
				return
			}
			for _, r := range page {
				if !s.yield(ctx, r, yield) {
					return
				}
			}
			if len(page) < pageRecords {
				return
			}
			last = page[len(page)-1].Key
		}
	}
}

// yield yields r, or an error if the context has ended, and reports whether to go on.
func (s *Store) yield(ctx context.Context, r store.Record, yield func(store.Record, error) bool) bool {
	if err := ctx.Err(); err != nil {
		yield(store.Record{}, s.wrap(err))
		return false
	}
	return yield(r, nil)
}

// Version implements [store.Versioned].
func (s *Store) Version(ctx context.Context) (version string, err error) {
	conn, err := s.acquire(ctx)
	if err == nil {
		defer conn.Close()
		err = conn.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version)
	}
	if err != nil {
		return "", s.wrap(fmt.Errorf("version: %w", err))
	}
	if strings.Contains(version, "MariaDB") {
		return version, nil
	}
	return "MySQL " + version, nil
}
