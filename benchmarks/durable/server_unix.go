//go:build unix

package durable

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// serverAttributes gives the folder to the user that a server is to run as: the one named if this is root, as which
// servers of databases refuse to run.
func serverAttributes(dir, name string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("a server that is started by root needs a user: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	attributes := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return attributes, os.Chown(dir, int(uid), int(gid))
}
