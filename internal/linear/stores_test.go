package linear_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
	"github.com/ipalloc/ipalloc/store/sqlite"
)

func TestMemory(t *testing.T) {
	requireLinearizable(t, 1000, shared(func(s store.Store) store.Store { return s }))
}

// TestBolt has the clients of one process share the file, which no other process can open.
func TestBolt(t *testing.T) {
	db, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "addresses.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	requireLinearizable(t, 200, func(context.Context) (store.Store, error) { return unclosed{db}, nil })
}

func TestSQLite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses.sqlite")
	requireLinearizable(t, 100, func(ctx context.Context) (store.Store, error) { return sqlite.Open(ctx, path, nil) })
}
