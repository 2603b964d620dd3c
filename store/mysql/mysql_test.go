package mysql_test

import (
	"context"
	"testing"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/mysql"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// newBackend is a backend in a schema of its own.
func newBackend(t testing.TB) storetest.Backend {
	dsn, schema := sharedServer(t).dsn(), newSchema()
	return storetest.Backend{
		NoOverlap: true,
		Open: func(ctx context.Context) (store.Store, error) {
			return mysql.Open(ctx, dsn, &mysql.Options{Schema: schema})
		},
		Damage: func(_ context.Context, key store.Key) error {
			execute(t, dsn, schema, "UPDATE record SET prefixes = 'damaged' WHERE kind = "+literal(string(key.Kind))+
				" AND pool = "+literal(key.Pool)+" AND name = "+literal(key.Name))
			return nil
		},
	}
}

func TestConformance(t *testing.T) { storetest.Run(t, newBackend) }
