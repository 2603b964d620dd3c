package durable

import (
	"context"
	"database/sql"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
)

func ipallocPostgres() Kind {
	k := Kind{Name: "ipalloc on PostgreSQL", Note: "one transaction a commit", Prepare: onPostgres}
	k.Size = func(ctx context.Context, address string) (size int64, err error) {
		host, port, place, err := splitPlace(address)
		if err != nil {
			return 0, err
		}
		db, err := sql.Open("postgres", postgresURL(host, port, place))
		if err != nil {
			return 0, err
		}
		defer db.Close()
		err = db.QueryRowContext(ctx, "SELECT pg_database_size(current_database())").Scan(&size)
		return size, err
	}
	return ours(k, func(ctx context.Context, address string) (store.Store, error) {
		host, port, place, err := splitPlace(address)
		if err != nil {
			return nil, err
		}
		return postgres.Open(ctx, postgresURL(host, port, place), nil)
	})
}
