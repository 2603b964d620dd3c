// Package postgres is the driver for PostgreSQL: postgres://user:password@db.example/name?schema=ipalloc, with any
// parameters of libpq.
package postgres

import (
	"context"
	"errors"
	"net/url"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ipalloc/ipalloc/examples/cni/internal/driver"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
)

// Driver returns the driver.
func Driver() driver.Driver {
	return driver.Driver{Scheme: "postgres", Shared: true, Check: check, Open: open}
}

// split returns what pgx connects with, and the schema, which is a parameter of this driver alone.
func split(u *url.URL) (connect, schema string) {
	query := u.Query()
	schema = query.Get("schema")
	query.Del("schema")
	other := *u
	other.RawQuery = query.Encode()
	return other.String(), schema
}

func check(u *url.URL) error {
	connect, _ := split(u)
	if _, err := pgxpool.ParseConfig(connect); err != nil {
		return errors.New("want postgres://USER:PASSWORD@HOST:PORT/DATABASE, with parameters of libpq")
	}
	return nil
}

func open(ctx context.Context, u *url.URL, _ bool) (store.Store, error) {
	connect, schema := split(u)
	return postgres.Open(ctx, connect, &postgres.Options{Schema: schema})
}
