package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"github.com/ipalloc/ipalloc/store"
)

// Store is a [store.Store] in one file. The package comment says what it guarantees.
//
// The zero Store is not usable, see [Open]. A Store must not be copied. All methods may be called by any number of
// goroutines at once: up to eight read in parallel, beside a commit; commits run one after the other.
type Store struct {
	path    string
	files   files
	conns   *conns
	line    *line
	waiting *waiting
}

var (
	_ store.Store    = (*Store)(nil)
	_ store.Reader   = (*Store)(nil)
	_ store.Labeller = (*Store)(nil)
)

// Path returns the path that was given to Open. It may be called after Close.
func (s *Store) Path() string { return s.path }

// Close implements [store.Store]. It ends calls of Watch, and waits for other running calls. If no other process has
// the file open, it also moves what is in the log into the file.
func (s *Store) Close() error {
	s.waiting.end()
	err := s.conns.close()
	s.line.close()
	return s.wrap(err)
}

// with runs do with a connection, again and again while it finds the file locked.
func (s *Store) with(ctx context.Context, do func(*conn) error) error {
	if err := ctx.Err(); err != nil {
		return s.wrap(err)
	}
	c, err := s.take(ctx)
	if err != nil {
		return s.wrap(err)
	}
	defer s.conns.put(c)
	_, err = retry(ctx, func() (struct{}, error) { return struct{}{}, do(c) })
	return s.wrap(translate(err))
}

// take takes a connection, if the file is still there. If it is not, that is the error, also where it is the reason why
// no connection can be made.
func (s *Store) take(ctx context.Context) (*conn, error) {
	c, err := s.conns.take(ctx)
	if err != nil && (ctx.Err() != nil || errors.Is(err, store.ErrClosed)) {
		return nil, err
	}
	if gone := s.files.check(); gone != nil {
		if err == nil {
			s.conns.put(c)
		}
		return nil, gone
	}
	return c, err
}

const getSQL = "SELECT " + columns + " FROM record WHERE kind = ? AND pool = ? AND name = ?"

// get returns the row under key, or nil.
func (c *conn) get(key store.Key) (*row, error) {
	var r row
	err := c.one(getSQL, []any{string(key.Kind), key.Pool, key.Name},
		&r.kind, &r.pool, &r.name, &r.revision, &r.state, &r.prefixes, &r.labels, &r.created, &r.expires, &r.data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &r, err
}

// record returns the record under key, or one with revision 0 and the key alone if there is none.
func (c *conn) record(key store.Key) (store.Record, error) {
	r, err := c.get(key)
	if err != nil || r == nil {
		return store.Record{Key: key}, err
	}
	return r.record()
}

// Get implements [store.Store]. Cost: O(log of the records stored); it writes nothing, and waits for no commit.
func (s *Store) Get(ctx context.Context, key store.Key) (store.Record, error) {
	records, err := s.GetAll(ctx, key)
	switch {
	case err != nil:
		return store.Record{}, err
	case records[0].Revision == 0:
		return store.Record{}, s.wrap(fmt.Errorf("%w: %v", store.ErrNotFound, key))
	}
	return records[0], nil
}

// GetAll implements [store.Reader].
func (s *Store) GetAll(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if err := store.ValidateKeys(keys...); err != nil {
		return nil, err
	}
	records := make([]store.Record, len(keys))
	err := s.with(ctx, func(c *conn) error {
		for i, key := range keys {
			var err error
			if records[i], err = c.record(key); err != nil {
				return err
			}
		}
		return nil
	})
	return records, err
}

// How much a listing reads at once: whichever is reached first. A page has at least one record.
const (
	pageRecords = 128
	pageBytes   = 256 << 10
)

// The statements of List. The name of a record may be empty, its pool never is.
const (
	listSQL     = "SELECT " + columns + " FROM record WHERE kind = ? AND "
	listTailSQL = " ORDER BY pool, name LIMIT ?"

	listAllSQL   = listSQL + "(pool, name) > (?, ?)" + listTailSQL
	listFirstSQL = listSQL + "pool = ? AND name >= ?" + listTailSQL
	listNextSQL  = listSQL + "pool = ? AND name > ?" + listTailSQL
)

// List implements [store.Store]. It yields the records in the order of their keys. It holds at most 128 of them in
// memory, and nothing is open or locked while it yields. Records that cannot be read come last, as a
// [store.DamagedError].
func (s *Store) List(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := store.ValidateList(kind, pool); err != nil {
			yield(store.Record{}, err)
			return
		}
		l := listing{store: s, yield: yield}
		first, next, after := listFirstSQL, listNextSQL, row{pool: pool}
		if pool == "" {
			first, next = listAllSQL, listAllSQL
		}
		for text := first; ; text = next {
			page, err := s.page(ctx, text, string(kind), after.pool, after.name, pageRecords)
			if !l.page(ctx, page, err) || len(page) == 0 {
				break
			}
			after = page[len(page)-1]
		}
		l.end()
	}
}

// page returns rows of a statement.
func (s *Store) page(ctx context.Context, text string, args ...any) (page []row, err error) {
	err = s.with(ctx, func(c *conn) error {
		page = nil
		size := 0
		return c.each(func(from scanner) (bool, error) {
			var r row
			if err := r.scan(from); err != nil {
				return false, err
			}
			page = append(page, r)
			size += r.size()
			return size < pageBytes, nil
		}, text, args...)
	})
	return page, err
}

// listing yields records.
type listing struct {
	store   *Store
	yield   func(store.Record, error) bool
	damaged []error
	ended   bool
}

// page yields the records of a page, and reports whether to go on.
func (l *listing) page(ctx context.Context, page []row, err error) bool {
	for i := 0; i < len(page) && err == nil; i++ {
		if err = ctx.Err(); err == nil && !l.one(&page[i]) {
			return false
		}
	}
	if err != nil {
		l.ended = true
		l.yield(store.Record{}, l.store.wrap(err))
	}
	return err == nil
}

// one yields the record of a row, and reports whether to go on.
func (l *listing) one(r *row) bool {
	record, err := r.record()
	if err != nil {
		l.damaged = append(l.damaged, err)
		return true
	}
	l.ended = !l.yield(record, nil)
	return !l.ended
}

// end yields what could not be read.
func (l *listing) end() {
	if !l.ended && len(l.damaged) > 0 {
		l.yield(store.Record{}, l.store.wrap(&store.DamagedError{Damaged: l.damaged}))
	}
}

// Version implements [store.Versioned]: it tells the version of the library that this program has.
func (s *Store) Version(ctx context.Context) (version string, err error) {
	err = s.with(ctx, func(c *conn) error { return c.one("SELECT sqlite_version()", nil, &version) })
	return "SQLite " + version, err
}
