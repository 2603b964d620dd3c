// Package commandtest runs the program of cmd/ipalloc in tests, as a process, and compares what it prints with
// sessions. A session is a file in which each line that begins with $ is a command, and what follows is what it prints.
// Lines that begin with # are for readers.
//
//	$ ipalloc allocate pods vm-1 --store OTHER >FILE
//
// The store is that of the variable IPALLOC_STORE, and OTHER stands for the URL of another one. The standard output
// goes to the file, if one is named. Lines that begin with "error: " are the standard error, and "exit: 4" is the exit
// code unless that is 0. Times, generations and revisions are replaced, as they differ from run to run and from store
// to store.
package commandtest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files")

// Updating reports whether the test is to write the golden files.
func Updating() bool { return *update }

// Program is the program, built.
type Program struct{ Path string }

// Build builds the program into a folder. The other argument is the path from the folder of the test to that of the
// repository.
func Build(dir, modules string) (Program, error) {
	path := filepath.Join(dir, "ipalloc")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, ".")
	build.Dir = filepath.Join(modules, "cmd", "ipalloc")
	if output, err := build.CombinedOutput(); err != nil {
		return Program{}, fmt.Errorf("go build: %w: %s", err, output)
	}
	return Program{path}, nil
}

// Result is how a run of the program ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Command returns the program with arguments, to be run in a folder, on a store.
func (p Program) Command(t testing.TB, dir, store string, args ...string) *exec.Cmd {
	c := exec.CommandContext(t.Context(), p.Path, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "IPALLOC_STORE="+store, "KUBECONFIG=")
	return c
}

// Run runs the program in a folder, on a store.
func (p Program) Run(t testing.TB, dir, store string, args ...string) Result {
	t.Helper()
	c := p.Command(t, dir, store, args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	if exit := new(exec.ExitError); !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return Result{stdout.String(), stderr.String(), c.ProcessState.ExitCode()}
}

// Session runs a session, in a folder that has a copy of the files beside it.
func (p Program) Session(t *testing.T, file, store, other string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Dir(file))))
	var got strings.Builder
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "# "):
			if got.Len() > 0 {
				got.WriteString("\n")
			}
			got.WriteString(line)
		case strings.HasPrefix(line, "$ ipalloc "):
			got.WriteString(line)
			got.WriteString(p.step(t, dir, store, other, strings.Fields(line)[2:]))
		}
	}
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
}

// ServerSession runs the session that each store passes, whatever it is. Both stores must be empty.
func (p Program) ServerSession(t *testing.T, store, other string) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	p.Session(t, filepath.Join(filepath.Dir(here), "testdata", "store.txt"), store, other)
	if scheme, _, _ := strings.Cut(store, ":"); scheme != "bolt" {
		version := `(?m)^store +true +` + scheme + ` \(.*\d+\.\d+.*\), opened in`
		require.Regexp(t, version, p.Run(t, t.TempDir(), store, "doctor").Stdout)
	}
}

// step runs one command, and returns what a session has of it.
func (p Program) step(t *testing.T, dir, store, other string, args []string) string {
	t.Helper()
	file := ""
	if last := args[len(args)-1]; strings.HasPrefix(last, ">") {
		file, args = last[1:], args[:len(args)-1]
	}
	for i, arg := range args {
		if arg == "OTHER" {
			args[i] = other
		}
	}
	r := p.Run(t, dir, store, args...)
	if file != "" {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(r.Stdout), 0o600))
		r.Stdout = ""
	}
	text := Steady(r.Stdout)
	for line := range strings.Lines(r.Stderr) {
		text += "error: " + Steady(line)
	}
	if r.Code != 0 {
		text += fmt.Sprintf("exit: %d\n", r.Code)
	}
	return strings.NewReplacer(dir, "DIR", store, "STORE", other, "OTHER").Replace(text)
}

var (
	times     = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	revisions = regexp.MustCompile(`((?:generation|revision)"?:? ?|(?:allocated|reserved)(?:,| +))(\d+)`)
)

// Steady replaces times and revisions. Columns stay where they are.
func Steady(text string) string {
	text = times.ReplaceAllString(text, "2024-05-06T07:08:09Z")
	return revisions.ReplaceAllStringFunc(text, func(match string) string {
		parts := revisions.FindStringSubmatch(match)
		if strings.HasSuffix(parts[1], "  ") {
			return parts[1] + fmt.Sprintf("%-*s", len(parts[2]), "N")
		}
		return parts[1] + "N"
	})
}
