package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Options are the options of [Open]. The zero Options are the defaults. Options may be copied; Open does not
// keep them.
type Options struct {
	// LockWait is how long to wait for a file that another process has open. The default, 0, means not at all; less
	// than 0 means until the context ends. On Linux, those that wait get the file in the order in which they came. If
	// Open gives up, a goroutine and an open file stay until it would have been its turn, and then end. Elsewhere Open
	// tries again every few milliseconds, and the one that has waited longest has no preference.
	LockWait time.Duration

	// Mode is the exact mode of a file that Open creates, whatever the umask. The default, 0, means 0600. Open does not
	// change the mode of an existing file.
	Mode fs.FileMode

	// MustExist makes Open fail with [fs.ErrNotExist] instead of creating the file. It is for programs to which a
	// missing file means that a volume is not mounted.
	MustExist bool
}

const (
	defaultMode = 0o600
	lockRetry   = 5 * time.Millisecond
)

// Open opens the store in the file at path for reading and writing, and locks it. It creates the file if there
// is none (see [Options.MustExist]), but not its folder. A nil opts is the same as the zero Options.
//
// The errors wrap [ErrLocked], [ErrForeign], [ErrCorrupt], [store.ErrNewerFormat], the context's error, or that of the
// operating system ([fs.ErrNotExist], [fs.ErrPermission]), and name path. When Open fails, it has not changed an
// existing file.
//
// Open checks only the outer structure of the file. A later call that reads or writes a damaged page returns
// [ErrCorrupt].
//
// Cost: a few reads, whatever is stored and however much is free. Creating the file takes a few flushes more.
func Open(ctx context.Context, path string, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	if opts.LockWait > 0 {
		waiting, cancel := context.WithTimeout(ctx, opts.LockWait)
		defer cancel()
		return open(ctx, waiting, path, *opts)
	}
	return open(ctx, ctx, path, *opts)
}

// open tries until it has the lock, waiting has ended, or something else is wrong.
func open(ctx, waiting context.Context, path string, opts Options) (*Store, error) {
	var locked error
	var held *os.File
	for {
		if err := ctx.Err(); err != nil {
			if held != nil {
				_ = held.Close()
			}
			if locked != nil {
				err = fmt.Errorf("%w: %w", locked, err)
			}
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		s, err := openOnce(path, held, opts)
		locked, held = err, nil
		switch {
		case err == nil:
			return s, nil
		case opts.LockWait == 0 || !errors.Is(err, ErrLocked):
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		if held = awaitLock(waiting, path); waiting.Err() != nil && held == nil {
			if ctxErr := ctx.Err(); ctxErr != nil {
				err = fmt.Errorf("%w: %w", err, ctxErr)
			}
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
	}
}

// awaitLock waits until the file at path is locked, which it then returns, or until it is worth while to try again, or
// ctx ends.
func awaitLock(ctx context.Context, path string) *os.File {
	locked := make(chan *os.File, 1)
	go func() {
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err == nil {
			if lockInLine(file) && ctx.Err() == nil {
				locked <- file
				return
			}
			_ = file.Close()
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
		}
		locked <- nil
	}()
	select {
	case file := <-locked:
		return file
	case <-ctx.Done():
		go func() {
			if file := <-locked; file != nil {
				_ = file.Close()
			}
		}()
		return nil
	}
}

// openOnce opens the file at path. If held is not nil, it is a locked file that was there a moment ago, which openOnce
// uses or closes.
func openOnce(path string, held *os.File, opts Options) (*Store, error) {
	used := false
	if held != nil {
		defer func() {
			if !used {
				_ = held.Close()
			}
		}()
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && !opts.MustExist {
		if err = create(path, opts.Mode); err != nil {
			return nil, err
		}
		info, err = os.Stat(path)
	}
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: it is no regular file but %v", ErrForeign, info.Mode())
	case info.Size() == 0:
		return nil, fmt.Errorf("%w: it is empty; delete it to begin a new store", ErrCorrupt)
	}
	if held != nil {
		now, err := held.Stat()
		if err != nil {
			return nil, err
		}
		if !os.SameFile(now, info) { // it was replaced while this one was waited for
			_ = held.Close()
			held = nil
		}
	}
	used = held != nil
	db, handle, err := openExisting(path, held, opts.LockWait != 0)
	if err != nil {
		return nil, err
	}
	var opened *file
	err = guard(func() (err error) {
		if err = verify(db, handle); err == nil {
			opened, err = newFile(path, handle, db)
		}
		return err
	})
	if err != nil {
		release(db, handle, err)
		return nil, err
	}
	// From here on, each commit keeps the list of free pages in the file, so that opening need not search
	// the file for them. It is off until the file is known to be ours, because bbolt would otherwise
	// write to a file without such a list as soon as it opens it.
	db.NoFreelistSync = false
	return &Store{
		db: db, file: opened, path: path, waiting: newWaiting(),
		pageSize: uint64(db.Info().PageSize), shrinking: newShrinking(),
	}, nil
}

// release closes a file that was opened in vain.
func release(db *bbolt.DB, handle *os.File, err error) {
	if !errors.Is(err, errPanic) {
		_ = db.Close()
		return
	}
	unlock(handle) // bbolt may not be able to
	_ = handle.Close()
}

// openExisting opens, locks and inspects the file at path, which it does not change, without waiting for the lock. It
// uses held, a locked file, if that is not nil. If polite, it does not overtake those that wait for the file.
func openExisting(path string, held *os.File, polite bool) (db *bbolt.DB, handle *os.File, err error) {
	inspected := false
	err = guard(func() (err error) {
		db, err = bbolt.Open(path, defaultMode, &bbolt.Options{
			Timeout:        time.Nanosecond, // one attempt
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
			NoStatistics:   true,
			OpenFile: func(name string, flag int, mode fs.FileMode) (_ *os.File, err error) {
				if handle = held; held == nil {
					if handle, err = os.OpenFile(name, flag&^os.O_CREATE, mode); err != nil {
						return nil, err
					}
				}
				if inspected, err = lockAndInspect(handle, polite && held == nil); err != nil {
					return nil, err
				}
				return handle, nil
			},
		})
		if err == nil && !inspected {
			err = inspect(handle)
		}
		return err
	})
	switch {
	case err == nil:
		return db, handle, nil
	case db != nil:
		release(db, handle, err)
	case errors.Is(err, errPanic): // bbolt left the file open
		unlock(handle)
		_ = handle.Close()
	}
	return nil, nil, translateOpen(err)
}

// lockAndInspect inspects a file where it can be locked before bbolt does that. If it fails, it closes the file.
func lockAndInspect(handle *os.File, polite bool) (inspected bool, err error) {
	if polite {
		err = lockNow(handle)
	}
	if err == nil {
		inspected, err = lockEarly(handle)
	}
	if inspected && err == nil {
		err = inspect(handle)
	}
	if err != nil {
		_ = handle.Close()
	}
	return inspected, err
}

func translateOpen(err error) error {
	var system *fs.PathError
	switch {
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrForeign), errors.Is(err, ErrLocked), errors.As(err, &system):
		return err
	case errors.Is(err, bolterrors.ErrTimeout):
		return ErrLocked
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %w", ErrForeign, err)
	default:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
}

// create makes an empty store at path, unless there is a file by then. Whoever looks at path sees no file or a
// whole one.
func create(path string, mode fs.FileMode) error {
	if mode == 0 {
		mode = defaultMode
	}
	folder := filepath.Dir(path)
	draft, err := os.CreateTemp(folder, filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(draft.Name())
	if err := draft.Close(); err != nil {
		return err
	}
	if err := initialise(draft.Name()); err != nil {
		return system(err)
	}
	if err := os.Chmod(draft.Name(), mode); err != nil {
		return err
	}
	if err := os.Link(draft.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(folder)
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
