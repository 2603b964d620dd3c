//go:build !linux

package servertest

import "syscall"

// attributes leaves the server to the user that runs the tests, which must not be root.
func (Program) attributes(string) (*syscall.SysProcAttr, error) { return nil, nil }
