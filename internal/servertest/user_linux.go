package servertest

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// attributes gives the folder to the user that the server is to run as: one that is not root, as which it refuses to
// run. The server ends with this process.
func (p Program) attributes(dir string) (*syscall.SysProcAttr, error) {
	attributes := &syscall.SysProcAttr{Pdeathsig: p.Crash}
	if os.Getuid() != 0 {
		return attributes, nil
	}
	u, err := user.Lookup(p.Name)
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
