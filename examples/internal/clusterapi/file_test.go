package clusterapi_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/examples/internal/clusterapi"
)

// What cannot be a pool's file is refused before it is read.
func TestReadFileRefusesUnread(t *testing.T) {
	_, err := clusterapi.ReadFile(os.DevNull)
	require.ErrorContains(t, err, "is not a regular file")

	large := filepath.Join(t.TempDir(), "large.yaml")
	require.NoError(t, os.WriteFile(large, make([]byte, 1<<20+1), 0o600))
	_, err = clusterapi.ReadFile(large)
	require.ErrorContains(t, err, "has 1048577 bytes")
}
