package bolt

import (
	"errors"
	"os"
	"syscall"
)

// Processes that wait for a file stand in line at one byte far behind its end: whoever has the lock of that byte is the
// next to have the file. Without it, a process that opens the file again and again would overtake all that wait, since
// those have to wake up first. The lock of a byte (F_OFD_SETLK) and that of the file (flock) know nothing of each other
// on a local disk. Both end with the process.
const (
	lineByte = 1 << 62
	lock     = 37 // F_OFD_SETLK: for this open file, not for the process
	lockWait = 38 // F_OFD_SETLKW: the same, and it waits
)

func line(file *os.File, command int, kind int16) error {
	at := syscall.Flock_t{Type: kind, Start: lineByte, Len: 1}
	return again(func() error { return syscall.FcntlFlock(file.Fd(), command, &at) })
}

// again calls do until no signal interrupts it.
func again(do func() error) error {
	for {
		if err := do(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// lockNow locks an open file, unless somebody has it or waits for it.
func lockNow(file *os.File) error {
	switch err := line(file, lock, syscall.F_WRLCK); {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EACCES):
		return ErrLocked
	case err != nil:
		return nil //nolint:nilerr // the file system has no such locks, so nobody stands in line
	}
	_, err := lockEarly(file)
	_ = line(file, lock, syscall.F_UNLCK)
	return err
}

// lockInLine locks an open file after all others that wait for it. It returns false if it cannot.
func lockInLine(file *os.File) bool {
	if err := line(file, lockWait, syscall.F_WRLCK); err != nil {
		return false
	}
	err := again(func() error { return syscall.Flock(int(file.Fd()), syscall.LOCK_EX) })
	_ = line(file, lock, syscall.F_UNLCK)
	return err == nil
}
