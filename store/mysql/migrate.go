package mysql

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"

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
	// SQL is all its statements, as the client programs mysql and mariadb take them, which read the word DELIMITER. It
	// may be run again if it was interrupted.
	SQL string
}

// Migrations returns all steps to [Version], in their order, for a schema of that name ("" for [DefaultSchema]). [New]
// runs them itself; database administrators may read them here, or run them, one process at a time. The table
// "migration" in the schema says which have been run.
func Migrations(schema string) ([]Migration, error) {
	name, err := (&Options{Schema: schema}).schema()
	if err != nil {
		return nil, err
	}
	all := make([]Migration, Version)
	for i := range all {
		text, err := migrationFiles.ReadFile(fmt.Sprintf("migrations/%d.sql", i+1))
		if err != nil {
			return nil, err
		}
		all[i] = Migration{i + 1, strings.ReplaceAll(string(text), "@schema@", quoteName(name))}
	}
	return all, nil
}

// quoteName is a name in SQL.
func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// What begins the text of a migration for the client programs, and what ends each of its statements.
const (
	delimiterLine = "DELIMITER //\n"
	delimiter     = "\n//\n"
)

// statements are the statements of the migration.
func (m *Migration) statements() []string {
	_, text, _ := strings.Cut(m.SQL, delimiterLine)
	all := strings.Split(text, delimiter)
	return all[:len(all)-1]
}

// migrationLock is the lock under which one process at a time changes schemas of a server. It is waited for as long as
// the context allows, and for an hour at most.
const (
	migrationLock     = "ipalloc migration"
	migrationPatience = 3600 // seconds
)

// migrate brings the schema to Version. MySQL commits after each statement that changes tables, so the statements may
// run again, and the version is noted last.
func migrate(ctx context.Context, conn *sql.Conn, schema string) error {
	all, err := Migrations(schema)
	if err != nil {
		return err
	}
	var locked sql.NullInt64
	err = conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", migrationLock, migrationPatience).Scan(&locked)
	if err != nil {
		return err
	}
	if locked.Int64 != 1 {
		return errors.New("another process has been changing schemas for an hour")
	}
	version, err := migratedVersion(ctx, conn, schema)
	if err != nil {
		return err
	}
	if version > Version {
		return newerVersion(version)
	}
	for _, m := range all[version:] {
		for _, statement := range m.statements() {
			if _, err := conn.ExecContext(ctx, statement); err != nil {
				return explainMigration(fmt.Errorf("bring it from version %d to %d: %w", m.Version-1, m.Version, err))
			}
		}
	}
	return nil
}

// explainMigration says what it means if the user lacks a right.
func explainMigration(err error) error {
	var refused *mysql.MySQLError
	if errors.As(err, &refused) && isNoPrivilege(refused.Number) {
		return fmt.Errorf("%w: its tables are missing or old, and this user may not create them: %w", ErrNoSchema, err)
	}
	return explain(err)
}

// newerVersion is the error for tables that a newer release has made.
func newerVersion(found int) error {
	return fmt.Errorf("%w: the tables have version %d, this program knows up to %d", store.ErrNewerFormat, found, Version)
}

// migratedVersion returns the version of the schema, 0 if there is none.
func migratedVersion(ctx context.Context, conn *sql.Conn, schema string) (version int, err error) {
	err = conn.QueryRowContext(ctx, "SELECT COALESCE(MAX(version), 0) FROM "+quoteName(schema)+".migration").Scan(&version)
	var refused *mysql.MySQLError
	if errors.As(err, &refused) {
		switch refused.Number {
		case errNoSuchTable, errBadDB:
			return 0, nil
		}
	}
	return version, err
}
