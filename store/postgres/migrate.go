package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ipalloc/ipalloc/store"
)

// Version is the version of the tables that this package works with.
const Version = 1

//go:embed migrations
var migrationFiles embed.FS

// Migration is one step on the way from no tables to the newest version. It is a value; it may be copied.
type Migration struct {
	// Version is the version to which it brings the schema from the version before.
	Version int
	// SQL is all its statements. It must be run in one transaction.
	SQL string
}

// Migrations returns all steps to [Version], in their order, for a schema of that name ("" for [DefaultSchema]). [New]
// runs them itself; database administrators may read them here, or run them, in one transaction. The table "migration"
// in the schema says which have been run.
func Migrations(schema string) ([]Migration, error) {
	name, err := (&Options{Schema: schema}).schema()
	if err != nil {
		return nil, err
	}
	quoted, lock := pgx.Identifier{name}.Sanitize(), schemaLock(name)
	names := strings.NewReplacer(
		"@schema@", quoted, "@sequence@", strings.ReplaceAll(quoted+".revision", "'", "''"),
		"@committing@", strconv.FormatInt(lock, 10), "@listening@", strconv.FormatInt(lock+1, 10),
	)
	all := make([]Migration, Version)
	for i := range all {
		text, err := migrationFiles.ReadFile(fmt.Sprintf("migrations/%d.sql", i+1))
		if err != nil {
			return nil, err
		}
		all[i] = Migration{i + 1, names.Replace(string(text))}
	}
	return all, nil
}

// schemaLock is the number of the first of the two advisory locks that commits in the schema use. It is even.
func schemaLock(schema string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("ipalloc " + schema))
	return int64(h.Sum64() >> 2 << 1)
}

// migrationLock is the advisory lock under which schemas of the database change. It is one for all schemas, because
// they share the extension.
const migrationLock = 0x69_70_61_6c_6c_6f_63 // "ipalloc"

// migrate brings the schema to Version.
func migrate(ctx context.Context, conn *pgxpool.Conn, schema string) error {
	all, err := Migrations(schema)
	if err != nil {
		return err
	}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", int64(migrationLock))); err != nil {
			return err
		}
		version, err := migratedVersion(ctx, tx, schema)
		if err != nil {
			return err
		}
		if version > Version {
			return newerVersion(version)
		}
		for _, m := range all[version:] {
			if _, err := tx.Conn().PgConn().Exec(ctx, m.SQL).ReadAll(); err != nil {
				return fmt.Errorf("bring it from version %d to %d: %w", m.Version-1, m.Version, err)
			}
		}
		return nil
	})
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == codeNoPrivilege {
		return fmt.Errorf("%w: its tables are missing or old, and this role may not create them: %w", ErrNoSchema, err)
	}
	return err
}

// newerVersion is the error for tables that a newer release has made.
func newerVersion(found int) error {
	return fmt.Errorf("%w: the tables have version %d, this program knows up to %d", store.ErrNewerFormat, found, Version)
}

// migratedVersion is schemaVersion within a transaction, which must not fail.
func migratedVersion(ctx context.Context, tx pgx.Tx, schema string) (version int, err error) {
	quoted := pgx.Identifier{schema}.Sanitize()
	exists := false
	if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", quoted+".migration").Scan(&exists); err != nil ||
		!exists {
		return 0, err
	}
	err = tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM "+quoted+".migration").Scan(&version)
	return version, err
}
