package bolt

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/store"
)

// file is the file of an open store, as the system and other programs see it: it may be removed, replaced, cut off or
// written to while it is open.
type file struct {
	path   string // absolute, so that it stays the same when the process changes its folder
	handle *os.File
	info   fs.FileInfo

	size   atomic.Int64 // of the file, after the latest commit; only truncate makes it less
	latest atomic.Int64 // the latest transaction

	mu     sync.Mutex
	closed bool
	broken error // why the file must not be used any more
}

// newFile returns the state of the file that db has open as handle.
func newFile(path string, handle *os.File, db *bbolt.DB) (*file, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	info, err := handle.Stat()
	if err != nil {
		return nil, err
	}
	f := &file{path: absolute, handle: handle, info: info}
	f.size.Store(info.Size())
	err = db.View(func(tx *bbolt.Tx) error {
		f.latest.Store(int64(tx.ID()))
		return nil
	})
	if err != nil {
		return nil, err
	}
	_, err = f.check()
	return f, err
}

// check returns the size of the file, or why the store cannot be used: it is closed or broken, the path does not lead
// to the file any more, or the file was cut off. Cost: one stat.
func (f *file) check() (size int64, err error) {
	if err := f.state(); err != nil {
		return 0, err
	}
	least := f.size.Load()
	info, err := os.Stat(f.path)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: %w", ErrReplaced, err)
	case !os.SameFile(info, f.info):
		return 0, fmt.Errorf("%w: another file is there", ErrReplaced)
	case info.Size() < least && f.size.Load() < least: // it was truncated meanwhile
		return f.check()
	case info.Size() < least:
		return 0, f.breaks(fmt.Errorf("%w: cut off while it was open: it has %d bytes, had %d",
			ErrCorrupt, info.Size(), least))
	}
	return info.Size(), nil
}

// foreign returns the error of a file that another program has written to.
func foreign(id int, want int64) error {
	return fmt.Errorf("%w: written to by another program while it was open: it is at transaction %d, want %d",
		ErrCorrupt, id, want)
}

// isCutOff reports whether the open file has become shorter, or cannot be looked at.
func (f *file) isCutOff() bool {
	info, err := f.handle.Stat()
	return err != nil || info.Size() < f.size.Load()
}

// truncate makes the file smaller, and so gives what is behind its end back to the system.
func (f *file) truncate(size int64) error {
	before := f.size.Swap(size) // at first, so that nobody takes the file for cut off
	err := f.handle.Truncate(size)
	if err != nil {
		f.size.Store(before)
	}
	return err
}

// state returns why the file cannot be used, as far as that is known.
func (f *file) state() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return store.ErrClosed
	}
	return f.broken
}

// breaks notes that the file must not be used any more, and returns why.
func (f *file) breaks(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken == nil {
		f.broken = fmt.Errorf("%w; close the store, and repair or restore the file", err)
	}
	return f.broken
}

// close notes that the store is closed, and reports whether it was open, and why the file is broken if it is.
func (f *file) close() (wasOpen bool, broken error) {
	_, _ = f.check() // notes that the file is cut off, if nothing has used it since
	f.mu.Lock()
	defer f.mu.Unlock()
	wasOpen, f.closed = !f.closed, true
	return wasOpen, f.broken
}

// release unlocks and closes the file without bbolt.
func (f *file) release() {
	unlock(f.handle)
	_ = f.handle.Close()
}
