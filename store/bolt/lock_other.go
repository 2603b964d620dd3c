//go:build windows || plan9 || solaris || aix || android

package bolt

import "os"

// lockEarly does nothing: here one open file cannot be locked twice, and bbolt is about to lock it.
func lockEarly(*os.File) (locked bool, err error) { return false, nil }

// unlock does nothing: bbolt's lock ends when the file is closed.
func unlock(*os.File) {}
