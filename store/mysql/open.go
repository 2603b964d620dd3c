package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"strings"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"

	"github.com/ipalloc/ipalloc/store"
)

// Options are the options of [Open] and [New]. The zero Options are the defaults. Options may be copied; they are not
// kept.
type Options struct {
	// Schema is the name of the schema of the tables, which MySQL also calls a database: at most 64 characters. It is
	// used as it is, quoted in all SQL; it must not contain control characters or characters beyond U+FFFF, nor end
	// with a space. Stores with different schemas share nothing. The default, "", is [DefaultSchema].
	Schema string

	// MustExist makes Open and New fail with [ErrNoSchema] instead of creating the tables or bringing them to a newer
	// version. It is for programs whose user lacks the right to do so, or to which a missing schema means that the
	// server is the wrong one.
	MustExist bool
}

// DefaultSchema is the schema of the tables if [Options.Schema] is empty.
const DefaultSchema = "ipalloc"

// maxSchemaRunes is how long the name of a schema may be.
const maxSchemaRunes = 64

func (o *Options) schema() (string, error) {
	if o.Schema == "" {
		return DefaultSchema, nil
	}
	wrong := func(r rune) bool { return r < ' ' || r > '\uffff' }
	if utf8.RuneCountInString(o.Schema) > maxSchemaRunes || !utf8.ValidString(o.Schema) ||
		strings.ContainsFunc(o.Schema, wrong) || strings.HasSuffix(o.Schema, " ") {
		return "", fmt.Errorf("%w: the schema name %.80q is not valid UTF-8 of at most %d characters without control "+
			"characters, characters beyond U+FFFF and a space at the end", store.ErrInvalid, o.Schema, maxSchemaRunes)
	}
	return o.Schema, nil
}

// minConns is how many connections [Open] allows at least.
const minConns = 8

// Open connects to the server that dsn names, as [mysql.ParseDSN] reads it, and opens the store in it, see [New]. The
// dsn need not name a database. Close closes the connections, of which there are at most 8, or as many as there are
// processors if these are more; a program that wants another number calls New.
//
// It always sets interpolateParams, which saves a round trip, and checks each new connection: one to a server that is
// read-only, as replicas mostly are, fails with [ErrReadOnly], because it may return old records.
func Open(ctx context.Context, dsn string, opts *Options) (*Store, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return openConfig(ctx, config, opts)
}

// openConfig opens the store with connections of its own.
func openConfig(ctx context.Context, config *mysql.Config, opts *Options) (*Store, error) {
	config.InterpolateParams, config.MaxAllowedPacket = true, maxPacket
	config.Logger = &mysql.NopLogger{} // what it would write is in the errors that calls return
	mysqlConnector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	db := sql.OpenDB(&connector{mysqlConnector})
	conns := max(minConns, runtime.NumCPU())
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	s, err := New(ctx, db, opts)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	s.closeDB = db.Close
	return s, nil
}

// New opens the store in the server of db, which stays the caller's: Close does not close it. A nil opts is the same as
// the zero Options.
//
// The driver of db must be github.com/go-sql-driver/mysql, its connections in autocommit mode, with the character set
// utf8mb4, and all of them to one server. Set interpolateParams in its DSN, or each call takes another round trip. Set
// a limit of open connections; through a db of one connection, turns are in order within this Store only.
//
// It creates the schema and its tables if they do not exist, and brings older ones to [Version]; any number of
// processes may do so at once. This needs a user with the right to create them. A database administrator can do it
// instead, see [Migrations]; the package comment says which rights the program's user then needs.
//
// The errors wrap [ErrNoSchema], [ErrReadOnly], [store.ErrNewerFormat], [store.ErrInvalid], the context's error or that
// of the driver, and name the schema.
//
// Cost: two round trips; many more to create or upgrade the tables.
func New(ctx context.Context, db *sql.DB, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	schema, err := opts.schema()
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	packet, err := prepareSchema(ctx, db, schema, opts.MustExist)
	if err != nil {
		return nil, fmt.Errorf("open store in schema %q: %w", schema, err)
	}
	return newStore(db, schema, packet), nil
}

// prepareSchema makes the schema be at Version. It returns the size of the largest packet that the server takes.
func prepareSchema(ctx context.Context, db *sql.DB, schema string, mustExist bool) (packet int, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return 0, withContext(ctx, err)
	}
	defer conn.Close()
	if packet, err = checkServer(ctx, conn); err != nil {
		return 0, withContext(ctx, err)
	}
	version, err := migratedVersion(ctx, conn, schema)
	switch {
	case err != nil:
		return 0, withContext(ctx, explainMigration(err)) // tables that a user may not see are as if they were missing
	case version > Version:
		return 0, newerVersion(version)
	case version == Version:
		return packet, nil
	case mustExist:
		return 0, fmt.Errorf("%w: found version %d, want %d", ErrNoSchema, version, Version)
	}
	err = migrate(ctx, conn, schema)
	discard(conn) // which has a lock, and modes of its own
	return packet, withContext(ctx, err)
}

// checkServer checks that the session is one that this package can use.
func checkServer(ctx context.Context, conn *sql.Conn) (packet int, err error) {
	var readOnly, autocommit, charset string
	err = conn.QueryRowContext(ctx,
		"SELECT @@max_allowed_packet, @@GLOBAL.read_only, @@autocommit, @@character_set_client").
		Scan(&packet, &readOnly, &autocommit, &charset)
	switch {
	case err != nil:
		return 0, err
	case isOn(readOnly):
		return 0, fmt.Errorf("%w: its variable read_only is %s", ErrReadOnly, readOnly)
	case !isOn(autocommit):
		return 0, fmt.Errorf("%w: the connections are not in autocommit mode", store.ErrInvalid)
	case charset != "utf8mb4":
		return 0, fmt.Errorf("%w: the connections have the character set %s, want utf8mb4", store.ErrInvalid, charset)
	}
	return packet, nil
}

// isOn reports whether a variable is not off.
func isOn(value string) bool { return value != "0" && value != "OFF" }
