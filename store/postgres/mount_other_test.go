//go:build !linux

package postgres_test

import "errors"

// mountTemporary mounts nothing.
func mountTemporary(string, int) (unmount func(), err error) {
	return nil, errors.New("not known how to on this system")
}
