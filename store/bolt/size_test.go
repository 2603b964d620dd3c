package bolt_test

import (
	"fmt"
	"iter"
	"path/filepath"
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
		require.NoError(t, err)
		require.NoError(t, r.Err)
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
