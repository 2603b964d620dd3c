package sqlite

import (
	"context"
	"database/sql"
	_ "embed" // schema.sql
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	lib "modernc.org/sqlite/lib"

	"github.com/ipalloc/ipalloc/store"
)

// Options are the options of [Open]. The zero Options are the defaults. Options may be copied; Open does not keep them.
type Options struct {
	// Mode is the exact mode of the files that Open creates, whatever the umask. The default, 0, means 0600. Open does
	// not change the mode of an existing file.
	Mode fs.FileMode

	// MustExist makes Open fail with [fs.ErrNotExist] instead of creating the file. It is for programs to which a
	// missing file means that a volume is not mounted.
	MustExist bool
}

const defaultMode = 0o600

// How the file says what it is: by the two numbers that SQLite keeps for that in its first page.
const (
	applicationID = 0x69706131 // "ipa1"
	formatVersion = 1
)

// logSuffix and lineSuffix are what the names of the files end with that stand beside the file: the log, which SQLite
// keeps, and the line of those who wait for their turn.
const (
	logSuffix  = "-wal"
	lineSuffix = "-line"
)

//go:embed schema.sql
var schema string

// Open opens the store in the file at path for reading and writing. It creates the file if there is none (see
// [Options.MustExist]), but not its folder. A nil opts is the same as the zero Options.
//
// The errors wrap [ErrForeign], [ErrCorrupt], [store.ErrNewerFormat], the context's error, or that of the operating
// system ([fs.ErrNotExist], [fs.ErrPermission]), and name path. When Open fails, it has not changed an existing file.
//
// If the last process that had the file open was killed, Open first takes over what is in the log beside the file, of
// which nothing is lost.
//
// Cost: O(bytes in the log) after a kill, otherwise O(1). Creating the file takes a few flushes more.
func Open(ctx context.Context, path string, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	s, err := open(ctx, path, *opts)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, translate(err))
	}
	return s, nil
}

func open(ctx context.Context, path string, opts Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(absolute)
	if errors.Is(err, fs.ErrNotExist) && !opts.MustExist {
		if err = create(absolute, opts.Mode); err != nil {
			return nil, err
		}
		info, err = os.Stat(absolute)
	}
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: it is no regular file but %v", ErrForeign, info.Mode())
	case info.Size() == 0:
		return nil, fmt.Errorf("%w: it is empty; delete it to begin a new store", ErrCorrupt)
	}
	if err := inspect(absolute); err != nil {
		return nil, err
	}
	return openStore(ctx, path, absolute, info)
}

// openStore opens a file that is a store.
func openStore(ctx context.Context, path, absolute string, info fs.FileInfo) (*Store, error) {
	all, err := newConns(ctx, absolute)
	if err != nil {
		return nil, explain(err, absolute)
	}
	s := &Store{path: path, conns: all, waiting: newWaiting()}
	if err = s.start(ctx, absolute, info); err != nil {
		return nil, explain(errors.Join(err, all.close()), absolute)
	}
	return s, nil
}

// explain adds why SQLite could not open or make the log, of which it says nothing.
func explain(err error, path string) error {
	if primary, _ := code(err); primary != lib.SQLITE_CANTOPEN {
		return err
	}
	log, cause := os.OpenFile(path+logSuffix, os.O_RDWR, 0)
	if cause == nil {
		return errors.Join(err, log.Close())
	}
	if errors.Is(cause, fs.ErrNotExist) {
		var probe *os.File
		if probe, cause = os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*"); cause == nil {
			return errors.Join(err, probe.Close(), os.Remove(probe.Name()))
		}
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// start reads for the first time, which opens the log as well, and joins the line.
func (s *Store) start(ctx context.Context, absolute string, info fs.FileInfo) error {
	c, err := s.conns.take(ctx)
	if err != nil {
		return err
	}
	defer s.conns.put(c)
	if _, err := retry(ctx, func() (struct{}, error) { return struct{}{}, verify(c) }); err != nil {
		return err
	}
	if _, err := retry(ctx, func() (struct{}, error) { return struct{}{}, startLog(c) }); err != nil {
		return err
	}
	if s.files, err = newFiles(absolute, info); err != nil {
		return err
	}
	s.line, err = openLine(absolute+lineSuffix, info)
	return err
}

// verify returns why the file is not a store that can be written to.
func verify(c *conn) error {
	if err := verifyFormat(func(text string) (n int, err error) { return n, c.one(text, nil, &n) }); err != nil {
		return err
	}
	return c.Raw(func(driver any) error {
		readOnly, err := driver.(interface{ IsReadOnly(string) (bool, error) }).IsReadOnly("main")
		if err == nil && readOnly {
			err = fmt.Errorf("%w: it can be read, but not written", fs.ErrPermission)
		}
		return err
	})
}

// startLog makes SQLite keep a log beside the file, unless it does so already: what VACUUM INTO has written has none.
func startLog(c *conn) error {
	var mode string
	if err := c.one("PRAGMA journal_mode", nil, &mode); err != nil || mode == "wal" {
		return err
	}
	if err := c.one("PRAGMA journal_mode = WAL", nil, &mode); err != nil {
		return err
	}
	return c.one("SELECT revision FROM latest", nil, new(int64)) // the log is made when it is first used
}

// inspect looks at the file alone, without a lock, and without the log and what SQLite does to it: it may be another
// program's.
func inspect(path string) error {
	db, err := sql.Open("sqlite", dsn(path, "ro")+"&immutable=1")
	if err != nil {
		return err
	}
	defer db.Close()
	return verifyFormat(func(text string) (n int, err error) { return n, db.QueryRow(text).Scan(&n) })
}

// verifyFormat returns why the file is not a store of a version that this package knows, or nil.
func verifyFormat(number func(text string) (int, error)) error {
	id, err := number("PRAGMA application_id")
	if primary, _ := code(err); primary == lib.SQLITE_NOTADB {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if err != nil {
		return err
	}
	if id != applicationID {
		return fmt.Errorf("%w: it is another program's database: its application_id is %#x, want %#x", ErrForeign, id,
			applicationID)
	}
	version, err := number("PRAGMA user_version")
	switch {
	case err != nil:
		return err
	case version < 1:
		return fmt.Errorf("%w: its format version is %d, want a number from 1", ErrCorrupt, version)
	case version > formatVersion:
		return fmt.Errorf("%w: the file has version %d, this program knows up to %d", store.ErrNewerFormat, version,
			formatVersion)
	}
	return nil
}

// create makes an empty store at path, unless there is a file by then. Whoever looks at path sees no file or a whole
// one.
func create(path string, mode fs.FileMode) error {
	if mode == 0 {
		mode = defaultMode
	}
	if err := refuseLog(path); err != nil {
		return err
	}
	folder := filepath.Dir(path)
	draft, err := os.CreateTemp(folder, filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer removeAll(draft.Name())
	if err := draft.Close(); err != nil {
		return err
	}
	if err := initialise(draft.Name()); err != nil {
		return err
	}
	if err := os.Chmod(draft.Name(), mode); err != nil {
		return err
	}
	if err := os.Link(draft.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(folder)
}

// refuseLog returns an error if there is a log without its file: SQLite would take it for that of the new file.
func refuseLog(path string) error {
	info, err := os.Stat(path + logSuffix)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Size() == 0:
		return nil
	}
	return fmt.Errorf("%w: it is gone, but %s is not; restore the file, or delete that one to begin a new store",
		ErrCorrupt, filepath.Base(path)+logSuffix)
}

// removeAll removes a draft, and what a failure may have left beside it.
func removeAll(path string) {
	for _, suffix := range []string{"", logSuffix, "-shm", "-journal"} {
		_ = os.Remove(path + suffix)
	}
}

// initialise makes the empty file at path a store without records.
func initialise(path string) error {
	db, err := sql.Open("sqlite", dsn(path, "rw", "auto_vacuum(INCREMENTAL)", "synchronous(FULL)"))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	_, err = db.Exec("BEGIN;" + schema +
		"PRAGMA application_id = " + strconv.Itoa(applicationID) +
		"; PRAGMA user_version = " + strconv.Itoa(formatVersion) + "; COMMIT; PRAGMA journal_mode = WAL")
	return errors.Join(err, db.Close())
}

// syncFolder makes the folder's entries durable.
func syncFolder(folder string) error {
	if runtime.GOOS == "windows" {
		return nil // which cannot, and does not need to
	}
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
