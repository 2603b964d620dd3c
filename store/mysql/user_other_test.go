//go:build !linux

package mysql_test

import "syscall"

// serverAttributes leaves the server to the user that runs the tests, which must not be root.
func serverAttributes(string) (*syscall.SysProcAttr, error) { return nil, nil }
