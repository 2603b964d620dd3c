package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// rootPath is the path of the root module, and what the paths of all others begin with.
const rootPath = "github.com/ipalloc/ipalloc"

// tree is a checkout of the repository.
type tree struct {
	dir     string
	modules []*mod // in the order of go.work
}

// mod is one module of the repository.
type mod struct {
	dir  string // with slashes, relative to the root; "." is the root
	file *modfile.File
}

// readTree reads go.work, and the go.mod of each module that it names.
func readTree(dir string) (*tree, error) {
	name := filepath.Join(dir, "go.work")
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	work, err := modfile.ParseWork(name, text, nil)
	if err != nil {
		return nil, err
	}
	t := &tree{dir: dir}
	for _, use := range work.Use {
		m := &mod{dir: path.Clean(use.Path)}
		name := t.path(m, "go.mod")
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if m.file, err = modfile.Parse(name, text, nil); err != nil {
			return nil, err
		}
		if want := path.Join(rootPath, m.dir); m.path() != want {
			return nil, fmt.Errorf("%s: module %q: in this folder, it must be %q", name, m.path(), want)
		}
		t.modules = append(t.modules, m)
	}
	return t, nil
}

// path returns the path of a file of m.
func (t *tree) path(m *mod, name string) string {
	return filepath.Join(t.dir, filepath.FromSlash(m.dir), name)
}

// released returns the modules that get a tag.
func (t *tree) released() []*mod {
	return slices.DeleteFunc(slices.Clone(t.modules), func(m *mod) bool { return !m.released() })
}

// tags returns the tags of a release, the root module's first.
func (t *tree) tags(version string) []string {
	var tags []string
	for _, m := range t.released() {
		tags = append(tags, path.Join(m.dir, version))
	}
	return tags
}

// write writes the go.mod of each module.
func (t *tree) write() error {
	var failures []error
	for _, m := range t.modules {
		m.file.Cleanup()
		text, err := m.file.Format()
		if err == nil {
			err = os.WriteFile(t.path(m, "go.mod"), text, 0o644)
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

func (m *mod) path() string { return m.file.Module.Mod.Path }

// released reports whether m gets a tag. Nobody outside can import what is internal, docs has nothing to import, and
// benchmarks cannot be built without replacing modules of others.
func (m *mod) released() bool {
	return m.dir != "benchmarks" && m.dir != "docs" && !slices.Contains(strings.Split(m.dir, "/"), "internal")
}

// ours returns the paths of the modules of this repository that m requires, directly or not.
func (m *mod) ours() []string {
	var paths []string
	for _, r := range m.file.Require {
		if isOurs(r.Mod.Path) {
			paths = append(paths, r.Mod.Path)
		}
	}
	return paths
}

func isOurs(module string) bool { return module == rootPath || strings.HasPrefix(module, rootPath+"/") }
