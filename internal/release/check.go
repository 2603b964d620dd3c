package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// noRelease is what the README says until there is a release.
const noRelease = "There is no release yet"

// checkVersion returns an error if version cannot be one of a release of modules whose paths have no /v2.
func checkVersion(version string) error {
	if semver.Canonical(version) != version || module.IsPseudoVersion(version) {
		return fmt.Errorf("version %q: not of the form v1.2.3 or v1.2.3-rc.1", version)
	}
	if major := semver.Major(version); major != "v0" && major != "v1" {
		return fmt.Errorf("version %q: modules of %s must have paths that end in /%s", version, major, major)
	}
	return nil
}

// check returns an error that names all that keeps t from being tagged as version.
func check(t *tree, version string) error {
	if err := checkVersion(version); err != nil {
		return err
	}
	problems := []error{checkTexts(t.dir, version)}
	released := make(map[string]bool)
	for _, m := range t.released() {
		released[m.path()] = true
	}
	for _, m := range t.modules {
		problems = append(problems, m.check(version, released)...)
	}
	return errors.Join(problems...)
}

// checkTexts checks the change log and the README.
func checkTexts(dir, version string) error {
	log, err := os.ReadFile(filepath.Join(dir, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	if !strings.Contains(string(log), "\n"+section(version)+" - ") {
		return fmt.Errorf("CHANGELOG.md: no section %q with a date", section(version))
	}
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		return err
	}
	if semver.Prerelease(version) == "" && strings.Contains(string(readme), noRelease) {
		return fmt.Errorf("README.md: says %q", noRelease)
	}
	return nil
}

// check returns what is wrong in the go.mod of m.
func (m *mod) check(version string, released map[string]bool) []error {
	var problems []error
	wrong := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s/go.mod: %w", m.dir, fmt.Errorf(format, args...)))
	}
	for _, r := range m.file.Require {
		if isOurs(r.Mod.Path) && r.Mod.Version != version {
			wrong("requires %s: the release is %s", r.Mod, version)
		}
		if m.released() && isOurs(r.Mod.Path) && !released[r.Mod.Path] {
			wrong("requires %s, which is not released", r.Mod.Path)
		}
	}
	if !m.released() {
		return problems
	}
	for _, r := range m.file.Replace {
		wrong("replaces %s: those who import the module do not, and go install refuses it", r.Old.Path)
	}
	for _, x := range m.file.Exclude {
		wrong("excludes %s: those who import the module do not, and go install refuses it", x.Mod)
	}
	return problems
}
