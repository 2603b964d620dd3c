package bolt_test

import (
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// newPool returns a pool in a new file, and the file's path.
func newPool(t testing.TB) (*pool.Pool, store.Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	spec, err := pool.ParseSpec("10.0.0.0/8")
	require.NoError(t, err)
	p, err := pool.Create(t.Context(), s, "pods", spec, nil)
	require.NoError(t, err)
	return p, s, path
}

func owner(i int) string { return fmt.Sprintf("container-%012d", i) }

// steps makes a step for every number from first on that is a multiple of every.
func steps(first, end, every int, step func(owner string) pool.Step) iter.Seq[pool.Step] {
	return func(yield func(pool.Step) bool) {
		for i := first; i < end; i += every {
			if !yield(step(owner(i))) {
				return
			}
		}
	}
}

func claim(owner string) pool.Step   { return pool.Allocate(pool.Claim{Owner: owner}) }
func release(owner string) pool.Step { return pool.Release(pool.Held{Owner: owner}) }

func doEach(t testing.TB, p *pool.Pool, steps iter.Seq[pool.Step]) {
	t.Helper()
	for r, err := range p.Each(t.Context(), steps) {
		if err != nil || r.Err != nil { // which benchmarks look at for nothing
			require.NoError(t, err)
			require.NoError(t, r.Err)
		}
	}
}

// treeBytes is how many bytes the pages of the trees in a closed file have.
func treeBytes(t testing.TB, path string) (size int) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			stats := b.Stats()
			size += stats.LeafAlloc + stats.BranchAlloc
			return nil
		})
	}))
	return size
}

// An allocation takes at most 250 bytes beside what the file has anyway: pages are as full one by one as in bulk.
func TestBytesOfAnAllocation(t *testing.T) {
	for name, grant := range map[string]func(p *pool.Pool, first, end int){
		"bulk": func(p *pool.Pool, first, end int) { doEach(t, p, steps(first, end, 1, claim)) },
		"one by one": func(p *pool.Pool, first, end int) {
			for i := first; i < end; i++ {
				_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner(i)})
				require.NoError(t, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			const few, many = 200, 1_400
			p, s, path := newPool(t)
			grant(p, 0, few)
			require.NoError(t, s.Close())
			before := treeBytes(t, path)
			s, err := bolt.Open(t.Context(), path, nil)
			require.NoError(t, err)
			p, err = pool.Open(t.Context(), s, "pods", nil)
			require.NoError(t, err)
			grant(p, few, many)
			require.NoError(t, s.Close())
			each := (treeBytes(t, path) - before) / (many - few)
			t.Log(each, "bytes an allocation")
			require.LessOrEqual(t, each, 250)
		})
	}
}

// Owners whose names come in any order leave pages half empty at worst.
func TestBytesOfAnAllocationInAnyOrder(t *testing.T) {
	p, s, path := newPool(t)
	for i := range 8 {
		doEach(t, p, steps(i*997%8, 20_000, 8, claim))
	}
	require.NoError(t, s.Close())
	require.LessOrEqual(t, treeBytes(t, path)/20_000, 450)
}

// In bulk, a step on a file takes few heap allocations, most of them those of bbolt itself, and few bytes.
func TestHeapOfABulkStep(t *testing.T) {
	const n = 10_000
	p, _, _ := newPool(t)
	doEach(t, p, steps(0, 2*n, 1, claim)) // as long as the file is small, bbolt often maps it anew, which takes more
	for _, test := range []struct {
		what            string
		do              func()
		items           int
		allocations, kb float64 // for each item
	}{
		{"grant", func() { doEach(t, p, steps(2*n, 3*n, 1, claim)) }, n, 22, 4.2},
		{"verify", func() {
			found, err := p.Verify(t.Context())
			require.NoError(t, err)
			require.True(t, found.OK(), found)
		}, 3 * n, 6, 0.9},
		{"export", func() { require.NoError(t, p.Export(t.Context(), io.Discard)) }, 3 * n, 5.5, 0.7},
		{"release", func() { doEach(t, p, steps(0, 2*n, 2, release)) }, n, 20, 5.5},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		test.do()
		runtime.ReadMemStats(&after)
		allocations := float64(after.Mallocs-before.Mallocs) / float64(test.items)
		kb := float64(after.TotalAlloc-before.TotalAlloc) / 1e3 / float64(test.items)
		t.Logf("%s: %.1f allocations, %.2f KB", test.what, allocations, kb)
		require.LessOrEqual(t, allocations, test.allocations, test.what)
		require.LessOrEqual(t, kb, test.kb, test.what)
	}
}

// A commit writes the pages that bbolt itself writes for a record and its entry in an index, and at most three more:
// those on the way to the head of the pool.
func TestPagesOfACommit(t *testing.T) {
	const held, pairs = 30_000, 20
	p, _, _ := newPool(t)
	doEach(t, p, steps(0, held, 1, claim))
	needPagesWritten(t)
	name := func(i int) string { return owner(i*7_919%held) + "-more" }
	pair := func(i int) {
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: name(i)})
		require.NoError(t, err)
		_, err = p.Release(t.Context(), pool.Held{Owner: name(i)})
		require.NoError(t, err)
	}
	got := commitPages(t, pairs, pair)

	db := bareIndexed(t, held)
	want := commitPages(t, pairs, func(i int) {
		record, index := bareKeys(name(i), held)
		for _, value := range [][]byte{bareValue, nil} {
			require.NoError(t, db.Update(func(tx *bbolt.Tx) error { return putOrDelete(tx, record, index, value) }))
		}
	})
	t.Logf("%.1f pages a commit, bbolt alone %.1f", got, want)
	require.LessOrEqual(t, got, want+3)
}

// commitPages returns how many pages one of the two commits of pair writes.
func commitPages(t *testing.T, pairs int, pair func(i int)) float64 {
	t.Helper()
	pair(0)
	before := pagesWritten(t)
	for i := range pairs {
		pair(i + 1)
	}
	return float64(pagesWritten(t)-before) / float64(2*pairs)
}

// bareIndexed returns a file of bbolt alone with as many records and entries of an index as a pool has that holds so
// many addresses, of about the same size.
func bareIndexed(t *testing.T, held int) *bbolt.DB {
	t.Helper()
	db := newBare(t)
	changeBare(t, db, held, 1, bareValue)
	return db
}

// bareValue is about as long as the record of an allocation.
var bareValue = make([]byte, 110)

func newBare(t testing.TB) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "bare.db"), 0o600, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// changeBare does putOrDelete for every so many of n owners, for as many in a transaction as steps are in a commit of
// package pool.
func changeBare(t testing.TB, db *bbolt.DB, n, every int, value []byte) {
	t.Helper()
	const most = 4096
	for first := 0; first < n; first += most * every {
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			for i := first; i < min(n, first+most*every); i += every {
				record, index := bareKeys(owner(i), i)
				if err := putOrDelete(tx, record, index, value); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

func bareKeys(owner string, n int) (record, index []byte) {
	return []byte("allocation\x00pods\x00" + owner), fmt.Appendf(nil, "pods\x004\x60%08d%s", n, owner)
}

// putOrDelete puts both keys into their buckets, or deletes them if value is nil.
func putOrDelete(tx *bbolt.Tx, record, index, value []byte) error {
	for name, key := range map[string][]byte{"records": record, "prefixes": index} {
		b, err := tx.CreateBucketIfNotExists([]byte(name))
		if err != nil {
			return err
		}
		b.FillPercent = 0.96
		if value == nil {
			err = b.Delete(key)
		} else {
			err = b.Put(key, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
