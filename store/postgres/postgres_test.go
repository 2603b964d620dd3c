package postgres_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// freeBackend is a backend in a schema of its own, in which the constraint that keeps addresses from overlapping has
// been dropped: the contract of a store does not have that rule. What the rule adds is checked in overlap_test.go.
func freeBackend(t testing.TB, parameters string) storetest.Backend {
	url, schema := sharedServer(t).url("postgres")+parameters, newSchema()
	s, err := postgres.Open(context.Background(), url, &postgres.Options{Schema: schema})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	execute(t, url, schema, "ALTER TABLE address DROP CONSTRAINT address_overlap")
	return storetest.Backend{
		Open: func(ctx context.Context) (store.Store, error) {
			return postgres.Open(ctx, url, &postgres.Options{Schema: schema})
		},
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
