package bolt_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// holding returns a pool in a new file that has granted so many and released those that the function says.
func holding(t *testing.T, many int, gone func(i int) bool) (*pool.Pool, *bolt.Store, string) {
	t.Helper()
	p, s, path := newPool(t)
	bolt.ShrinkSoon(s.(*bolt.Store), time.Hour) // not by itself, on a machine on which the following takes long
	doEach(t, p, steps(0, many, 1, claim))
	doEach(t, p, func(yield func(pool.Step) bool) {
		for i := range many {
			if gone(i) && !yield(release(owner(i))) {
				return
			}
		}
	})
	return p, s.(*bolt.Store), path
}

func everyOther(i int) bool { return i%2 == 0 }

// requireSmall closes the store, and checks that the pool is whole and its file hardly larger than a new one with the
// same contents.
func requireSmall(t *testing.T, p *pool.Pool, s *bolt.Store, path string) {
	t.Helper()
	report, err := p.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, report.OK(), report)
	require.NoError(t, s.Close())
	contents(t, path)
	size, fresh := fileSize(t, path), freshSize(t, path)
	t.Logf("%d KiB, a new file has %d", size>>10, fresh>>10)
	require.LessOrEqual(t, size, fresh*3/2+int64(bolt.Slack)*int64(os.Getpagesize()))
}

// TestShrinks has a pool release most of what it held, while others allocate and release. The file becomes about as
// small as a new one with the same contents.
func TestShrinks(t *testing.T) {
	const many = 40_000
	for name, gone := range map[string]func(i int) bool{
		"every other":    everyOther,
		"all but a few":  func(i int) bool { return i%100 != 0 },
		"the first half": func(i int) bool { return i < many/2 },
		"the last half":  func(i int) bool { return i >= many/2 },
		"in any order":   func(i int) bool { return i*7_919%many >= many/4 },
	} {
		t.Run(name, func(t *testing.T) {
			p, s, path := holding(t, many, gone)
			stop := work(t, p)
			err := bolt.Shrink(s, nil)
			stop()
			require.NoError(t, err)
			requireSmall(t, p, s, path)
		})
	}
}

// A file shrinks by itself, but only if it has been open for long enough.
func TestShrinksByItself(t *testing.T) {
	p, s, path := holding(t, 10_000, everyOther)
	pair := func() {
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: "pair"})
		require.NoError(t, err)
		_, err = p.Release(t.Context(), pool.Held{Owner: "pair"})
		require.NoError(t, err)
	}
	before := fileSize(t, path)
	bolt.ShrinkSoon(s, time.Hour)
	pair()
	require.False(t, bolt.IsShrinking(s))
	require.Equal(t, before, fileSize(t, path))
	bolt.ShrinkSoon(s, 0)
	pair()
	require.Eventually(t, func() bool { return !bolt.IsShrinking(s) }, 2*time.Minute, time.Millisecond)
	requireSmall(t, p, s, path)
}

// While the file shrinks, nobody waits for more than a few pages to be written, and a commit writes what it wrote.
func TestPagesWhileShrinking(t *testing.T) {
	p, s, path := holding(t, 40_000, everyOther)
	needPagesWritten(t)
	const pairs = 5
	written := func() int {
		before := pagesWritten(t)
		for range pairs {
			_, err := p.Allocate(t.Context(), pool.Claim{Owner: "pair"})
			require.NoError(t, err)
			_, err = p.Release(t.Context(), pool.Held{Owner: "pair"})
			require.NoError(t, err)
		}
		return pagesWritten(t) - before
	}
	written()
	before, during, times, most := written(), 0, 0, 0
	last, rests := pagesWritten(t), 0
	require.NoError(t, bolt.Shrink(s, func() {
		most = max(most, pagesWritten(t)-last)
		if rests++; rests%10 == 0 {
			during, times = during+written(), times+1
		}
		last = pagesWritten(t)
	}))
	t.Logf("%d pages a step at most; a commit %.1f, and before %.1f", most, float64(during)/float64(times*2*pairs),
		float64(before)/(2*pairs))
	require.Positive(t, times)
	require.LessOrEqual(t, most, 100)
	require.LessOrEqual(t, 2*during, 3*before*times)
	requireSmall(t, p, s, path)
}

// Who reads keeps the pages that it sees, and the file shrinks when it has ended.
func TestShrinksAfterReaders(t *testing.T) {
	p, s, path := holding(t, 10_000, everyOther)
	keys := bolt.BeginRead(t, s)()
	before, end := fileSize(t, path), bolt.BeginRead(t, s)
	failed := bolt.Shrink(s, nil)
	seen, after := end(), fileSize(t, path)
	require.Error(t, failed)
	require.Equal(t, keys, seen)
	require.LessOrEqual(t, after, before)
	require.NoError(t, bolt.Shrink(s, nil))
	requireSmall(t, p, s, path)
}

// TestTruncateFails has the system refuse to truncate the file. It keeps its size, and is used as before.
func TestTruncateFails(t *testing.T) {
	p, s, path := holding(t, 10_000, everyOther)
	before, end := fileSize(t, path), bolt.FailTruncate(t, s)
	require.Error(t, bolt.Shrink(s, nil))
	end()
	require.Equal(t, before, fileSize(t, path))
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "after"})
	require.NoError(t, err)
	require.NoError(t, bolt.Shrink(s, nil))
	requireSmall(t, p, s, path)
}

// work has sixteen goroutines allocate and release until the function that it returns is called.
func work(t *testing.T, p *pool.Pool) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("worker-%d-%d", i, n)
				_, err := p.Allocate(t.Context(), pool.Claim{Owner: name})
				if assert.NoError(t, err) {
					_, err = p.Release(t.Context(), pool.Held{Owner: name})
					assert.NoError(t, err)
				}
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// freshSize returns how large a file is into which another program has written the contents of a closed one.
func freshSize(t *testing.T, path string) int64 {
	t.Helper()
	fresh := filepath.Join(t.TempDir(), "fresh.db")
	from, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	require.NoError(t, err)
	to, err := bbolt.Open(fresh, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, bbolt.Compact(to, from, 1<<20))
	require.NoError(t, from.Close())
	require.NoError(t, to.Close())
	return int64(treeBytes(t, fresh))
}
