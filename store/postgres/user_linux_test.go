package postgres_test

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// serverAttributes gives the folder to the user that the server is to run as: one that is not root, as which it refuses
// to run. The server ends with this process.
func serverAttributes(dir string) (*syscall.SysProcAttr, error) {
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Getuid() != 0 {
		return attributes, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, fmt.Errorf("a server that root starts needs a user to run as: %w", err)
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attributes, os.Chown(dir, int(uid), int(gid))
}

// mountTemporary mounts an empty file system of so many bytes.
func mountTemporary(dir string, size int) (unmount func(), err error) {
	err = syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0777", size))
	return func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }, err
}
