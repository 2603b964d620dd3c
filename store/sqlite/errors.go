package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/ipalloc/ipalloc/store"
)

// Errors of [Open] and of the methods of [Store], for use with [errors.Is]. Each is wrapped with the path of the file.
// When Open returns one, or [store.ErrNewerFormat], it has not changed the file.
var (
	// ErrForeign is returned when the path is not that of a store: it is another program's database, no SQLite
	// database, or no regular file.
	ErrForeign = errors.New("not an ipalloc store")
	// ErrCorrupt is returned when the file looks like a store, but is damaged: truncated, empty, or with invalid
	// contents; or when it was removed and the log beside it was not. The methods of [Store] also return it when they
	// read damage. A record that somebody has changed so that it cannot be read gives [store.ErrDamaged] instead.
	ErrCorrupt = errors.New("store file is damaged")
	// ErrReplaced is returned by the methods of [Store] when the open file, or the log beside it, was removed, renamed or
	// replaced: another process may have opened the file that is at the path now.
	ErrReplaced = errors.New("store file was removed or replaced while it was open")
)

// code returns the result code of SQLite in err, and the same with what is more exact about it; 0 if there is none.
func code(err error) (primary, extended int) {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0, 0
	}
	return e.Code() & 0xff, e.Code()
}

// isBusy reports whether a statement has failed because another connection has a lock.
func isBusy(err error) bool {
	primary, _ := code(err)
	return primary == lib.SQLITE_BUSY
}

// translate returns err with what it means to callers.
func translate(err error) error {
	switch primary, extended := code(err); {
	case primary == lib.SQLITE_FULL, extended == lib.SQLITE_IOERR_SHMSIZE:
		return fmt.Errorf("%w: %w", syscall.ENOSPC, err)
	case primary == lib.SQLITE_NOTADB, primary == lib.SQLITE_CORRUPT:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case primary == lib.SQLITE_READONLY, primary == lib.SQLITE_PERM:
		return fmt.Errorf("%w: %w", fs.ErrPermission, err)
	case primary == lib.SQLITE_TOOBIG:
		return &store.TooLargeError{What: "record in bytes", Limit: maxRecordBytes}
	default:
		return err
	}
}

// wrap adds the path to err.
func (s *Store) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", s.path, err)
}
