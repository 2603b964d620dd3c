package filetest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// golden returns a file as this format is written.
func (d Driver) golden(t *testing.T, format int, write bool) []byte {
	t.Helper()
	path := filepath.Join("testdata", fmt.Sprintf("store-%d.db.gz", format))
	if write {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err := w.Write(d.present(t))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, packed.Bytes(), 0o600))
	}
	packed, err := os.Open(path)
	require.NoError(t, err)
	defer packed.Close()
	r, err := gzip.NewReader(packed)
	require.NoError(t, err)
	file, err := io.ReadAll(r)
	require.NoError(t, err)
	return file
}

// present returns a file of today, which has the pools that package pool has exported into its golden file.
func (d Driver) present(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "pool", "testdata", "exports-1.json"))
	require.NoError(t, err)
	var pools []pool.Snapshot
	require.NoError(t, json.Unmarshal(text, &pools))
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := d.Open(t.Context(), path, false)
	require.NoError(t, err)
	external, err := cidr.ParseRanges("10.0.0.240-10.0.0.254", "2001:db8::ff")
	require.NoError(t, err)
	require.NoError(t, pool.SetExternal(t.Context(), s, "lan", external, false, nil))
	for _, p := range pools {
		_, err := pool.Import(t.Context(), s, p.Name, p, nil)
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	return file
}

// Formats opens the files testdata/store-N.db.gz, one of each format up to the present one. Their pools verify clean,
// and are used. The file of the present format is written first if update is set; those of older ones stay as they are.
func (d Driver) Formats(t *testing.T, present int, update bool) {
	for format := 1; format <= present; format++ {
		path := filepath.Join(t.TempDir(), "ipalloc.db")
		require.NoError(t, os.WriteFile(path, d.golden(t, format, update && format == present), 0o600))
		for range 2 { // the second time reads what the first has written
			s, err := d.Open(t.Context(), path, true)
			require.NoError(t, err)
			var names []string
			for info, err := range pool.List(t.Context(), s) {
				require.NoError(t, err)
				names = append(names, info.Name)
			}
			require.Len(t, names, 10)
			for _, name := range names {
				p, err := pool.Open(t.Context(), s, name, nil)
				require.NoError(t, err)
				verifyAndUse(t, p)
			}
			require.NoError(t, s.Close())
		}
		d.RequireSound(t, path)
	}
}

// verifyAndUse allocates and releases, and verifies the pool before and after.
func verifyAndUse(t *testing.T, p *pool.Pool) {
	t.Helper()
	verify := func() {
		report, err := p.Verify(t.Context())
		require.NoError(t, err)
		require.True(t, report.OK(), "%v", report)
	}
	verify()
	info, err := p.Info(t.Context())
	require.NoError(t, err)
	if len(info.Spec.Ranges) == 0 {
		return
	}
	a, err := p.Allocate(t.Context(), pool.Claim{Owner: "fresh", Scope: info.Spec.Scope})
	require.NoError(t, err)
	released, err := p.Release(t.Context(), pool.Held{Owner: "fresh"})
	require.NoError(t, err)
	require.Equal(t, a.Prefixes, released.Prefixes)
	verify()
}
