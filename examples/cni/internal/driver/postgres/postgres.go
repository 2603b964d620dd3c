// Package postgres is the driver for PostgreSQL: postgres://user:password@db.example/name?schema=ipalloc, with any
// parameters of libpq.
package postgres

import (
	"context"
	"net/url"

	"github.com/ipalloc/ipalloc/examples/cni/internal/driver"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
)

// Driver returns the driver.
func Driver() driver.Driver {
	return driver.Driver{Scheme: "postgres", Shared: true, Check: postgres.CheckURL, Open: open}
}

func open(ctx context.Context, u *url.URL, _ bool) (store.Store, error) {
	return postgres.OpenURL(ctx, u, nil)
}
