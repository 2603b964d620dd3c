package bolt_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

func TestPoolFair(t *testing.T) {
	s, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "ipalloc.db"), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	pooltest.Fair(t, func() store.Store { return s })
}

func TestPoolOperators(t *testing.T) {
	s, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "ipalloc.db"), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	pooltest.Operators(t, func() store.Store { return s })
}
