//go:build !linux

package filetest

import (
	"os"
	"runtime"
	"testing"
)

// AsOrdinaryUser calls f, unless the tests run with the right to write to any file.
func AsOrdinaryUser(t *testing.T, _ string, f func()) {
	if os.Geteuid() == 0 || runtime.GOOS == "windows" {
		t.Skip("this user may write to any file")
	}
	f()
}
