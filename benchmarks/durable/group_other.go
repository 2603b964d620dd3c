//go:build !unix

package durable

import "syscall"

// ownGroup leaves the server as it is.
func ownGroup() *syscall.SysProcAttr { return nil }
