package postgres_test

import (
	"fmt"
	"syscall"
)

// mountTemporary mounts an empty file system of so many bytes.
func mountTemporary(dir string, size int) (unmount func(), err error) {
	err = syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0777", size))
	return func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }, err
}
