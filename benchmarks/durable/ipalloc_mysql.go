package durable

import (
	"context"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/mysql"
)

func ipallocMySQL() Kind {
	k := Kind{Name: "ipalloc on MariaDB", Note: "one call of a procedure a commit", Prepare: onMySQL}
	return ours(k, func(ctx context.Context, address string) (store.Store, error) {
		host, port, place, err := splitPlace(address)
		if err != nil {
			return nil, err
		}
		return mysql.Open(ctx, mysqlDSN(host, port), &mysql.Options{Schema: place})
	})
}
