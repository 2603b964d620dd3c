package durable

import (
	"context"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
)

func ipallocPostgres() Kind {
	k := Kind{Name: "ipalloc on PostgreSQL", Note: "one transaction a commit", Prepare: onPostgres}
	return ours(k, func(ctx context.Context, address string) (store.Store, error) {
		host, port, place, err := splitPlace(address)
		if err != nil {
			return nil, err
		}
		return postgres.Open(ctx, postgresURL(host, port, place), nil)
	})
}
