//go:build !linux

package postgres_test

import (
	"errors"
	"syscall"
)

// serverAttributes leaves the server to the user that runs the tests, which must not be root.
func serverAttributes(string) (*syscall.SysProcAttr, error) { return nil, nil }

// mountTemporary mounts nothing.
func mountTemporary(string, int) (unmount func(), err error) {
	return nil, errors.New("not known how to on this system")
}
