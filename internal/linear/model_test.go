package linear

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
)

// TestModel holds the model against a pool with one client, whose calls have one order only.
func TestModel(t *testing.T) {
	memory := store.NewMemory()
	c := Clients{
		Open:    func(context.Context) (store.Store, error) { return memory, nil },
		Handles: 1, Goroutines: 1, Calls: 2000, Addresses: 5, Owners: 7, Seed: 1,
	}
	history, err := c.Run(t.Context(), "pool")
	require.NoError(t, err)
	require.Equal(t, c.Calls, history.Len())
	state := strings.Repeat("\x00", c.Addresses)
	for i, o := range history.operations {
		ok, after := step(state, o.Input.(call), o.Output.(answer))
		require.True(t, ok, "call %d: %q: %+v -> %+v", i, state, o.Input, o.Output)
		state = after
	}
}
