//go:build !unix

package durable

import "syscall"

// serverAttributes leaves the server to the user that starts it.
func serverAttributes(string, string) (*syscall.SysProcAttr, error) { return nil, nil }
