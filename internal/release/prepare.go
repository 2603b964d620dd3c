package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// unreleased is the heading in the change log under which what changes is entered.
const unreleased = "## [Unreleased]\n"

// prepare makes t what is tagged: each module requires the others at the version, no released module replaces another
// one, and the change log has a section for the version. The day is written as 2026-11-23.
func prepare(t *tree, version, day string) error {
	if err := checkVersion(version); err != nil {
		return err
	}
	if err := enter(filepath.Join(t.dir, "CHANGELOG.md"), version, day); err != nil {
		return err
	}
	for _, m := range t.modules {
		if err := m.prepare(version); err != nil {
			return err
		}
	}
	return t.write()
}

// prepare makes m require the others at the version, and replace none of them if it is released.
func (m *mod) prepare(version string) error {
	for _, path := range m.ours() {
		if err := m.file.AddRequire(path, version); err != nil {
			return err
		}
	}
	if !m.released() {
		return nil
	}
	for _, r := range slices.Clone(m.file.Replace) {
		if !isOurs(r.Old.Path) {
			continue
		}
		if err := m.file.DropReplace(r.Old.Path, r.Old.Version); err != nil {
			return err
		}
	}
	return nil
}

// enter begins a section for the version with what is under Unreleased.
func enter(log, version, day string) error {
	text, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	before, after, found := strings.Cut(string(text), unreleased)
	entries, _, _ := strings.Cut(after, "\n## ")
	if !found || strings.TrimSpace(entries) == "" {
		return fmt.Errorf("%s: nothing under %q: a release must say what has changed", log, strings.TrimSpace(unreleased))
	}
	if strings.Contains(string(text), "\n"+section(version)) {
		return fmt.Errorf("%s: has a section %q already", log, section(version))
	}
	heading := unreleased + "\n" + section(version) + " - " + day + "\n"
	return os.WriteFile(log, []byte(before+heading+after), 0o644)
}

// section is how the heading of a version's section begins.
func section(version string) string { return "## [" + strings.TrimPrefix(version, "v") + "]" }

// develop undoes what prepare does to go.mod files: each module finds the others in the same checkout, so that go mod
// tidy works before what it needs has been released.
func develop(t *tree) error {
	dirs := make(map[string]string)
	for _, m := range t.modules {
		dirs[m.path()] = m.dir
	}
	for _, m := range t.modules {
		for _, path := range m.ours() {
			dir, err := filepath.Rel(m.dir, dirs[path])
			if err != nil {
				return err
			}
			dir = filepath.ToSlash(dir)
			if !strings.HasPrefix(dir, ".") {
				dir = "./" + dir
			}
			if err := m.file.AddReplace(path, "", dir, ""); err != nil {
				return err
			}
		}
	}
	return t.write()
}
