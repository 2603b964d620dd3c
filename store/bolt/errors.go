package bolt

import (
	"errors"
	"fmt"
	"runtime/debug"

	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/ipalloc/ipalloc/store"
)

// Errors of [Open], for use with [errors.Is]. Each comes wrapped with the file's path, and none of them
// changes the file.
var (
	// ErrLocked says that another Store has the file open, in this process or another.
	ErrLocked = errors.New("file is locked by another process")
	// ErrForeign says that the file is not a store: another program's bbolt file, or no bbolt file, or
	// not a file.
	ErrForeign = errors.New("not an ipalloc store")
	// ErrCorrupt says that the file looks like a store, but is damaged: cut off, empty, or with contents
	// that make no sense. The methods of [Store] return it too, where they come across damage. There are
	// no checksums of what is inside, so damage that makes sense is not noticed.
	ErrCorrupt = errors.New("store file is damaged")
	// ErrVersion says that the file was written by another version of this package, in a format that this
	// version does not know.
	ErrVersion = errors.New("store file has an unknown format version")
)

// guard runs do, and turns into an error what bbolt does with a damaged file: it panics, or reads mapped
// memory that the file does not have.
func guard(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, reason)
		}
	}()
	return do()
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
