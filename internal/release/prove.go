package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
)

// proof installs released modules as a user does who does not have the repository: from a folder, without a network.
// The modules of others come from the module cache.
type proof struct {
	tree    *tree // a copy, which is changed
	version string
	scratch string
	env     []string
	out     io.Writer
}

// prove returns an error unless the modules of the checkout dir install. If version is empty, a copy is prepared for a
// release whose version is made from its contents. Otherwise dir must be prepared for version already.
func prove(dir, version string, out io.Writer) (err error) {
	scratch, err := os.MkdirTemp("", "release")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	copied := filepath.Join(scratch, "tree")
	if err := copyTracked(dir, copied); err != nil {
		return err
	}
	if version == "" {
		if version, err = prepareProof(copied); err != nil {
			return err
		}
	}
	t, err := readTree(copied)
	if err != nil {
		return err
	}
	if err := check(t, version); err != nil {
		return err
	}
	p, err := newProof(t, version, scratch, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.forget()) }()
	if err := p.modules(); err != nil {
		return err
	}
	return p.readme()
}

// prepareProof prepares the copied tree for a version that has never been, unless with the same contents.
func prepareProof(dir string) (string, error) {
	sum, err := dirhash.HashDir(dir, rootPath, dirhash.Hash1)
	if err != nil {
		return "", err
	}
	version := "v0.0.0-proof-" + fmt.Sprintf("%x", strings.TrimPrefix(sum, "h1:"))[:16]
	t, err := readTree(dir)
	if err != nil {
		return "", err
	}
	return version, prepare(t, version, "2006-01-02")
}

// newProof packs t. The variables of the environment that would bring modules from elsewhere are overridden.
func newProof(t *tree, version, scratch string, out io.Writer) (*proof, error) {
	proxy := filepath.Join(scratch, "proxy")
	if err := pack(t, version, proxy); err != nil {
		return nil, err
	}
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return nil, err
	}
	p := &proof{tree: t, version: version, scratch: scratch, out: out}
	modules := filepath.Join(strings.TrimSpace(string(cache)), "cache", "download")
	p.env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod -modcacherw", "GOTOOLCHAIN=local", "GOSUMDB=off",
		"GOPRIVATE=", "GONOPROXY=", "GOVCS=*:off", "GOPROXY="+fileURL(proxy)+","+fileURL(modules),
		"GOBIN="+filepath.Join(scratch, "bin"))
	return p, nil
}

func fileURL(path string) string { return "file://" + filepath.ToSlash(path) }

// modules gets each module on its own, in a module outside of the repository, and compiles all its packages. A command
// is installed too, and shows its help.
func (p *proof) modules() error {
	var failures []error
	for _, m := range p.tree.released() {
		if err := p.module(m); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", m.path(), err))
			continue
		}
		fmt.Fprintf(p.out, "%s: installs\n", m.path())
	}
	return errors.Join(failures...)
}

func (p *proof) module(m *mod) error {
	dir, err := p.importer(m)
	if err != nil {
		return err
	}
	// Compiles, and links nothing.
	if _, err := p.run(dir, "go", "list", "-export", "-f", "{{.ImportPath}}", m.path()+"/..."); err != nil {
		return err
	}
	if !strings.HasPrefix(m.dir, "cmd/") {
		return nil
	}
	if _, err := p.run(p.scratch, "go", "install", m.path()+"@"+p.version); err != nil {
		return err
	}
	_, err = p.run(dir, filepath.Join(p.scratch, "bin", filepath.Base(m.dir)), "--help")
	return err
}

// importer returns the folder of a new module that requires the modules.
func (p *proof) importer(modules ...*mod) (string, error) {
	dir, err := os.MkdirTemp(p.scratch, "importer")
	if err != nil {
		return "", err
	}
	text := []byte("module example.org/importer\n\ngo 1.26.0\n")
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), text, 0o644); err != nil {
		return "", err
	}
	get := []string{"go", "get"}
	for _, m := range modules {
		get = append(get, m.path()+"@"+p.version)
	}
	_, err = p.run(dir, get...)
	return dir, err
}

// goGet finds what a README says to get.
var goGet = regexp.MustCompile(`(?m)^go get (\S+)`)

// readme gets the modules that README.md says to get, and runs the programs of the Markdown files with them.
func (p *proof) readme() error {
	text, err := os.ReadFile(filepath.Join(p.tree.dir, "README.md"))
	if err != nil {
		return err
	}
	released := make(map[string]*mod)
	for _, m := range p.tree.released() {
		released[m.path()] = m
	}
	var modules []*mod
	for _, found := range goGet.FindAllStringSubmatch(string(text), -1) {
		m := released[found[1]]
		if m == nil {
			return fmt.Errorf("README.md: %q: not a module that is released", found[0])
		}
		modules = append(modules, m)
	}
	if len(modules) == 0 {
		return errors.New("README.md: does not say what to go get")
	}
	dir, err := p.importer(modules...)
	if err != nil {
		return err
	}
	output, err := p.run(p.tree.dir, "go", "run", "./internal/readme", "-build", dir)
	fmt.Fprint(p.out, output)
	return err
}

// run runs a command outside of the repository, and returns what it prints.
func (p *proof) run(dir string, command ...string) (string, error) {
	var output bytes.Buffer
	c := exec.Command(command[0], command[1:]...)
	c.Dir, c.Env, c.Stdout, c.Stderr = dir, p.env, &output, &output
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, output.String())
	}
	return output.String(), nil
}

// forget removes from the module cache what the proof has put there.
func (p *proof) forget() error {
	output, err := p.run(p.scratch, "go", "env", "GOMODCACHE")
	if err != nil {
		return err
	}
	cache := strings.TrimSpace(output)
	var failures []error
	for _, m := range p.tree.released() {
		escaped, err := module.EscapePath(m.path())
		if err != nil {
			return err
		}
		packed, err := filepath.Glob(filepath.Join(cache, "cache", "download", escaped, "@v", p.version+".*"))
		failures = append(failures, err)
		for _, name := range append(packed, filepath.Join(cache, escaped+"@"+p.version)) {
			failures = append(failures, os.RemoveAll(name))
		}
	}
	return errors.Join(failures...)
}
