package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// copyTracked copies the files of the checkout from that git tracks, as they are in the work tree: a file that is not
// added is not tagged.
func copyTracked(from, to string) error {
	list := exec.Command("git", "ls-files", "-z")
	list.Dir = from
	names, err := list.Output()
	if err != nil {
		return fmt.Errorf("git ls-files in %s: %w", from, err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and the deletion is not added yet
		}
		copied := filepath.Join(to, name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(copied), 0o755), os.WriteFile(copied, text, 0o644))
		if err != nil {
			return err
		}
	}
	return nil
}

// pack writes the released modules of t to the folder proxy, as a module proxy serves them. See
// https://go.dev/ref/mod#goproxy-protocol.
func pack(t *tree, version, proxy string) error {
	for _, m := range t.released() {
		if err := t.pack(m, version, proxy); err != nil {
			return fmt.Errorf("%s: %w", m.path(), err)
		}
	}
	return nil
}

func (t *tree) pack(m *mod, version, proxy string) error {
	escaped, err := module.EscapePath(m.path())
	if err != nil {
		return err
	}
	dir := filepath.Join(proxy, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := t.license(m); err != nil {
		return err
	}
	goMod, err := os.ReadFile(t.path(m, "go.mod"))
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	self := module.Version{Path: m.path(), Version: version}
	if err := zip.CreateFromDir(&packed, self, filepath.Dir(t.path(m, "go.mod"))); err != nil {
		return err
	}
	info := fmt.Sprintf("{\"Version\":%q,\"Time\":%q}\n", version, time.Now().UTC().Format(time.RFC3339))
	for name, text := range map[string][]byte{
		"list":            []byte(version + "\n"),
		version + ".info": []byte(info),
		version + ".mod":  goMod,
		version + ".zip":  packed.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// license gives m the licence of the root if it has none of its own, as the go command does when it packs a module.
func (t *tree) license(m *mod) error {
	own := t.path(m, "LICENSE")
	if _, err := os.Stat(own); err == nil {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(t.dir, "LICENSE"))
	if err != nil {
		return err
	}
	return os.WriteFile(own, text, 0o644)
}
