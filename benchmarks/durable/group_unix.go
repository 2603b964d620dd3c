//go:build unix

package durable

import "syscall"

// ownGroup keeps the interrupt that a terminal sends from a server: it ends with the program that started it, in order.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
