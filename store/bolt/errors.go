package bolt

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"syscall"

	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/ipalloc/ipalloc/store"
)

// Errors of [Open] and of the methods of [Store], for use with [errors.Is]. Each is wrapped with the path of the file.
// When Open returns one, or [store.ErrNewerFormat], it has not changed the file.
var (
	// ErrLocked is returned when another Store has the file open, in this process or another.
	ErrLocked = errors.New("file is locked by another process")
	// ErrForeign is returned when the path is not that of a store: it is another program's bbolt file, no bbolt file,
	// or no regular file.
	ErrForeign = errors.New("not an ipalloc store")
	// ErrCorrupt is returned when the file looks like a store, but is damaged: truncated, empty, or with invalid
	// contents. The methods of [Store] also return it when they read damage, or when another program truncates or
	// writes the file while it is open. They check each page before they use it: every key and value must lie within
	// its page. Records have no checksums, so damage that leaves valid contents is not noticed.
	ErrCorrupt = errors.New("store file is damaged")
	// ErrReplaced is returned by the methods of [Store] when the open file was removed, renamed or replaced: another
	// process may have opened the file that is at the path now.
	ErrReplaced = errors.New("store file was removed or replaced while it was open")
)

// errPanic is in each error of guard that comes from a panic.
var errPanic = fmt.Errorf("%w", ErrCorrupt)

// guard runs do, and turns into an error what bbolt does with a damaged file: it panics, or reads mapped
// memory that the file does not have.
func guard(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%w: %v", errPanic, reason)
		}
	}()
	return do()
}

// guard runs do. After a panic bbolt may hold its locks for ever, so the file is not used again.
func (s *Store) guard(do func() error) error {
	err := guard(do)
	if errors.Is(err, errPanic) {
		return s.file.breaks(err)
	}
	return system(err)
}

// growthErrors are what the system may say when a file cannot grow.
var growthErrors = []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EIO}

// system returns err with the system's error in it, of which bbolt passes on the text alone when a file cannot grow.
func system(err error) error {
	var known syscall.Errno
	if err == nil || errors.As(err, &known) {
		return err
	}
	for _, e := range growthErrors {
		if cut, found := strings.CutSuffix(err.Error(), e.Error()); found {
			return fmt.Errorf("%s%w", cut, e)
		}
	}
	return err
}

// wrap adds the path to err, and translates what bbolt says of a closed file.
func (s *Store) wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return fmt.Errorf("%s: %w", s.path, store.ErrClosed)
	default:
		return fmt.Errorf("%s: %w", s.path, err)
	}
}
