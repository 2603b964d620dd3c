package bolt_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
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

// BenchmarkOpen opens and closes a file, as a program does that runs once for each change.
func BenchmarkOpen(b *testing.B) {
	for _, held := range []int{0, 60_000} {
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "ipalloc.db")
			fill(b, path, held)
			for b.Loop() {
				s, err := bolt.Open(b.Context(), path, nil)
				require.NoError(b, err)
				require.NoError(b, s.Close())
			}
		})
	}
}

// fill makes a store with held allocations in the file at path.
func fill(b *testing.B, path string, held int) {
	b.Helper()
	s, err := bolt.Open(b.Context(), path, nil)
	require.NoError(b, err)
	head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "a"}}
	for i := 0; i < held; {
		var writes []store.Write
		for ; i < held && len(writes) < 500; i++ {
			addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			writes = append(writes, store.Write{Op: store.Create, Record: store.Record{
				Key:      store.Key{Kind: store.KindAllocation, Pool: "a", Name: fmt.Sprint("owner-", i)},
				Prefixes: []netip.Prefix{netip.PrefixFrom(addr, 32)},
			}})
		}
		head, err = storetest.CommitOne(b.Context(), s, head, writes...)
		require.NoError(b, err)
	}
	require.NoError(b, s.Close())
}
