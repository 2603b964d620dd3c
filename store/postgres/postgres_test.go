package postgres_test

import (
	"context"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/store/postgres"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// tests are those that other drivers have too.
var tests = servertest.Driver{
	Addr:      func(t testing.TB) string { return sharedServer(t).Addr },
	URL:       func(_ testing.TB, addr string) string { return urlAt(addr, "postgres") },
	NewSchema: newSchema,
	Open: func(ctx context.Context, url, schema string, mustExist bool) (servertest.Store, error) {
		return postgres.Open(ctx, url, &postgres.Options{Schema: schema, MustExist: mustExist})
	},
	Connect: func(t testing.TB, url, schema string, conns int, wrap func(net.Conn) net.Conn) servertest.Store {
		return openOn(t, connect(t, url, wrapped(conns, wrap)), schema)
	},
	Execute:     execute,
	NewLine:     newLine,
	LockHead:    lockHead,
	Version:     postgres.Version,
	ErrNoSchema: postgres.ErrNoSchema,
	ErrOverlap:  postgres.ErrOverlap,
	Prepares:    true,
}

// wrapped wraps each connection, of which there are at most so many.
func wrapped(conns int, wrap func(net.Conn) net.Conn) func(*pgxpool.Config) {
	return func(config *pgxpool.Config) {
		config.MaxConns = int32(conns)
		dial := config.ConnConfig.DialFunc
		config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return wrap(conn), nil
		}
	}
}

// freeBackend is a backend in a schema of its own, in which the constraint that keeps addresses from overlapping has
// been dropped: the contract of a store does not have that rule. What the rule adds is checked in overlap_test.go.
func freeBackend(t testing.TB, parameters string) storetest.Backend {
	url, schema := sharedServer(t).url("postgres")+parameters, newSchema()
	s, err := postgres.Open(context.Background(), url, &postgres.Options{Schema: schema})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	execute(t, url, schema, "ALTER TABLE address DROP CONSTRAINT address_overlap")
	return storetest.Backend{
		Open: tests.Opener(url, schema),
	}
}

// TestConformanceNoOverlap runs the suite on the tables as they are.
func TestConformanceNoOverlap(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Backend {
		b := newBackend(t)
		b.NoOverlap = true
		return b
	})
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Backend { return freeBackend(t, "") })
}
