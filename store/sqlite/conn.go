package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"

	"github.com/ipalloc/ipalloc/store"
)

// maxConns is how many connections a Store opens at most: so many calls can read at the same time.
const maxConns = 8

// settings are what every connection sets. SQLite waits for a lock for at most busy_timeout at a time; who waits longer
// asks again. The log is cut to journal_size_limit when it begins anew.
var settings = []string{"busy_timeout(1000)", "synchronous(FULL)", "journal_size_limit(4194304)", "trusted_schema(OFF)"}

// dsn returns the name by which database/sql opens the file.
func dsn(path, mode string, pragmas ...string) string {
	query := url.Values{"mode": {mode}, "_pragma": pragmas, "_error_rc": {"1"}, "_dqs": {"0"}}
	path = filepath.ToSlash(path)
	if path[0] != '/' { // as on Windows
		path = "/" + path
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}).String()
}

// conn is a connection with its prepared statements. One call at a time uses it.
type conn struct {
	*sql.Conn
	statements map[string]*sql.Stmt
}

// prepare returns the prepared statement of the text.
func (c *conn) prepare(text string) (*sql.Stmt, error) {
	if s := c.statements[text]; s != nil {
		return s, nil
	}
	s, err := c.PrepareContext(context.Background(), text)
	if err == nil {
		c.statements[text] = s
	}
	return s, err
}

// do executes a statement that returns no rows. Statements do not take the context of a call: to end one halfway would
// gain little, and watching a context costs more than most statements.
func (c *conn) do(text string, args ...any) error {
	s, err := c.prepare(text)
	if err == nil {
		_, err = s.ExecContext(context.Background(), args...)
	}
	return err
}

// one scans the only row of a statement into dest. It returns [sql.ErrNoRows] if there is none.
func (c *conn) one(text string, args []any, dest ...any) error {
	s, err := c.prepare(text)
	if err != nil {
		return err
	}
	return s.QueryRowContext(context.Background(), args...).Scan(dest...)
}

// each calls take with each row of a statement, until that returns false or an error.
func (c *conn) each(take func(scanner) (more bool, err error), text string, args ...any) error {
	s, err := c.prepare(text)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if more, err := take(rows); err != nil || !more {
			return err
		}
	}
	return rows.Err()
}

// close closes the connection.
func (c *conn) close() error {
	errs := make([]error, 0, len(c.statements)+1)
	for _, s := range c.statements {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.Conn.Close())...)
}

// conns are the connections of a Store.
type conns struct {
	db    *sql.DB
	slots chan struct{} // one element for each connection in use

	mu     sync.Mutex
	idle   []*conn
	closed bool
}

// newConns returns connections to the file. The first is opened at once.
func newConns(ctx context.Context, path string) (*conns, error) {
	db, err := sql.Open("sqlite", dsn(path, "rw", settings...))
	if err != nil {
		return nil, err
	}
	db.SetMaxIdleConns(0) // a connection that is given back to db is closed
	all := &conns{db: db, slots: make(chan struct{}, maxConns)}
	c, err := all.take(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	all.put(c)
	return all, nil
}

// take returns a connection that nobody uses.
func (a *conns) take(ctx context.Context) (*conn, error) {
	select {
	case a.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := a.next()
	if err == nil && c == nil {
		c, err = a.open(ctx)
	}
	if err != nil {
		<-a.slots
	}
	return c, err
}

// next returns an idle connection, or nil.
func (a *conns) next() (*conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, store.ErrClosed
	}
	n := len(a.idle)
	if n == 0 {
		return nil, nil
	}
	c := a.idle[n-1]
	a.idle = a.idle[:n-1]
	return c, nil
}

func (a *conns) open(ctx context.Context) (*conn, error) {
	c, err := retry(ctx, func() (*sql.Conn, error) { return a.db.Conn(context.Background()) })
	if err != nil {
		return nil, err
	}
	if err := c.Raw(keepLog); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &conn{Conn: c, statements: make(map[string]*sql.Stmt)}, nil
}

// keepLog has SQLite leave the log and its index where they are when the last connection is closed, and empty the log.
// Otherwise it would remove what is at their paths, which may belong to another file by then.
func keepLog(driver any) error {
	_, err := driver.(sqlite.FileControl).FileControlPersistWAL("main", 1)
	return err
}

// put takes a connection back.
func (a *conns) put(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.idle = append(a.idle, c)
	<-a.slots
}

// drop closes a connection that may be in a transaction.
func (a *conns) drop(c *conn) {
	_ = c.close()
	<-a.slots
}

// close waits for the calls that use connections, and closes these.
func (a *conns) close() error {
	a.mu.Lock()
	wasClosed := a.closed
	a.closed = true
	a.mu.Unlock()
	if wasClosed {
		return nil
	}
	for range maxConns {
		a.slots <- struct{}{}
	}
	var errs []error
	for _, c := range a.idle {
		errs = append(errs, c.close())
	}
	for range maxConns { // calls that still come find it closed
		<-a.slots
	}
	return errors.Join(append(errs, a.db.Close())...)
}

// busyPause is how long to wait before a lock is asked for again, after SQLite has waited for it.
const busyPause = time.Millisecond

// retry does something that may find a lock taken until it does not, or until the context ends.
func retry[T any](ctx context.Context, do func() (T, error)) (T, error) {
	for {
		result, err := do()
		if !isBusy(err) {
			return result, err
		}
		select {
		case <-ctx.Done():
			return result, fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(busyPause):
		}
	}
}
