package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const version = "v0.1.0"

// checkout is a small repository whose modules are named as ours are: the root, a driver, a command and a module that
// is not released.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	needs := func(path, root string) string {
		return "module " + path + "\n\ngo 1.26.0\n\nrequire " + rootPath + " v0.0.9\n\n" +
			"replace " + rootPath + " => " + root + "\n"
	}
	for name, text := range map[string]string{
		"go.work":             "go 1.26.0\n\nuse (\n\t.\n\t./benchmarks\n\t./cmd/hello\n\t./store/bolt\n)\n",
		"go.mod":              "module " + rootPath + "\n\ngo 1.26.0\n",
		"LICENSE":             "a licence\n",
		"CHANGELOG.md":        "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- all\n",
		"README.md":           "# Title\n\n```sh\ngo get " + rootPath + "/store/bolt    # a file\n```\n",
		"pool/pool.go":        "package pool\n\nimport _ \"embed\"\n\n//go:embed name.txt\nvar Name string\n",
		"pool/name.txt":       "hello",
		"store/bolt/go.mod":   needs(rootPath+"/store/bolt", "../.."),
		"store/bolt/bolt.go":  "package bolt\n\nimport \"" + rootPath + "/pool\"\n\nvar Name = pool.Name\n",
		"cmd/hello/go.mod":    needs(rootPath+"/cmd/hello", "../.."),
		"cmd/hello/main.go":   "package main\n\nimport \"" + rootPath + "/pool\"\n\nfunc main() { println(pool.Name) }\n",
		"benchmarks/go.mod":   needs(rootPath+"/benchmarks", ".."),
		"benchmarks/bench.go": "package benchmarks\n\nimport _ \"" + rootPath + "/pool\"\n",
	} {
		write(t, dir, name, text)
	}
	git := exec.Command("git", "-c", "init.defaultBranch=main", "init", "-q")
	git.Dir = dir
	require.NoError(t, git.Run())
	track(t, dir)
	return dir
}

func track(t *testing.T, dir string) {
	t.Helper()
	git := exec.Command("git", "add", "-A")
	git.Dir = dir
	require.NoError(t, git.Run())
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	name = filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(text)
}

func change(t *testing.T, dir, name, from, to string) {
	t.Helper()
	text := read(t, dir, name)
	require.Contains(t, text, from)
	write(t, dir, name, strings.ReplaceAll(text, from, to))
}

// prepared is a checkout that is ready to be tagged.
func prepared(t *testing.T) string {
	t.Helper()
	dir := checkout(t)
	require.NoError(t, run(dir, []string{"prepare", version}))
	require.NoError(t, run(dir, []string{"check", version}))
	return dir
}

func TestPrepare(t *testing.T) {
	dir := prepared(t)
	require.Equal(t, "module "+rootPath+"/store/bolt\n\ngo 1.26.0\n\nrequire "+rootPath+" v0.1.0\n",
		read(t, dir, "store/bolt/go.mod"))
	require.Contains(t, read(t, dir, "benchmarks/go.mod"), "replace", "it is not released")
	require.Contains(t, read(t, dir, "benchmarks/go.mod"), rootPath+" v0.1.0")
	require.Regexp(t, `## \[Unreleased\]\n\n## \[0\.1\.0\] - \d{4}-\d\d-\d\d\n\n### Added`, read(t, dir, "CHANGELOG.md"))
	tree, err := readTree(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"v0.1.0", "cmd/hello/v0.1.0", "store/bolt/v0.1.0"}, tree.tags(version))
	require.ErrorContains(t, run(dir, []string{"prepare", "v0.1.1"}), "nothing under")

	require.NoError(t, run(dir, []string{"develop"}))
	require.Contains(t, read(t, dir, "cmd/hello/go.mod"), "replace "+rootPath+" => ../..\n")
	require.ErrorContains(t, run(dir, []string{"check", version}), "cmd/hello/go.mod: replaces "+rootPath)
}

func TestPrepareRefuses(t *testing.T) {
	for _, bad := range []string{"", "0.1.0", "v0.1", "v2.0.0", "v0.1.0+meta", "v0.0.0-20261123000000-0123456789ab"} {
		dir := checkout(t)
		require.ErrorContains(t, run(dir, []string{"prepare", bad}), "version "+`"`+bad+`"`)
		require.NotContains(t, read(t, dir, "CHANGELOG.md"), bad+"] - ")
	}
}

// TestCheckRefuses breaks a checkout that is ready, in each way that keeps a module from being installed.
func TestCheckRefuses(t *testing.T) {
	for _, test := range []struct{ name, file, from, to, wrong string }{
		{
			"another of ours at another version", "store/bolt/go.mod", version, "v0.0.9",
			"store/bolt/go.mod: requires " + rootPath + "@v0.0.9: the release is v0.1.0",
		},
		{
			"a replace", "cmd/hello/go.mod", "go 1.26.0\n", "go 1.26.0\n\nreplace example.org/x => example.org/y v1.0.0\n",
			"cmd/hello/go.mod: replaces example.org/x",
		},
		{
			"an exclude", "cmd/hello/go.mod", "go 1.26.0\n", "go 1.26.0\n\nexclude example.org/x v1.0.0\n",
			"cmd/hello/go.mod: excludes example.org/x@v1.0.0",
		},
		{
			"a module that is not released", "store/bolt/go.mod", rootPath + " " + version,
			rootPath + "/benchmarks " + version, "benchmarks, which is not released",
		},
		{"no section", "CHANGELOG.md", "[0.1.0]", "[0.0.1]", "CHANGELOG.md: no section"},
		{"a README of before", "README.md", "# Title", "# Title\n\nThere is no release yet.", "README.md: says"},
		{"a module in another folder", "store/bolt/go.mod", "store/bolt", "store/nut", "in this folder, it must be"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := prepared(t)
			change(t, dir, test.file, test.from, test.to)
			require.ErrorContains(t, run(dir, []string{"check", version}), test.wrong)
		})
	}
}

// TestProve installs a small release, and releases that are broken in ways that only show when they are installed. The
// last ones are kept from being found before that.
func TestProve(t *testing.T) {
	t.Setenv("GOMODCACHE", t.TempDir())
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		wrong string
	}{
		{"a release", func(*testing.T, string) {}, ""},
		{"a file that git does not track", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "pool", "name.txt")))
			track(t, dir)
			write(t, dir, "pool/name.txt", "hello")
			write(t, dir, ".gitignore", "name.txt\n")
		}, "pattern name.txt: no matching files found"},
		{"another version", func(t *testing.T, dir string) {
			change(t, dir, "store/bolt/go.mod", version, "v0.0.9")
		}, rootPath + "@v0.0.9"},
		{"a replace that importers would need", func(t *testing.T, dir string) {
			change(t, dir, "store/bolt/go.mod", "go 1.26.0\n", "go 1.26.0\n\nrequire example.org/x v1.0.0\n\n"+
				"replace example.org/x => ../../x\n")
			write(t, dir, "x/go.mod", "module example.org/x\n")
			write(t, dir, "x/x.go", "package x\n")
			change(t, dir, "store/bolt/bolt.go", "import ", "import _ \"example.org/x\"\n\nimport ")
		}, "could not import example.org/x"},
		{"a replace in a command", func(t *testing.T, dir string) {
			change(t, dir, "cmd/hello/go.mod", "go 1.26.0\n", "go 1.26.0\n\nreplace example.org/x => ../../x\n")
		}, "must not contain directives"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := prepared(t)
			test.spoil(t, dir)
			scratch := t.TempDir()
			copied := filepath.Join(scratch, "tree")
			require.NoError(t, copyTracked(dir, copied))
			tree, err := readTree(copied)
			require.NoError(t, err)
			p, err := newProof(tree, version, scratch, io.Discard)
			require.NoError(t, err)
			err = p.modules()
			require.NoError(t, p.forget())
			if test.wrong == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.wrong)
			}
		})
	}
}

// TestPacked holds what a module is packed with.
func TestPacked(t *testing.T) {
	dir := prepared(t)
	tree, err := readTree(dir)
	require.NoError(t, err)
	proxy := t.TempDir()
	require.NoError(t, pack(tree, version, proxy))
	served := filepath.Join(proxy, filepath.FromSlash(rootPath), "store", "bolt", "@v")
	require.Equal(t, "v0.1.0\n", read(t, served, "list"))
	require.Equal(t, read(t, dir, "store/bolt/go.mod"), read(t, served, "v0.1.0.mod"))
	require.Contains(t, read(t, served, "v0.1.0.info"), `{"Version":"v0.1.0","Time":"20`)
	packed := read(t, served, "v0.1.0.zip")
	require.Contains(t, packed, rootPath+"/store/bolt@v0.1.0/LICENSE")
	require.NotContains(t, read(t, filepath.Join(proxy, filepath.FromSlash(rootPath), "@v"), "v0.1.0.zip"), "bolt.go")
}
