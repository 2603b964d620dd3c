package hostlocal_test

import (
	"encoding/json"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/hostlocal"
	"github.com/ipalloc/ipalloc/adopt/internal/adopttest"
	"github.com/ipalloc/ipalloc/pool"
)

// folder is a folder of files with these texts.
func folder(texts map[string]string) fstest.MapFS {
	files := fstest.MapFS{}
	for name, text := range texts {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return files
}

// The files that host-local of containernetworking/plugins 1.9.1 has written, by name: names with colons cannot be
// files of a module.
func TestFiles(t *testing.T) {
	text, err := os.ReadFile("testdata/dual.json")
	require.NoError(t, err)
	var texts map[string]string
	require.NoError(t, json.Unmarshal(text, &texts))
	require.Equal(t, []string{
		"10.40.0.2/32,2001:db8:40::2/128 c1/eth0 (file 10.40.0.2)",
		"10.40.0.5/32,2001:db8:40::5/128 c1/net1 (file 10.40.0.5)",
		"10.40.0.4/32,2001:db8:40::4/128 c3/eth0 (file 10.40.0.4)",
	}, adopttest.Texts(t, hostlocal.Read(folder(texts))))
}

// An empty file is what a crash leaves; old versions wrote no interface; a folder is no address.
func TestOtherFiles(t *testing.T) {
	files := folder(map[string]string{"10.0.0.1": "", "10.0.0.2": " a ", "10.0.0.3/x": "b", "lock": "c"})
	require.Equal(t, []string{"10.0.0.2/32 a/eth0 (file 10.0.0.2)"}, adopttest.Texts(t, hostlocal.Read(files)))
	for range hostlocal.Read(files) {
		break
	}
}

func TestWrongFilesAreRefused(t *testing.T) {
	for name, text := range map[string]string{"10.0.0.1": strings.Repeat("a", 5000), "::ffff:10.0.0.1": "a"} {
		for _, err := range hostlocal.Read(folder(map[string]string{name: text})) {
			require.ErrorIs(t, err, pool.ErrInvalid)
			require.ErrorContains(t, err, "file "+name)
		}
	}
	for _, err := range hostlocal.Read(os.DirFS(filepath.Join(t.TempDir(), "nothing"))) {
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
}

// What is written is read as the same; it may be written again, but not over what another attachment has.
func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net")
	entry := func(owner string, prefixes ...string) adopt.Entry {
		e := adopt.Entry{Owner: owner}
		for _, text := range prefixes {
			e.Prefixes = append(e.Prefixes, netip.MustParsePrefix(text))
		}
		return e
	}
	for range 2 {
		a, b := entry("a/eth0", "10.0.0.2/32", "2001:db8::2/128"), entry("b/eth0", "10.0.0.3/32")
		require.NoError(t, hostlocal.Write(dir, a, b))
	}
	want := []string{
		"10.0.0.2/32,2001:db8::2/128 a/eth0 (file 10.0.0.2)", "10.0.0.3/32 b/eth0 (file 10.0.0.3)",
	}
	require.Equal(t, want, adopttest.Texts(t, hostlocal.Read(os.DirFS(dir))))
	require.ErrorIs(t, hostlocal.Write(dir, entry("c/eth0", "10.0.0.3/32")), fs.ErrExist)
	for _, wrong := range []adopt.Entry{
		entry("c", "10.0.0.9/32"), entry("c/", "10.0.0.9/32"), entry("c/e", "10.0.0.8/31"),
	} {
		require.ErrorIs(t, hostlocal.Write(dir, entry("d/eth0", "10.0.0.10/32"), wrong), pool.ErrInvalid)
	}
	require.Equal(t, want, adopttest.Texts(t, hostlocal.Read(os.DirFS(dir))), "nothing was written")
}

func FuzzRead(f *testing.F) {
	f.Add("10.0.0.1", "a\r\neth0")
	f.Add("2001:db8::1", "a")
	f.Fuzz(func(t *testing.T, name, text string) {
		if !fs.ValidPath(name) || name == "." || strings.Contains(name, "/") {
			t.Skip()
		}
		for e, err := range hostlocal.Read(folder(map[string]string{name: text})) {
			if err != nil {
				require.ErrorIs(t, err, pool.ErrInvalid)
				continue
			}
			adopttest.RequireClaim(t, e)
			require.Equal(t, name, strings.TrimPrefix(e.At, "file "))
		}
	})
}
