package linear_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/linear"
	"github.com/ipalloc/ipalloc/store"
)

// TestModel holds the model against a pool with one client, whose calls have one order only.
func TestModel(t *testing.T) {
	c := linear.Clients{
		Open:    shared(func(s store.Store) store.Store { return s }),
		Handles: 1, Goroutines: 1, Calls: 2000, Addresses: 5, Owners: 7, Seed: 1,
	}
	history, err := c.Run(t.Context(), "pool")
	require.NoError(t, err)
	require.Equal(t, c.Calls, history.Len())
	require.NoError(t, history.Replay())
}
