package filetest

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// AsOrdinaryUser calls f with the rights to files of a user who is not root: of the owner of the file at path. If the
// tests run as root, the file is given to another user, as whom this thread then opens files.
func AsOrdinaryUser(t *testing.T, path string, f func()) {
	if os.Geteuid() != 0 {
		f()
		return
	}
	const nobody = 65534
	require.NoError(t, os.Chown(path, nobody, nobody))
	folder := filepath.Dir(path)
	require.NoError(t, os.Chmod(folder, 0o777)) //nolint:gosec // the folder of this test alone
	require.NoError(t, os.Chmod(filepath.Dir(folder), 0o755))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	require.NoError(t, syscall.Setfsuid(nobody))
	defer func() { require.NoError(t, syscall.Setfsuid(0)) }()
	f()
}
