package sqlite_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/filetest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/sqlite"
	"github.com/ipalloc/ipalloc/store/storetest"
)

var headA = store.Key{Kind: store.KindPool, Pool: "a"}

// newFile makes a closed store with some records, and returns its path and contents.
func newFile(t testing.TB) (path string, contents []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := sqlite.Open(t.Context(), path, nil)
	require.NoError(t, err)
	fill(t, s, 0, 600)
	require.NoError(t, s.Close())
	contents, err = os.ReadFile(path)
	require.NoError(t, err)
	return path, contents
}

// allocation is the record of the n-th owner.
func allocation(n int) store.Record {
	addr := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	return store.Record{
		Key:      store.Key{Kind: store.KindAllocation, Pool: "a", Name: fmt.Sprint("owner-", n)},
		State:    "allocated",
		Prefixes: []netip.Prefix{netip.PrefixFrom(addr, 32)},
	}
}

// fill commits allocations, and returns the head.
func fill(t testing.TB, s store.Store, from, to int) store.Record {
	t.Helper()
	return change(t, s, store.Create, from, to)
}

// change commits an operation on the allocations from one number up to another.
func change(t testing.TB, s store.Store, op store.Op, from, to int) store.Record {
	t.Helper()
	heads, err := store.GetAll(t.Context(), s, headA)
	require.NoError(t, err)
	head := heads[0]
	for from < to {
		var writes []store.Write
		for ; from < to && len(writes) < 500; from++ {
			writes = append(writes, store.Write{Op: op, Record: allocation(from)})
		}
		head, err = storetest.CommitOne(t.Context(), s, head, writes...)
		require.NoError(t, err)
	}
	return head
}

// database returns the contents of a database that SQL makes.
func database(t *testing.T, text string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other.db")
	require.NoError(t, execute(t, path, text))
	contents, err := os.ReadFile(path)
	require.NoError(t, err)
	return contents
}

// TestOpenLeavesOtherFilesAlone opens what is not a store, and expects an error with the path, and the folder as it
// was.
func TestOpenLeavesOtherFilesAlone(t *testing.T) {
	_, whole := newFile(t)
	for _, c := range []struct {
		name     string
		contents []byte
		want     error
	}{
		{"empty", nil, sqlite.ErrCorrupt},
		{"one byte", []byte{0}, sqlite.ErrForeign},
		{"text", bytes.Repeat([]byte("10.0.0.0/8\n"), 10_000), sqlite.ErrForeign},
		{"zeros", make([]byte, 64<<10), sqlite.ErrForeign},
		{"another program's", database(t, "CREATE TABLE record (x)"), sqlite.ErrForeign},
		{"another program's with a log", database(t, "PRAGMA journal_mode = WAL; CREATE TABLE record (x)"),
			sqlite.ErrForeign},
		{"newer version", database(t, "PRAGMA application_id = 0x69706131; PRAGMA user_version = 2"),
			store.ErrNewerFormat},
		{"no version", database(t, "PRAGMA application_id = 0x69706131; CREATE TABLE record (x)"), sqlite.ErrCorrupt},
		{"cut off in the header", whole[:60], sqlite.ErrForeign},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ipalloc.db")
			require.NoError(t, os.WriteFile(path, c.contents, 0o600))
			_, err := sqlite.Open(t.Context(), path, nil)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, path)
			requireOnly(t, path, c.contents)
		})
	}
}

// requireOnly checks that the file has these contents, and that there is no other one in its folder.
func requireOnly(t *testing.T, path string, contents []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(contents, got), "the file was changed")
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

// TestNewerVersionInLog finds a version that is in the log only, as after a migration by a process that was killed.
func TestNewerVersionInLog(t *testing.T) {
	path, _ := newFile(t)
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), "PRAGMA user_version = 2")
	require.NoError(t, err)
	_, err = sqlite.Open(t.Context(), path, nil)
	require.ErrorIs(t, err, store.ErrNewerFormat)
	require.ErrorContains(t, err, path)
}

// TestDamagedFile opens a store whose file was cut off or overwritten. Nothing that is returned is wrong.
func TestDamagedFile(t *testing.T) {
	_, whole := newFile(t)
	zeroed := bytes.Clone(whole)
	clear(zeroed[4096:])
	for name, contents := range map[string][]byte{
		"cut off after the first page": whole[:4096],
		"cut off in the middle":        whole[:len(whole)/2/4096*4096],
		"pages of zeros":               zeroed,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ipalloc.db")
			require.NoError(t, os.WriteFile(path, contents, 0o600))
			s, err := sqlite.Open(t.Context(), path, nil)
			for i := 0; i < 600 && err == nil; i++ {
				_, err = s.Get(t.Context(), allocation(i).Key)
			}
			require.ErrorIs(t, err, sqlite.ErrCorrupt)
			require.ErrorContains(t, err, path)
			if s != nil {
				_ = s.Close()
			}
		})
	}
}

func TestOpenWhatIsNoFile(t *testing.T) {
	folder := t.TempDir()
	_, err := sqlite.Open(t.Context(), folder, nil)
	require.ErrorIs(t, err, sqlite.ErrForeign)
	_, err = sqlite.Open(t.Context(), filepath.Join(folder, "none", "ipalloc.db"), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = sqlite.Open(t.Context(), filepath.Join(folder, "none.db"), &sqlite.Options{MustExist: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// TestPathsAndModes opens files whose names mean something in a URI, with a mode.
func TestPathsAndModes(t *testing.T) {
	for _, name := range []string{"a b.db", "a?mode=memory", "a#b%41.db", "ä&x=';.db"} {
		path := filepath.Join(t.TempDir(), name)
		for range 2 {
			s, err := sqlite.Open(t.Context(), path, &sqlite.Options{Mode: 0o640})
			require.NoError(t, err)
			require.Equal(t, path, s.Path())
			fill(t, s, 0, 1)
			change(t, s, store.Delete, 0, 1)
			require.NoError(t, s.Close())
		}
		for _, suffix := range []string{"", "-wal", "-shm", "-line"} {
			info, err := os.Stat(path + suffix)
			require.NoError(t, err)
			require.Equal(t, fs.FileMode(0o640), info.Mode(), suffix)
		}
	}
}

// TestReadOnly opens a file, and a file in a folder, that this user may only read.
func TestReadOnly(t *testing.T) {
	path, contents := newFile(t)
	filetest.AsOrdinaryUser(t, path, func() {
		require.NoError(t, os.Chmod(path, 0o400))
		_, err := sqlite.Open(t.Context(), path, nil)
		require.ErrorIs(t, err, fs.ErrPermission)
		require.ErrorContains(t, err, path)
		require.NoError(t, os.Chmod(path, 0o600))
	})
	filetest.AsOrdinaryUser(t, path, func() {
		folder := filepath.Join(filepath.Dir(path), "locked")
		path := filepath.Join(folder, "ipalloc.db")
		require.NoError(t, os.Mkdir(folder, 0o700))
		require.NoError(t, os.WriteFile(path, contents, 0o600))
		require.NoError(t, os.Chmod(folder, 0o500))
		defer func() { require.NoError(t, os.Chmod(folder, 0o700)) }()
		_, err := sqlite.Open(t.Context(), path, nil)
		require.ErrorIs(t, err, fs.ErrPermission)
		require.ErrorContains(t, err, path)
		_, err = sqlite.Open(t.Context(), filepath.Join(folder, "new.db"), nil)
		require.ErrorIs(t, err, fs.ErrPermission)
		requireOnly(t, path, contents)
	})
}

// TestBackup opens a copy that SQLite has made of an open store, as the package comment says how. It has no log.
func TestBackup(t *testing.T) {
	path, _ := newFile(t)
	open, err := sqlite.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer open.Close()
	backup := filepath.Join(t.TempDir(), "backup.db")
	require.NoError(t, execute(t, path, "VACUUM INTO ?", backup))

	s, err := sqlite.Open(t.Context(), backup, nil)
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, 600, count(t, s))
	other, err := sqlite.Open(t.Context(), backup, nil)
	require.NoError(t, err)
	defer other.Close()
	fill(t, s, 600, 601)
	require.Equal(t, 601, count(t, other))
	requireSound(t, backup)
}

// count returns how many allocations there are.
func count(t testing.TB, s store.Store) (n int) {
	t.Helper()
	for _, err := range s.List(t.Context(), store.KindAllocation, "a") {
		require.NoError(t, err)
		n++
	}
	return n
}

// TestReplaced removes and replaces the file, and the log, of an open store. The store notices, and does not touch what
// is at its path then.
func TestReplaced(t *testing.T) {
	for name, remove := range map[string][]string{
		"the file":       {""},
		"the log":        {"-wal"},
		"everything":     {"", "-wal", "-shm", "-line"},
		"file and index": {"", "-shm"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ipalloc.db")
			s, err := sqlite.Open(t.Context(), path, nil)
			require.NoError(t, err)
			head := fill(t, s, 0, 10)
			for _, suffix := range remove {
				require.NoError(t, os.Remove(path+suffix))
			}
			_, err = s.Get(t.Context(), headA)
			require.ErrorIs(t, err, sqlite.ErrReplaced)
			require.ErrorContains(t, err, path)
			_, err = storetest.CommitOne(t.Context(), s, head)
			require.ErrorIs(t, err, sqlite.ErrReplaced)
			require.NotErrorIs(t, err, store.ErrUnknown)
			if name != "everything" {
				require.NoError(t, s.Close())
				return
			}
			other, err := sqlite.Open(t.Context(), path, nil)
			require.NoError(t, err)
			defer other.Close()
			fill(t, other, 0, 20)
			_, err = s.Get(t.Context(), headA)
			require.ErrorIs(t, err, sqlite.ErrReplaced)
			require.NoError(t, s.Close())
			third, err := sqlite.Open(t.Context(), path, nil) // which finds the log that the other one writes
			require.NoError(t, err)
			defer third.Close()
			_, err = third.Get(t.Context(), allocation(19).Key)
			require.NoError(t, err)
		})
	}
}

// TestWatchOfReplacedFile ends.
func TestWatchOfReplacedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := sqlite.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	ended := make(chan error)
	go func() {
		_, err := s.Watch(t.Context(), headA, 0)
		ended <- err
	}()
	require.NoError(t, os.Remove(path))
	require.ErrorIs(t, <-ended, sqlite.ErrReplaced)
}

// TestLogWithoutFile refuses to make a new file beside the log of one that is gone, which SQLite would take for its
// own.
func TestLogWithoutFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := sqlite.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	fill(t, s, 0, 10)
	contents, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	_, err = sqlite.Open(t.Context(), path, nil)
	require.ErrorIs(t, err, sqlite.ErrCorrupt)
	require.ErrorContains(t, err, "ipalloc.db-wal")
	_, err = os.Stat(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotEmpty(t, contents)
}
