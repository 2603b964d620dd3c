package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBlocks(t *testing.T) {
	markdown := strings.ReplaceAll("'''go\na()\n'''\n'''sh\ngo test work\n'''\n'''golang\nc()\n'''\n", "'", "`")
	require.Equal(t, []block{{1, "a()\n"}}, blocks(markdown))
}

func TestCheck(t *testing.T) {
	const hello = "package main\n\nimport \"fmt\"\n\nfunc main() {\n\tfmt.Println(\"hello\")\n"
	for _, test := range []struct {
		name, code string
		wrong      string // what the error says; empty if there is none
	}{
		{"program", hello + "}\n", ""},
		{"program with its output", hello + "\t// Output: hello\n}\n", ""},
		{"program with other output", hello + "\t// Output: bye\n}\n", "the program prints"},
		{"program that does not build", "package main\n\nfunc main() { missing() }\n", "does not build"},
		{"program that fails", "package main\n\nfunc main() { panic(1) }\n", "the program fails"},
		{"program that is not formatted", "package main\nfunc main() { }\n", "not formatted"},
		{"fragment", "if ok {\n\treturn 1\n}\n", ""},
		{"fragment that was changed", "if ok {\n\treturn 2\n}\n", "in no Go file"},
		{"fragment with a line left out", "if ok {\n}\n", "in no Go file"},
		{"fragment that begins in a line", "ok {\n\treturn 1\n}\n", "in no Go file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			write := func(name, text string) {
				require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
			}
			write("go.mod", "module example.org/m\n")
			write("code.go", "package m\n\nfunc f(ok bool) int {\n\tif ok {\n\t\treturn 1\n\t}\n\treturn 0\n}\n")
			write("README.md", "```go\n"+test.code+"```\n")
			err := check(root, root)
			if test.wrong == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.wrong)
			require.ErrorContains(t, err, "README.md:1: ")
		})
	}
}

// A program of a guide is looked at, and not run.
func TestCheckGuide(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
	}
	write("README.md", "```go\npackage main\n\nfunc main() {}\n```\n")
	write("docs/guides/page.md", "```go\npackage main\n\nfunc main() { panic(1) }\n```\n")
	require.NoError(t, check(root, root))
	write("docs/guides/page.md", "```go\npackage main\nfunc main() { }\n```\n")
	require.ErrorContains(t, check(root, root), "docs/guides/page.md:1: the program is not formatted")
}

func TestCheckNeedsBlock(t *testing.T) {
	root := t.TempDir()
	require.ErrorContains(t, check(root, root), "README.md: missing")
	require.NoError(t, os.WriteFile(filepath.Join(root, "README.md"), []byte("# Title\n"), 0o600))
	require.ErrorContains(t, check(root, root), "README.md: missing")
}
