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

	"github.com/ipalloc/ipalloc/internal/filetest"
	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// openPool opens the store at path, and a pool in it, which it makes if it is not there.
func openPool(t *testing.T, path string) (*bolt.Store, *filetest.Counting, *pool.Pool) {
	t.Helper()
	s, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	counted := &filetest.Counting{Store: s}
	p, err := pool.Ensure(t.Context(), counted, pooltest.Name, pooltest.Spec(t), pool.Keep, nil)
	require.NoError(t, err)
	return s, counted, p
}

// TestCutOff cuts off a file that is open. Every call and Close return an error, and the file can be opened again.
func TestCutOff(t *testing.T) {
	page := int64(os.Getpagesize())
	for _, c := range []struct {
		name string
		size int64
		use  bool // before Close
	}{
		{"to nothing", 0, true},
		{"to nothing, and closed", 0, false},
		{"in the first page", 100, true},
		{"after the first page", page, true},
		{"after the second page", 2 * page, true},
		{"after the fifth page", 5 * page, true},
		{"by a byte", -1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ipalloc.db")
			s, counted, p := openPool(t, path)
			_, err := p.Allocate(t.Context(), pool.Claim{Owner: "before"})
			require.NoError(t, err)
			if c.size < 0 {
				info, err := os.Stat(path)
				require.NoError(t, err)
				c.size += info.Size()
			}
			require.NoError(t, os.Truncate(path, c.size))
			counted.Commits.Store(0)
			if c.use {
				filetest.Returns(t, "a call", func() {
					_, err := p.Allocate(t.Context(), pool.Claim{Owner: "after"})
					require.ErrorIs(t, err, bolt.ErrCorrupt)
					require.ErrorContains(t, err, path)
					_, err = s.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: pooltest.Name})
					require.ErrorIs(t, err, bolt.ErrCorrupt)
				})
				require.LessOrEqual(t, counted.Commits.Load(), int64(1))
			}
			filetest.Returns(t, "Close", func() { require.ErrorIs(t, s.Close(), bolt.ErrCorrupt) })
			require.NoError(t, s.Close())
			_, err = s.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: pooltest.Name})
			require.ErrorIs(t, err, store.ErrClosed)
			again, err := bolt.Open(t.Context(), path, nil)
			require.NotErrorIs(t, err, bolt.ErrLocked)
			if err == nil { // what was cut off was not in use
				require.NoError(t, again.Close())
			}
		})
	}
}

// TestCutOffInUse cuts off a file while goroutines read and commit. All of them end. The file has many pages, because a
// commit that is under way may write all pages of a small file again, and what was cut off is then not missed. It gives
// the file its size again, too, and Close may then find nothing wrong.
func TestCutOffInUse(t *testing.T) {
	for range 10 {
		path := filepath.Join(t.TempDir(), "ipalloc.db")
		s, _, p := openPool(t, path)
		var held []pool.Step
		for i := range 500 {
			held = append(held, pool.Allocate(pool.Claim{Owner: fmt.Sprintf("held-%d", i)}))
		}
		_, err := p.All(t.Context(), held...)
		require.NoError(t, err)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				var err error
				for n := 0; err == nil; n++ {
					if i == 0 {
						_, err = p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(n)})
					} else {
						err = readAll(t.Context(), s)
					}
				}
				assert.ErrorIs(t, err, bolt.ErrCorrupt)
			})
		}
		time.Sleep(5 * time.Millisecond)
		require.NoError(t, os.Truncate(path, 0))
		filetest.Returns(t, "a call", wg.Wait)
		filetest.Returns(t, "Close", func() {
			if err := s.Close(); err != nil {
				require.ErrorIs(t, err, bolt.ErrCorrupt)
			}
		})
	}
}

// readAll reads all allocations.
func readAll(ctx context.Context, s store.Store) error {
	for _, err := range s.List(ctx, store.KindAllocation, pooltest.Name) {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestDamagedWhileOpen fills pages of an open file with zeros, as a failing disk or another program may.
func TestDamagedWhileOpen(t *testing.T) {
	page := int64(os.Getpagesize())
	for _, first := range []int64{0, 2} {
		path := filepath.Join(t.TempDir(), "ipalloc.db")
		s, counted, p := openPool(t, path)
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		require.NoError(t, err)
		info, err := file.Stat()
		require.NoError(t, err)
		_, err = file.WriteAt(make([]byte, info.Size()-first*page), first*page)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		filetest.Returns(t, "a call", func() {
			for i := range 3 {
				_, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i)})
				require.ErrorIs(t, err, bolt.ErrCorrupt)
			}
		})
		require.LessOrEqual(t, counted.Commits.Load(), int64(10))
		filetest.Returns(t, "Close", func() { require.ErrorIs(t, s.Close(), bolt.ErrCorrupt) })
	}
}

// TestWrittenByAnother writes an older copy of the file into the file.
func TestWrittenByAnother(t *testing.T) {
	for _, read := range []bool{false, true} {
		writeOld(t, read)
	}
}

func writeOld(t *testing.T, read bool) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, counted, p := openPool(t, path)
	old, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.NoError(t, err)
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.Write(old)
	require.NoError(t, err)
	require.NoError(t, file.Close())

	counted.Commits.Store(0)
	if read {
		_, err = s.Get(t.Context(), store.Key{Kind: store.KindAllocation, Pool: pooltest.Name, Name: "a"})
	} else {
		_, err = p.Allocate(t.Context(), pool.Claim{Owner: "b"})
	}
	require.ErrorIs(t, err, bolt.ErrCorrupt)
	require.ErrorContains(t, err, "another program")
	require.LessOrEqual(t, counted.Commits.Load(), int64(1))
	require.ErrorIs(t, s.Close(), bolt.ErrCorrupt)
}

// TestReplaced removes or replaces a file that is open. A second store opens what is there then, and only it grants
// addresses.
func TestReplaced(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"removed": os.Remove,
		"renamed": func(path string) error { return os.Rename(path, path+".old") },
		"replaced": func(path string) error {
			whole, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path+".copy", whole, 0o600); err != nil {
				return err
			}
			return os.Rename(path+".copy", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ipalloc.db")
			first, counted, p := openPool(t, path)
			require.NoError(t, replace(path))
			_, _, q := openPool(t, path)
			counted.Commits.Store(0)

			_, err := p.Allocate(t.Context(), pool.Claim{Owner: "a"})
			require.ErrorIs(t, err, bolt.ErrReplaced)
			require.ErrorContains(t, err, path)
			require.NotErrorIs(t, err, store.ErrUnknown)
			require.LessOrEqual(t, counted.Commits.Load(), int64(1))
			_, err = first.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: pooltest.Name})
			require.ErrorIs(t, err, bolt.ErrReplaced)
			_, err = q.Allocate(t.Context(), pool.Claim{Owner: "b"})
			require.NoError(t, err)
			require.NoError(t, first.Close())
		})
	}
}

// TestMovedBack moves an open file away and back. Nobody else can have opened it meanwhile.
func TestMovedBack(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	_, _, p := openPool(t, "ipalloc.db")
	t.Chdir(t.TempDir()) // the path still counts from where it was opened
	path := filepath.Join(folder, "ipalloc.db")
	require.NoError(t, os.Rename(path, path+".old"))
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.ErrorIs(t, err, bolt.ErrReplaced)
	require.NoError(t, os.Rename(path+".old", path))
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.NoError(t, err)
}

// hookContext calls a function each time it is asked whether it has ended.
type hookContext struct {
	context.Context
	asked func()
}

func (c hookContext) Err() error {
	c.asked()
	return c.Context.Err()
}

// TestReplacedInCommit removes the file while a commit runs, after the commit has looked at the path. The commit must
// not succeed: another process may begin a new file and grant the same.
func TestReplacedInCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "a"}}
	times := 0
	head, err = storetest.CommitOne(hookContext{t.Context(), func() { times++ }}, s, head)
	require.NoError(t, err)

	n := 0
	_, err = storetest.CommitOne(hookContext{t.Context(), func() {
		if n++; n == times {
			require.NoError(t, os.Remove(path))
		}
	}}, s, head)
	require.ErrorIs(t, err, store.ErrUnknown)
	require.ErrorIs(t, err, bolt.ErrReplaced)
}

// TestReplacedInAllocate is the same for a pool: the call must end soon.
func TestReplacedInAllocate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	_, counted, p := openPool(t, path)
	counted.Commits.Store(0)
	counted.Store = removingStore{counted.Store, path}
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.ErrorIs(t, err, store.ErrUnknown)
	require.ErrorIs(t, err, bolt.ErrReplaced)
	require.LessOrEqual(t, counted.Commits.Load(), int64(2))
}

// removingStore removes the file while it commits.
type removingStore struct {
	store.Store
	path string
}

func (s removingStore) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	heads, err := s.Store.Commit(ctx, changes...)
	if err == nil {
		_ = os.Remove(s.path)
		err = fmt.Errorf("%w: %w", store.ErrUnknown, bolt.ErrReplaced)
	}
	return heads, err
}

// TestFailedLastFlush fails the last flush of a commit, which is in the file then: another transaction must bring it to
// the disk.
func TestFailedLastFlush(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, _, p := openPool(t, path)
	require.NoError(t, bolt.FailLastFlush(s))
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.NoError(t, err)
}
