//go:build !linux

package bolt

import "os"

// lockNow locks an open file, unless somebody has it.
func lockNow(file *os.File) error {
	_, err := lockEarly(file)
	return err
}

// lockInLine returns false: this system has no line.
func lockInLine(*os.File) bool { return false }
