package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ipalloc/ipalloc/store"
)

// Options are the options of [Open] and [New]. The zero Options are the defaults. Options may be copied; they are not
// kept.
type Options struct {
	// Schema is the name of the schema of the tables, at most 63 bytes. It is used as it is, quoted in all SQL, and
	// must not contain $ipalloc$. Stores with different schemas share nothing. The default, "", is [DefaultSchema].
	Schema string

	// MustExist makes Open and New fail with [ErrNoSchema] instead of creating the tables or bringing them to a newer
	// version. It is for programs whose role lacks the right to do so, or to which a missing schema means that the
	// database is the wrong one.
	MustExist bool
}

// DefaultSchema is the schema of the tables if [Options.Schema] is empty.
const DefaultSchema = "ipalloc"

// maxSchemaBytes is how long the name of a schema may be; PostgreSQL would cut what is longer.
const maxSchemaBytes = 63

// functionQuote begins and ends the text of a function in the migrations.
const functionQuote = "$ipalloc$"

func (o *Options) schema() (string, error) {
	if o.Schema == "" {
		return DefaultSchema, nil
	}
	if len(o.Schema) > maxSchemaBytes || !utf8.ValidString(o.Schema) || strings.ContainsRune(o.Schema, 0) ||
		strings.Contains(o.Schema, functionQuote) {
		return "", fmt.Errorf("%w: the schema name %.80q is not valid UTF-8 of at most %d bytes without NUL and %s",
			store.ErrInvalid, o.Schema, maxSchemaBytes, functionQuote)
	}
	return o.Schema, nil
}

// Open connects to the database that connString names, as [pgxpool.ParseConfig] reads it, and opens the store in it,
// see [New]. Close closes the connections.
//
// If connString names several hosts, or a host stands for several servers, Open uses only a primary, unless
// target_session_attrs says otherwise: a standby may return old records.
func Open(ctx context.Context, connString string, opts *Options) (*Store, error) {
	config, err := pgxpool.ParseConfig(connString)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if config.ConnConfig.ValidateConnect == nil {
		config.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s, err := New(ctx, pool, opts)
	if err != nil {
		pool.Close()
		return nil, err
	}
	s.closePool = pool.Close
	return s, nil
}

// New opens the store in the database of pool, which stays the caller's: Close does not close it. A nil opts is the
// same as the zero Options.
//
// It creates the schema and its tables if they do not exist, and brings older ones to [Version], in one transaction;
// any number of processes may do so at once. This needs a role with the right to create schemas in the database, and
// the extension btree_gist, which is part of PostgreSQL. A database administrator can do it instead, see [Migrations];
// the package comment says which rights the program's role then needs.
//
// The errors wrap [ErrNoSchema], [store.ErrNewerFormat], [store.ErrInvalid], the context's error or that of pgx, and
// name the schema.
//
// Cost: one round trip; a few more to create or upgrade the tables.
func New(ctx context.Context, pool *pgxpool.Pool, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	schema, err := opts.schema()
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := prepareSchema(ctx, pool, schema, opts.MustExist); err != nil {
		return nil, fmt.Errorf("open store in schema %q: %w", schema, err)
	}
	return newStore(pool, schema), nil
}

// prepareSchema makes the schema be at Version.
func prepareSchema(ctx context.Context, pool *pgxpool.Pool, schema string, mustExist bool) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	version, err := schemaVersion(ctx, conn, schema)
	switch {
	case err != nil:
		return err
	case version > Version:
		return newerVersion(version)
	case version == Version:
		return nil
	case mustExist:
		return fmt.Errorf("%w: found version %d, want %d", ErrNoSchema, version, Version)
	}
	return migrate(ctx, conn, schema)
}

// querier is a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// schemaVersion returns the version of the schema, 0 if there is none.
func schemaVersion(ctx context.Context, q querier, schema string) (version int, err error) {
	quoted := pgx.Identifier{schema}.Sanitize()
	var encoding string
	err = q.QueryRow(ctx, "SELECT current_setting('server_encoding'), (SELECT coalesce(max(version), 0) FROM "+quoted+
		".migration)").Scan(&encoding, &version)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (refused.Code == codeUndefinedTable || refused.Code == codeInvalidSchema) {
		err = q.QueryRow(ctx, "SELECT current_setting('server_encoding')").Scan(&encoding)
	}
	switch {
	case err != nil:
		return 0, err
	case encoding != "UTF8":
		return 0, fmt.Errorf("%w: the database has the encoding %s, want UTF8", store.ErrInvalid, encoding)
	}
	return version, nil
}
