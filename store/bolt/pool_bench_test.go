package bolt_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// newPlace is a file, and for bare commits another one.
func newPlace(b *testing.B) pooltest.Place {
	path := filepath.Join(b.TempDir(), "ipalloc.db")
	return pooltest.Place{
		Open: func(ctx context.Context) (store.Store, error) { return bolt.Open(ctx, path, nil) },
		Bare: func(held int) func(string) error {
			f := openBare(b, held)
			return func(owner string) error { return f.put(owner) }
		},
	}
}

// bareDB is a bbolt file that knows nothing of pools: one bucket of small values.
type bareDB struct{ db *bbolt.DB }

func openBare(b *testing.B, held int) bareDB {
	b.Helper()
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "bare.db"), 0o600, nil)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	f := bareDB{db}
	for first := 0; first == 0 || first < held; first += 250 {
		var keys []string
		for i := first; i < min(first+250, held); i++ {
			keys = append(keys, pooltest.Owner(i))
		}
		require.NoError(b, f.put(keys...))
	}
	return f
}

// put is one bare commit: a bbolt Update.
func (f bareDB) put(keys ...string) error {
	return f.db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists([]byte("records"))
		for i := 0; i < len(keys) && err == nil; i++ {
			err = bucket.Put([]byte(keys[i]), make([]byte, 200))
		}
		return err
	})
}

func BenchmarkPoolCommit(b *testing.B) { pooltest.BenchmarkCommit(b, newPlace) }

func BenchmarkPoolParallel(b *testing.B) { pooltest.BenchmarkParallel(b, newPlace) }

func BenchmarkPoolOpen(b *testing.B) { pooltest.BenchmarkOpen(b, "file", newPlace) }

// BenchmarkPoolBytes measures what a pool hands to any store.
func BenchmarkPoolBytes(b *testing.B) {
	pooltest.BenchmarkBytes(b, func(*testing.B) store.Store { return store.NewMemory() })
}
