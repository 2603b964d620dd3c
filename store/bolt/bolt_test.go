package bolt_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// fileBackend is a backend in a file of its own.
func fileBackend(t testing.TB) storetest.Backend {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	return storetest.Backend{
		OneHandle: true,
		Open:      func(ctx context.Context) (store.Store, error) { return bolt.Open(ctx, path, nil) },
	}
}

func TestConformance(t *testing.T) { storetest.Run(t, fileBackend) }
