package mysql_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
)

func TestPoolFair(t *testing.T) {
	at := place{sharedServer(t).dsn(), newSchema()}
	pooltest.Fair(t, func() store.Store {
		s, err := at.open(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	})
}
