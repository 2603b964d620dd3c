package mysql_test

import (
	"context"
	"net"
	"testing"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/mysql"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// tests are those that other drivers have too.
var tests = servertest.Driver{
	Addr:      func(t testing.TB) string { return sharedServer(t).config.Addr },
	URL:       func(t testing.TB, addr string) string { return sharedServer(t).dsnAt(addr) },
	NewSchema: newSchema,
	Open: func(ctx context.Context, dsn, schema string, mustExist bool) (servertest.Store, error) {
		return mysql.Open(ctx, dsn, &mysql.Options{Schema: schema, MustExist: mustExist})
	},
	Connect: func(t testing.TB, dsn, schema string, conns int, wrap func(net.Conn) net.Conn) servertest.Store {
		return openOn(t, connect(t, dsn, wrapped(wrap)), conns, schema)
	},
	Execute: execute,
	NewLine: newLine,
	LockHead: func(t *testing.T, dsn, schema, pool string) func() {
		tx := lockRow(t, dsn, schema, pool)
		return func() { require.NoError(t, tx.Rollback()) }
	},
	Version:     mysql.Version,
	ErrNoSchema: mysql.ErrNoSchema,
	ErrOverlap:  mysql.ErrOverlap,
}

// wrapped wraps each connection.
func wrapped(wrap func(net.Conn) net.Conn) func(*driver.Config) {
	return func(config *driver.Config) {
		config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return wrap(conn), nil
		}
	}
}

// newBackend is a backend in a schema of its own.
func newBackend(t testing.TB) storetest.Backend {
	dsn, schema := tests.Place(t)
	return storetest.Backend{
		NoOverlap: true,
		Open:      tests.Opener(dsn, schema),
		Damage: func(_ context.Context, key store.Key) error {
			execute(t, dsn, schema, "UPDATE record SET prefixes = 'damaged' WHERE kind = "+literal(string(key.Kind))+
				" AND pool = "+literal(key.Pool)+" AND name = "+literal(key.Name))
			return nil
		},
	}
}

func TestConformance(t *testing.T) { storetest.Run(t, newBackend) }
