package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBlocks(t *testing.T) {
	markdown := strings.ReplaceAll(`# Title
'''go
a()
'''
'''sh
go test work
'''
* An item:

  ''''go title="x"
  b()
    '''go
  ''''
'''golang
c()
'''
`, "'", "`")
	require.Equal(t, []block{{2, "a()\n"}, {10, "b()\n  ```go\n"}}, blocks(markdown))
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

func TestCheckNeedsBlock(t *testing.T) {
	root := t.TempDir()
	require.ErrorContains(t, check(root, root), "README.md: missing")
	require.NoError(t, os.WriteFile(filepath.Join(root, "README.md"), []byte("# Title\n"), 0o600))
	require.ErrorContains(t, check(root, root), "README.md: missing")
}
