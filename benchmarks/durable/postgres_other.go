//go:build !unix

package durable

import "syscall"

// postgresAttributes leaves the server to the user that starts it.
func postgresAttributes(string) (*syscall.SysProcAttr, error) { return nil, nil }
