//go:build unix

package bolt_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// BenchmarkLarge does in bulk what is done to a large pool, on a file and in memory: it grants n addresses, claims them
// again, exports and imports the pool, verifies it, and releases every other address. It reports microseconds for each
// allocation, those of all processors, and what is allocated on the heap.
func BenchmarkLarge(b *testing.B) {
	for _, n := range []int{60_000, 200_000, 1_000_000} {
		for name, open := range map[string]func() store.Store{
			"memory": func() store.Store { return store.NewMemory() },
			"bolt": func() store.Store {
				s, err := bolt.Open(b.Context(), filepath.Join(b.TempDir(), "ipalloc.db"), nil)
				require.NoError(b, err)
				b.Cleanup(func() { require.NoError(b, s.Close()) })
				return s
			},
		} {
			b.Run(fmt.Sprintf("n=%d/%s", n, name), func(b *testing.B) { large(b, n, open) })
		}
	}
}

// BenchmarkLargeBare does to bbolt alone what [BenchmarkLarge] has it do for a pool: it puts, reads and deletes as
// many records, and keys of an index, of about the same size, as many in a transaction. It reports the same figures.
func BenchmarkLargeBare(b *testing.B) {
	for _, n := range []int{60_000, 200_000, 1_000_000} {
		b.Run(fmt.Sprintf("n=%d/bbolt", n), func(b *testing.B) { largeBare(b, n) })
	}
}

func largeBare(b *testing.B, n int) {
	b.Helper()
	report := reporter(b)
	for b.Loop() {
		db := newBare(b)
		report("grant", n, func() { changeBare(b, db, n, 1, bareValue) })
		report("verify", n, func() {
			require.NoError(b, db.View(func(tx *bbolt.Tx) error {
				return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error {
					return bucket.ForEach(func(_, _ []byte) error { return nil })
				})
			}))
		})
		report("release", n/2, func() { changeBare(b, db, n, 2, nil) })
	}
}

func large(b *testing.B, n int, open func() store.Store) {
	b.Helper()
	spec, err := pool.ParseSpec("10.0.0.0/8")
	require.NoError(b, err)
	s := open()
	p, err := pool.Create(b.Context(), s, "pods", spec, nil)
	require.NoError(b, err)
	report := reporter(b)
	bulk := func(steps iter.Seq[pool.Step]) func() { return func() { doEach(b, p, steps) } }
	for b.Loop() {
		report("grant", n, bulk(steps(0, n, 1, claim)))
		report("again", n, bulk(steps(0, n, 1, claim)))
		report("pair", 200, func() {
			for range 200 {
				_, err := p.Allocate(b.Context(), pool.Claim{Owner: "pair"})
				require.NoError(b, err)
				_, err = p.Release(b.Context(), pool.Held{Owner: "pair"})
				require.NoError(b, err)
			}
		})
		report("verify", n, func() {
			found, err := p.Verify(b.Context())
			require.NoError(b, err)
			require.True(b, found.OK(), found)
		})
		report("export", n, func() { require.NoError(b, p.Export(b.Context(), io.Discard)) })
		var text bytes.Buffer
		require.NoError(b, p.Export(b.Context(), &text))
		var snapshot pool.Snapshot
		report("read", n, func() { require.NoError(b, snapshot.UnmarshalJSON(text.Bytes())) })
		text = bytes.Buffer{}
		other := open()
		report("import", n, func() {
			_, err := pool.Import(b.Context(), other, "pods", snapshot, nil)
			require.NoError(b, err)
		})
		snapshot = pool.Snapshot{}
		report("release", n/2, bulk(steps(0, n, 2, release)))
	}
}

// reporter returns what reports how much time, processor time and heap each of some items takes.
func reporter(b *testing.B) func(what string, items int, do func()) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	return func(what string, items int, do func()) {
		runtime.GC()
		var was, is runtime.MemStats
		runtime.ReadMemStats(&was)
		before, start := processorTime(b), time.Now()
		pprof.Do(b.Context(), pprof.Labels("phase", what), func(context.Context) { do() })
		b.ReportMetric(float64(time.Since(start).Nanoseconds())/1e3/float64(items), what+"-µs")
		b.ReportMetric(float64(processorTime(b)-before)/1e3/float64(items), what+"-cpu-µs")
		runtime.ReadMemStats(&is)
		b.ReportMetric(float64(is.Mallocs-was.Mallocs)/float64(items), what+"-allocs")
		b.ReportMetric(float64(is.TotalAlloc-was.TotalAlloc)/float64(items), what+"-B")
	}
}

// processorTime is what this process has taken so far, in nanoseconds.
func processorTime(b *testing.B) int64 {
	b.Helper()
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return used.Utime.Nano() + used.Stime.Nano()
}
