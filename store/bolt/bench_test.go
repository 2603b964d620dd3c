package bolt_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/store/storetest"
)

func BenchmarkStore(b *testing.B) { storetest.Benchmarks(b, fileBackend) }

// BenchmarkBareUpdate is what BenchmarkStore's commits are compared with: a bbolt Update that puts one small value.
func BenchmarkBareUpdate(b *testing.B) {
	bucket, value := []byte("records"), make([]byte, 200)
	for _, held := range []int{0, 60_000} {
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			db, err := bbolt.Open(filepath.Join(b.TempDir(), "bare.db"), 0o600, nil)
			require.NoError(b, err)
			b.Cleanup(func() { require.NoError(b, db.Close()) })
			for i := 0; i <= held; i += 100 {
				require.NoError(b, db.Update(func(tx *bbolt.Tx) error {
					records, err := tx.CreateBucketIfNotExists(bucket)
					for j := i; j < min(i+100, held) && err == nil; j++ {
						err = records.Put(fmt.Appendf(nil, "held-%012d", j), value)
					}
					return err
				}))
			}
			i := 0
			for b.Loop() {
				i++
				require.NoError(b, db.Update(func(tx *bbolt.Tx) error {
					return tx.Bucket(bucket).Put(fmt.Appendf(nil, "new-%012d", i), value)
				}))
			}
		})
	}
}
