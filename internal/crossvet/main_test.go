package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLook(t *testing.T) {
	const sound = "package p\n\nfunc F() {}\n"
	tests := []struct {
		name     string
		file     string
		text     string
		platform string
		found    string // Empty: nothing.
	}{
		{"sound", "all.go", sound, "windows/amd64", ""},
		{"a name that only another platform lacks", "p.go", "package p\n\nimport \"syscall\"\n\nvar _ = syscall.Flock\n",
			"windows/amd64", "undefined: syscall.Flock"},
		{"the same where there is one", "p.go",
			"package p\n\nimport \"syscall\"\n\nvar _ = syscall.Flock\n", "linux/386", ""},
		{"a file for this platform", "p_windows.go", "package p\n\nvar _ int = \"\"\n", "windows/amd64", "p_windows.go:3:13"},
		{"a file for another", "p_windows.go", "package p\n\nvar _ int = \"\"\n", "linux/arm64", ""},
		{"the size of a word", "p.go", "package p\n\nvar _ int = 1 << 40\n", "linux/386", "overflows"},
		{"a test", "p_test.go", "package p\n\nvar _ = F(1)\n", "linux/386", "too many arguments"},
		{"a finding of vet", "p_freebsd.go", "package p\n\nimport \"fmt\"\n\nvar _ = fmt.Sprintf(\"%d\", \"\")\n",
			"freebsd/amd64", "p_freebsd.go:5:22: fmt.Sprintf format %d has arg \"\" of wrong type string"},
		{"a package that there is not", "p_test.go", "package p\n\nimport _ \"example.com/none\"\n",
			"linux/386", "example.com/none"},
		{"no Go", "p.go", "package", "linux/386", "p.go:1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var output bytes.Buffer
			found, err := look(&output, test.platform, module(t, map[string]string{"all.go": sound, test.file: test.text}))
			require.NoError(t, err)
			if test.found == "" {
				require.Zero(t, found, output.String())
				return
			}
			require.NotZero(t, found)
			require.Contains(t, output.String(), test.found)
		})
	}
}

func TestLookCannot(t *testing.T) {
	_, err := look(&bytes.Buffer{}, "windows", module(t, map[string]string{"p.go": "package p\n"}))
	require.EqualError(t, err, `platform "windows": must be OS/ARCH`)
	_, err = look(&bytes.Buffer{}, "linux/386", module(t, nil))
	require.EqualError(t, err, "no packages")
	_, err = look(&bytes.Buffer{}, "linux/none", module(t, map[string]string{"p.go": "package p\n"}))
	require.ErrorContains(t, err, "linux/none")
}

// module makes a folder with a module of these files.
func module(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("go.mod", "module p\n\ngo 1.26.0\n")
	for name, text := range files {
		write(name, text)
	}
	return dir
}
