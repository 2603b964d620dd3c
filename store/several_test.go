package store_test

import (
	"context"
	"testing"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestSeveralConforms runs the suite over a store that commits one head at a time, with and without a Watch of its own.
func TestSeveralConforms(t *testing.T) {
	for name, hide := range map[string]func(*store.Memory) store.Store{
		"plain": func(m *store.Memory) store.Store { return struct{ store.Store }{m} },
		"indexed": func(m *store.Memory) store.Store {
			return struct {
				store.Store
				store.Watcher
				store.Expirer
				store.Finder
			}{m, m, m, m}
		},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(testing.TB) storetest.Backend {
				shared := store.NewMemory()
				return storetest.Backend{
					Open: func(context.Context) (store.Store, error) { return store.Several(hide(shared.Open())), nil },
				}
			})
		})
	}
}
