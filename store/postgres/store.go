package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ipalloc/ipalloc/store"
)

// Store is a [store.Store] in a schema of a PostgreSQL database. The package comment says what it guarantees.
//
// The zero Store is not usable, see [Open] and [New]. A Store must not be copied. All methods may be called by any
// number of goroutines at once. Each except Watch takes a connection from the pool while it runs.
type Store struct {
	pool      *pgxpool.Pool
	schema    string
	sql       statements
	closePool func() // nil if the pool is the caller's
	closing   sync.Once
	closed    chan struct{}
	listener  *listener
	turns     store.Turns
	locking   chan struct{} // has room for as many turns as may have a connection at once
	parking   chan *parked  // of those in locking
	slots     slots
	sweeping  sweeping
}

var (
	_ store.Store    = (*Store)(nil)
	_ store.Labeller = (*Store)(nil)
)

func newStore(pool *pgxpool.Pool, schema string) *Store {
	s := &Store{pool: pool, schema: schema, sql: statementsFor(schema), closed: make(chan struct{})}
	s.locking = make(chan struct{}, max(0, pool.Config().MaxConns-1)) // one connection is for what is read in a turn
	s.parking = make(chan *parked, cap(s.locking))
	s.listener = newListener(pool, s.sql)
	return s
}

// statements are the texts of what is sent, for one schema.
type statements struct {
	get, listPool, listAll, byExpiry, byLabel, find string
	apply, lock, listen, await                      string
	ask, join, applyTurn, withdraw, getAll          string
}

func statementsFor(schema string) statements {
	in := pgx.Identifier{schema}.Sanitize() + "."
	columns := "SELECT r.kind, r.pool, r.name, r.revision, r.state, r.prefixes, r.labels, " +
		"r.created, r.expires, r.data::text FROM " + in
	return statements{
		get: columns + "record r WHERE r.kind = $1 AND r.pool = $2 AND r.name = $3",
		// From $3 on, and not after a name or from the first one on: an OR is no condition that an index can use.
		listPool: columns + "record r WHERE r.kind = $1 AND r.pool = $2 AND r.name >= $3 ORDER BY r.name LIMIT $4",
		listAll: columns + "record r WHERE r.kind = $1 AND (r.pool, r.name) >= ($2, $3)" +
			" ORDER BY r.pool, r.name LIMIT $4",
		byExpiry: columns + "record r WHERE r.kind = $1 AND r.pool = $2 AND r.expires IS NOT NULL" +
			" AND (r.expires, r.name) >= ($3, $4) ORDER BY r.expires, r.name LIMIT $5",
		byLabel: columns + "labelled($1, $2, $3, $4, $5, $6) r ORDER BY r.name",
		// The boxes and the hash are there so that the index of the constraint serves; the name comes from a query of its
		// own so that it is searched for, also where the server knows nothing of the tables yet.
		find: columns + "allocation r WHERE r.kind = 'allocation' AND r.pool = $1 AND r.name = (SELECT a.name FROM " + in +
			"address a WHERE a.prefix >>= $2::inet" +
			" AND " + in + "high_box(a.prefix) && " + in + "high_box($2::cidr)" +
			" AND " + in + "low_box(a.prefix) && " + in + "low_box($2::cidr)" +
			" AND hashtextextended(a.pool, 0) = hashtextextended($1, 0)" +
			" AND a.pool = $1 AND a.kind = 'allocation' ORDER BY masklen(a.prefix) DESC LIMIT 1)",
		apply: "SELECT * FROM " + in + "apply($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
		lock:  columns + "record r WHERE r.kind = $1 AND r.pool = $2 AND r.name = $3 FOR UPDATE",
		ask: "INSERT INTO " + in + "ask AS a (line, slot, serial, kind, pool, name, ask)" +
			" VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (line, slot) DO UPDATE SET serial = excluded.serial," +
			" kind = excluded.kind, pool = excluded.pool, name = excluded.name, ask = excluded.ask, answer = NULL," +
			" revision = NULL, at = clock_timestamp(), pid = pg_backend_pid() WHERE a.serial < excluded.serial",
		join: "SELECT * FROM " + in + "join_line($1, $2, $3, $4, $5, $6, $7, $8)",
		applyTurn: "SELECT * FROM " + in +
			"apply_turn($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
		withdraw: "SELECT * FROM " + in + "withdraw($1, $2, $3)",
		getAll:   "SELECT * FROM " + in + "existing(array_fill('c'::text, ARRAY[cardinality($1::text[])]), $1, $2, $3)",
		listen:   "SELECT " + in + "listen()",
		await:    "SELECT " + in + "await_commits()",
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
func (s *Store) query(ctx context.Context, sql string, args ...any) ([]store.Record, error) {
	conn, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, withContext(ctx, err)
	}
	all, err := pgx.CollectRows(rows, scanRecord)
	return all, withContext(ctx, err)
}

// acquire takes a connection from the pool.
func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.isClosed() {
		return nil, store.ErrClosed
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil && s.isClosed() {
		return nil, fmt.Errorf("%w: %w", store.ErrClosed, err)
	}
	return conn, withContext(ctx, err)
}

// withContext adds the context's error to err, if that has ended: what pgx returns then may not have it.
func withContext(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
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
func (s *Store) Close() error {
	s.closing.Do(func() {
		close(s.closed)
		s.listener.close()
		for s.unpark() {
		}
		if s.closePool != nil {
			s.closePool()
		}
	})
	return nil
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
		sql, from := s.sql.listAll, ""
		if pool != "" {
			sql = s.sql.listPool
		}
		for {
			page, err := s.query(ctx, sql, string(kind), pool, from, pageRecords)
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
			last := page[len(page)-1]
			pool, from = last.Pool, behind(last.Name)
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
		defer conn.Release()
		err = conn.QueryRow(ctx, "SHOW server_version").Scan(&version)
	}
	if err != nil {
		return "", s.wrap(fmt.Errorf("version: %w", err))
	}
	return "PostgreSQL " + version, nil
}
