package manifest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store/kube/kubetest/internal/manifest"
)

// TestFiles: the files in the folder manifests are those that go generate makes.
func TestFiles(t *testing.T) {
	files, err := manifest.Files()
	require.NoError(t, err)
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("..", "..", "..", "manifests", name))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "run go generate in store/kube")
	}
	found, err := os.ReadDir(filepath.Join("..", "..", "..", "manifests"))
	require.NoError(t, err)
	require.Len(t, found, len(files))
}
