package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/commandtest"
)

// program is the program that the tests run.
var program commandtest.Program

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ipalloc-command-")
	if err == nil {
		defer os.RemoveAll(dir)
		program, err = commandtest.Build(dir, "../..")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// onFiles runs a test on an empty file of each kind. The files are in a folder of their own.
func onFiles(t *testing.T, test func(t *testing.T, store, other string)) {
	for _, scheme := range []string{"bolt", "sqlite"} {
		t.Run(scheme, func(t *testing.T) {
			dir := t.TempDir()
			test(t, scheme+":"+filepath.Join(dir, "store"), scheme+":"+filepath.Join(dir, "other"))
		})
	}
}

func TestServerSession(t *testing.T) { onFiles(t, program.ServerSession) }

func TestSessions(t *testing.T) {
	files, err := filepath.Glob("testdata/*/session.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			onFiles(t, func(t *testing.T, store, other string) { program.Session(t, file, store, other) })
		})
	}
}
