package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/internal/filetest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// newFile makes a store with some records, and returns its path and contents.
func newFile(t testing.TB) (path string, contents []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := bolt.Open(context.Background(), path, nil)
	require.NoError(t, err)
	head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "a"}}
	for i := range 30 {
		var writes []store.Write
		for j := range 20 {
			writes = append(writes, store.Write{Op: store.Create, Record: store.Record{
				Key: store.Key{Kind: store.KindAllocation, Pool: "a", Name: fmt.Sprint(i, "-", j)},
			}})
		}
		head, err = storetest.CommitOne(context.Background(), s, head, writes...)
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	contents, err = os.ReadFile(path)
	require.NoError(t, err)
	return path, contents
}

// bareFile makes a bbolt file with options and returns its contents.
func bareFile(t testing.TB, options *bbolt.Options, fill func(*bbolt.Tx) error) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bare.db")
	db, err := bbolt.Open(path, 0o600, options)
	require.NoError(t, err)
	require.NoError(t, db.Update(fill))
	require.NoError(t, db.Close())
	contents, err := os.ReadFile(path)
	require.NoError(t, err)
	return contents
}

func putFormat(name, version string, buckets ...string) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		format, err := tx.CreateBucketIfNotExists([]byte("ipalloc"))
		for _, name := range buckets {
			if err == nil {
				_, err = tx.CreateBucketIfNotExists([]byte(name))
			}
		}
		return errors.Join(err, format.Put([]byte("name"), []byte(name)), format.Put([]byte("version"), []byte(version)))
	}
}

// TestOpenLeavesOtherFilesAlone opens what is not a store, and expects an error with the path, and the file as it was.
func TestOpenLeavesOtherFilesAlone(t *testing.T) {
	random := make([]byte, 100_000)
	generator := rand.NewChaCha8([32]byte{1})
	_, _ = generator.Read(random)
	_, whole := newFile(t)
	page := os.Getpagesize()
	noBuckets := func(*bbolt.Tx) error { return nil }
	brokenMetas := bytes.Clone(whole)
	clear(brokenMetas[:2*page])
	brokenSums := bytes.Clone(whole)
	brokenSums[16+16]++ // the root page's number in each meta page
	brokenSums[page+16+16]++
	for _, c := range []struct {
		name     string
		contents []byte
		want     error
	}{
		{"empty", nil, bolt.ErrCorrupt},
		{"one byte", []byte{0}, bolt.ErrForeign},
		{"text", []byte("pools:\n- 10.0.0.0/8\n"), bolt.ErrForeign},
		{"long text", bytes.Repeat([]byte("10.0.0.0/8\n"), 10_000), bolt.ErrForeign},
		{"SQLite", append([]byte("SQLite format 3\x00\x10\x00\x01\x01"), make([]byte, 16<<10)...), bolt.ErrForeign},
		{"random bytes", random, bolt.ErrForeign},
		{"zeros", make([]byte, 64<<10), bolt.ErrForeign},
		{"bbolt without buckets", bareFile(t, nil, noBuckets), bolt.ErrForeign},
		{"bbolt without list of free pages", bareFile(t, &bbolt.Options{NoFreelistSync: true}, noBuckets), bolt.ErrForeign},
		{"bbolt of another program", bareFile(t, nil, func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte("records"))
			return err
		}), bolt.ErrForeign},
		{"bbolt with another format", bareFile(t, nil, putFormat("other", "1", "records", "pieces", "prefixes")),
			bolt.ErrForeign},
		{"newer version", bareFile(t, nil,
			putFormat("ipalloc store", "2", "records", "pieces", "prefixes", "expiry", "labels")),
			store.ErrNewerFormat},
		{"no index by expiry", bareFile(t, nil, putFormat("ipalloc store", "1", "records", "pieces", "prefixes")),
			bolt.ErrCorrupt},
		{"no version", bareFile(t, nil, putFormat("ipalloc store", "", "records", "pieces", "prefixes")),
			bolt.ErrCorrupt},
		{"version 0", bareFile(t, nil, putFormat("ipalloc store", "0", "records", "pieces", "prefixes")),
			bolt.ErrCorrupt},
		{"no records", bareFile(t, nil, putFormat("ipalloc store", "1", "pieces", "prefixes", "expiry", "labels")),
			bolt.ErrCorrupt},
		{"no pieces", bareFile(t, nil, putFormat("ipalloc store", "1", "records", "prefixes", "expiry", "labels")),
			bolt.ErrCorrupt},
		{"no index", bareFile(t, nil, putFormat("ipalloc store", "1", "records", "pieces", "expiry", "labels")),
			bolt.ErrCorrupt},
		{"no labels", bareFile(t, nil, putFormat("ipalloc store", "1", "records", "pieces", "prefixes", "expiry")),
			bolt.ErrCorrupt},
		{"cut off in the first page", whole[:1000], bolt.ErrCorrupt},
		{"cut off after the first page", whole[:page], bolt.ErrCorrupt},
		{"cut off after the second page", whole[:2*page], bolt.ErrCorrupt},
		{"cut off in the middle", whole[:len(whole)/2], bolt.ErrCorrupt},
		{"cut off in a page", whole[:len(whole)/4+100], bolt.ErrCorrupt},
		{"both meta pages lost", brokenMetas, bolt.ErrForeign},
		{"both meta pages damaged", brokenSums, bolt.ErrCorrupt},
		{
			"random bytes after the meta pages",
			append(bytes.Clone(whole[:2*page]), random[:len(random)/page*page]...), bolt.ErrCorrupt,
		},
		{
			"zeros after the meta pages",
			append(bytes.Clone(whole[:2*page]), make([]byte, len(whole)-2*page)...), bolt.ErrCorrupt,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "some file")
			require.NoError(t, os.WriteFile(path, c.contents, 0o640))
			before, err := os.Stat(path)
			require.NoError(t, err)
			for range 2 { // the second time finds the file unlocked
				s, err := bolt.Open(t.Context(), path, nil)
				require.Nil(t, s)
				require.ErrorIs(t, err, c.want)
				require.ErrorContains(t, err, path)
				require.Equal(t, errors.Is(c.want, bolt.ErrCorrupt), errors.Is(err, bolt.ErrCorrupt))
			}
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(c.contents, after), "the file has changed")
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, before.ModTime(), info.ModTime())
			require.Equal(t, before.Mode(), info.Mode())
			entries, err := os.ReadDir(filepath.Dir(path))
			require.NoError(t, err)
			require.Len(t, entries, 1)
		})
	}
}

// TestRandomDamage overwrites parts of a store at random and opens it. Whatever comes of it, it is no panic, and
// nothing that Open refuses is changed.
func TestRandomDamage(t *testing.T) {
	_, whole := newFile(t)
	page, random := os.Getpagesize(), rand.New(rand.NewPCG(7, 7))
	for range 100 {
		damaged := bytes.Clone(whole)
		for range 1 + random.IntN(8) {
			at := 2*page + random.IntN(len(damaged)-2*page)
			for i := at; i < min(at+1+random.IntN(page), len(damaged)); i++ {
				damaged[i] = byte(random.Uint32())
			}
		}
		if s := openDamaged(t, damaged); s != nil {
			require.NoError(t, s.Close())
		}
	}
}

// TestLostPages replaces one page after the other of a store by zeros, as when the disk lost it, and uses the store. No
// call panics or hangs.
func TestLostPages(t *testing.T) {
	_, whole := newFile(t)
	for at, page := 2*os.Getpagesize(), os.Getpagesize(); at < len(whole); at += page {
		damaged := bytes.Clone(whole)
		clear(damaged[at : at+page])
		s := openDamaged(t, damaged)
		if s == nil {
			continue
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			use(t, s)
		}()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			require.FailNow(t, "a call on a damaged store hangs")
		}
	}
}

// openDamaged opens a file with contents. If that fails, the file must be as it was.
func openDamaged(t *testing.T, contents []byte) *bolt.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "damaged.db")
	require.NoError(t, os.WriteFile(path, contents, 0o600))
	s, err := bolt.Open(t.Context(), path, nil)
	if err != nil {
		require.True(t, errors.Is(err, bolt.ErrCorrupt) || errors.Is(err, bolt.ErrForeign) ||
			errors.Is(err, store.ErrNewerFormat), err)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(contents, after), "the file has changed")
	}
	return s
}

// use calls the methods of a damaged store. Each fails with ErrCorrupt, or works.
func use(t *testing.T, s *bolt.Store) {
	allowed := func(err error) {
		if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
			assert.ErrorIs(t, err, bolt.ErrCorrupt)
		}
	}
	for _, err := range s.List(t.Context(), store.KindAllocation, "") {
		allowed(err)
	}
	head, err := s.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: "a"})
	allowed(err)
	head.Kind, head.Pool = store.KindPool, "a"
	_, err = storetest.CommitOne(t.Context(), s, head, store.Write{Op: store.Put, Record: store.Record{
		Key: store.Key{Kind: store.KindAllocation, Pool: "a", Name: "10-10"},
	}})
	allowed(err)
	assert.NoError(t, s.Close())
}

func TestOpenWhatIsNoFile(t *testing.T) {
	folder := t.TempDir()
	_, err := bolt.Open(t.Context(), folder, nil)
	require.ErrorIs(t, err, bolt.ErrForeign)
	require.ErrorContains(t, err, folder)

	path := filepath.Join(folder, "missing", "ipalloc.db")
	_, err = bolt.Open(t.Context(), path, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, path)
	require.NoDirExists(t, filepath.Dir(path))

	_, err = bolt.Open(t.Context(), "", nil)
	require.Error(t, err)

	path = filepath.Join(folder, "ipalloc.db")
	_, err = bolt.Open(t.Context(), path, &bolt.Options{MustExist: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoFileExists(t, path)

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = bolt.Open(cancelled, path, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.NoFileExists(t, path)
}

func TestOpenReadOnlyFile(t *testing.T) {
	path, whole := newFile(t)
	require.NoError(t, os.Chmod(path, 0o400))
	filetest.AsOrdinaryUser(t, path, func() {
		_, err := bolt.Open(t.Context(), path, nil)
		require.ErrorIs(t, err, fs.ErrPermission)
		require.ErrorContains(t, err, path)
	})
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(whole, after))
}

func TestFileMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no such modes")
	}
	for _, c := range []struct{ given, want fs.FileMode }{{0, 0o600}, {0o640, 0o640}, {0o666, 0o666}} {
		path := filepath.Join(t.TempDir(), "ipalloc.db")
		for range 2 {
			s, err := bolt.Open(t.Context(), path, &bolt.Options{Mode: c.given})
			require.NoError(t, err)
			require.Equal(t, path, s.Path())
			require.NoError(t, s.Close())
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, c.want, info.Mode())
			c.given = 0o644 // has no effect on a file that exists
		}
	}
}

// TestOpeningChangesNothing opens and closes a store, which must not write to it.
func TestOpeningChangesNothing(t *testing.T) {
	path, whole := newFile(t)
	s, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	_, err = s.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: "a"})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(whole, after))
}

// TestOpenTogether has several goroutines create the same file: one at a time has it, and none loses what another
// committed.
func TestOpenTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	errs := make(chan error)
	const n = 8
	for i := range n {
		go func() {
			errs <- func() error {
				s, err := bolt.Open(t.Context(), path, &bolt.Options{LockWait: -1})
				if err != nil {
					return err
				}
				head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: fmt.Sprint(i)}}
				_, err = storetest.CommitOne(t.Context(), s, head)
				return errors.Join(err, s.Close())
			}()
		}()
	}
	for range n {
		require.NoError(t, <-errs)
	}
	s, err := bolt.Open(t.Context(), path, &bolt.Options{MustExist: true})
	require.NoError(t, err)
	defer s.Close()
	found := 0
	for _, err := range s.List(t.Context(), store.KindPool, "") {
		require.NoError(t, err)
		found++
	}
	require.Equal(t, n, found)
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "something is left of creating the file")
}

func TestLockWait(t *testing.T) {
	path, _ := newFile(t)
	holder, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)

	begin := time.Now()
	_, err = bolt.Open(t.Context(), path, nil)
	require.ErrorIs(t, err, bolt.ErrLocked)
	require.ErrorContains(t, err, path)
	require.Less(t, time.Since(begin), time.Second)

	begin = time.Now()
	_, err = bolt.Open(t.Context(), path, &bolt.Options{LockWait: 50 * time.Millisecond})
	require.ErrorIs(t, err, bolt.ErrLocked)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	require.GreaterOrEqual(t, time.Since(begin), 50*time.Millisecond)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = bolt.Open(ctx, path, &bolt.Options{LockWait: -1})
	require.ErrorIs(t, err, bolt.ErrLocked)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	opened := make(chan error, 1)
	go func() {
		s, err := bolt.Open(t.Context(), path, &bolt.Options{LockWait: time.Minute})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	time.Sleep(20 * time.Millisecond)
	require.NoError(t, holder.Close())
	require.NoError(t, <-opened)
}
