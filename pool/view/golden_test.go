package view_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/view"
	"github.com/ipalloc/ipalloc/store"
)

var update = flag.Bool("update", false, "write the golden files")

// Small maps, as they have been looked at. After a change that is meant, run with -update and look at them again.
func TestGolden(t *testing.T) {
	s := store.NewMemory()
	for name, p := range map[string]*pool.Pool{"busy24": busy24(t, s, "pods"), "sparse64": sparse64(t, s, "v6")} {
		snapshot := must(p.Snapshot(t.Context()))
		for _, variant := range []struct {
			file    string
			options *view.Options
		}{
			{name + ".txt", &view.Options{Width: 40}},
			{name + "-team.txt", &view.Options{Width: 40, Label: "team"}},
			{name + "-color.txt", &view.Options{Width: 40, Label: "team", Color: true}},
		} {
			var b bytes.Buffer
			require.NoError(t, view.Text(&b, snapshot, variant.options))
			golden(t, variant.file, b.Bytes())
		}
		document, _ := svgOf(t, snapshot, &view.Options{MaxCells: 256, Label: "team"})
		golden(t, name+".svg", []byte(document))
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), name)
}
