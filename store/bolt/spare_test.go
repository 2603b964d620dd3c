package bolt_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/internal/unmet"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// mostListed is how many free pages bbolt may list after a commit that changes little: with the numbers of as many, and
// of those that the commit frees, the list takes one page.
const mostListed = 500

// A pool that held much and released most of it writes with each commit what it wrote before, also after the file was
// opened again. The free pages are used again, so the file does not grow.
func TestShrunkPool(t *testing.T) {
	const many = 60_000
	p, s, path := newPool(t)
	doEach(t, p, steps(0, many, 1, claim))
	pair := func() {
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: "pair"})
		require.NoError(t, err)
		_, err = p.Release(t.Context(), pool.Held{Owner: "pair"})
		require.NoError(t, err)
	}
	pages := func() int {
		before := pagesWritten(t)
		for range 10 {
			pair()
		}
		return pagesWritten(t) - before
	}
	pair()
	before := pages()
	for i := range 8 { // all but every eighth
		if i != 3 {
			doEach(t, p, steps(i, many, 8, release))
		}
	}
	pair()
	require.LessOrEqual(t, pages(), before*3/2)
	require.LessOrEqual(t, bolt.ListedPages(s), mostListed)
	require.NoError(t, s.Close())
	require.Greater(t, sparePages(t, path), 1_000)
	size := fileSize(t, path)

	s, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	p, err = pool.Open(t.Context(), s, "pods", nil)
	require.NoError(t, err)
	pair()
	require.LessOrEqual(t, pages(), before*3/2)
	for i := range 8 {
		doEach(t, p, steps(i, many, 8, claim))
	}
	report, err := p.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, report.OK(), report)
	require.NoError(t, s.Close())
	require.LessOrEqual(t, fileSize(t, path), 2*size, "owners come in another order now, so pages are less full")
	contents(t, path)
}

// needPagesWritten skips a test where the system does not count what a process writes.
func needPagesWritten(t testing.TB) {
	t.Helper()
	if pagesWritten(t) == 0 {
		unmet.Skip(t, errors.New("the system does not count what a process writes"))
	}
}

// pagesWritten is how many pages the system has counted of what this process has written; 0 where it does not count.
func pagesWritten(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	require.NoError(t, err)
	_, text, found := bytes.Cut(text, []byte("wchar: "))
	require.True(t, found)
	text, _, _ = bytes.Cut(text, []byte("\n"))
	n, err := strconv.Atoi(string(text))
	require.NoError(t, err)
	return n / os.Getpagesize()
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Size()
}

// sparePages returns how many pages the closed file has that are neither in use nor in bbolt's list of free pages.
func sparePages(t testing.TB, path string) (n int) {
	t.Helper()
	for _, text := range contents(t, path)["spare"] {
		var entry []uint64
		require.NoError(t, json.Unmarshal([]byte(text), &entry))
		n += len(entry)
	}
	return n
}

// TestSparePages makes commits of any size at random, some while others read, and opens the file again now and then. It
// has the file shrink, too. Each page is always either in use, or free, or spare.
func TestSparePages(t *testing.T) {
	path, random := filepath.Join(t.TempDir(), "ipalloc.db"), rand.New(rand.NewPCG(5, 6))
	s, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	key := func(i int) store.Key {
		return store.Key{Kind: store.KindAllocation, Pool: "a", Name: fmt.Sprintf("%04d", i)}
	}
	head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "a"}}
	model, mostSpare := map[string]string{}, 0
	// bbolt cannot map a larger file while somebody reads, so it is larger from the beginning.
	large := store.Record{Key: key(0), Data: json.RawMessage(fmt.Sprintf("%q", strings.Repeat("x", 48<<20)))}
	head, err = storetest.CommitOne(t.Context(), s, head, store.Write{Op: store.Put, Record: large})
	require.NoError(t, err)
	head, err = storetest.CommitOne(t.Context(), s, head, store.Write{Op: store.Delete, Record: large})
	require.NoError(t, err)
	const rounds = 60
	for round := range rounds {
		var writes []store.Write
		first, n := random.IntN(2_000), 1+random.IntN(1<<random.IntN(11))
		deletes := random.IntN(2) == 0
		for i := first; i < min(first+n, 2_000); i++ {
			w := store.Write{Op: store.Delete, Record: store.Record{Key: key(i)}}
			if delete(model, w.Record.Name); !deletes {
				text := fmt.Sprintf("%q", strings.Repeat("x", 2_000+random.IntN(4_000)))
				w.Op, w.Record.Data, model[w.Record.Name] = store.Put, json.RawMessage(text), text
			}
			writes = append(writes, w)
		}
		commit := func(writes ...store.Write) {
			head, err = storetest.CommitOne(t.Context(), s, head, writes...)
			require.NoError(t, err)
		}
		if round%5 == 0 && round < rounds/2 {
			end := bolt.BeginRead(t, s)
			commit(writes...)
			commit()
			end()
		} else {
			commit(writes...)
		}
		commit()
		if round%4 == 3 && round > rounds/2 { // the file is small then
			require.NoError(t, bolt.Shrink(s, nil))
		}
		require.NoError(t, s.Close())
		mostSpare = max(mostSpare, sparePages(t, path))
		s, err = bolt.Open(t.Context(), path, nil)
		require.NoError(t, err)
	}
	require.Greater(t, mostSpare, 500)
	got := map[string]string{}
	for r, err := range s.List(t.Context(), store.KindAllocation, "a") {
		require.NoError(t, err)
		got[r.Name] = string(r.Data)
	}
	require.Equal(t, model, got)
	require.NoError(t, s.Close())
}

// A file that another program has made from the buckets of a store has other free pages, so those that were spare are
// forgotten.
func TestCompactedFile(t *testing.T) {
	p, s, path := newPool(t)
	doEach(t, p, steps(0, 40_000, 1, claim))
	doEach(t, p, steps(0, 39_000, 1, release))
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "last"})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Greater(t, sparePages(t, path), 500)

	compacted := filepath.Join(t.TempDir(), "compacted.db")
	from, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	require.NoError(t, err)
	to, err := bbolt.Open(compacted, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, bbolt.Compact(to, from, 0))
	require.NoError(t, from.Close())
	require.NoError(t, to.Close())

	s, err = bolt.Open(t.Context(), compacted, nil)
	require.NoError(t, err)
	p, err = pool.Open(t.Context(), s, "pods", nil)
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "one more"})
	require.NoError(t, err)
	doEach(t, p, steps(0, 39_000, 1, claim))
	report, err := p.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, report.OK(), report)
	require.NoError(t, s.Close())
	require.Zero(t, sparePages(t, compacted))
}
