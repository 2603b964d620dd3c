//go:build !windows && !plan9 && !solaris && !aix && !android

package bolt

import (
	"errors"
	"os"
	"syscall"
)

// lockEarly takes the lock that bbolt takes on the file, without waiting, so that the file can be inspected before
// bbolt reads it. bbolt may lock the same open file again.
func lockEarly(file *os.File) (locked bool, err error) {
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrLocked
	}
	return err == nil, err
}

// unlock releases the lock on the file, which bbolt cannot do after a panic. Closing the file is not enough here: the
// lock lives as long as the file is mapped.
func unlock(file *os.File) {
	_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
}
