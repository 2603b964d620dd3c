// Command readme checks the Go code in the Markdown files of this repository, so that what people copy
// from there works. Run it at the root of the repository:
//
//	go run ./internal/readme
//	go run ./internal/readme -build DIR    programs get their imports as the module in DIR does
//
// Each fenced block that is marked as go is one of two things:
//
//   - A whole program (package main). It is built against this checkout and run in an empty folder, and must
//     exit with status 0. If it ends with an "// Output:" comment, as an Example does, it must print that. One in a
//     folder with the name guides is only looked at: internal/guides runs it, with the commands around it.
//   - Anything else is a fragment. Its lines must stand together in a Go file of this repository, apart from
//     their indentation, where they are compiled and, in an Example, run.
//
// The README.md at the root must have at least one block. Folders whose names start with a dot or an
// underscore, and testdata, are not searched.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/internal/markdown"
)

// runTime is how long a program may take.
const runTime = time.Minute

func main() {
	build := flag.String("build", ".", "the folder of the module that programs are built in")
	flag.Parse()
	if err := check(".", *build); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// check checks all Markdown files under root and prints a line for each block. Programs are built in the folder build.
func check(root, build string) error {
	files, err := read(root)
	if err != nil {
		return err
	}
	if len(blocks(files["README.md"])) == 0 {
		return errors.New("README.md: missing, or without a block of Go code")
	}
	var failures []error
	for name, text := range files {
		if filepath.Ext(name) != ".md" {
			continue
		}
		for _, b := range blocks(text) {
			how, err := b.check(build, name, files)
			if err != nil {
				failures = append(failures, fmt.Errorf("%s:%d: %w", name, b.line, err))
				continue
			}
			fmt.Printf("%s:%d: %s\n", name, b.line, how)
		}
	}
	return errors.Join(failures...)
}

// read returns the texts of the Go and Markdown files under root, by their slash-separated paths.
func read(root string) (map[string]string, error) {
	files := make(map[string]string)
	tree := os.DirFS(root)
	err := fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != "." && (name[0] == '.' || name[0] == '_' || name == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if ext := filepath.Ext(name); ext != ".go" && ext != ".md" {
			return nil
		}
		text, err := fs.ReadFile(tree, path)
		files[path] = string(text)
		return err
	})
	return files, err
}

// block is a fenced block of Go code.
type block struct {
	line int // of the opening fence, counted from 1
	code string
}

// blocks returns the blocks of Go code in a Markdown file.
func blocks(text string) []block {
	var found []block
	for _, b := range markdown.Blocks(text) {
		if b.Language == "go" {
			found = append(found, block{b.Line, b.Text})
		}
	}
	return found
}

// check says how b, in the file of that name, was found to work, or why it does not.
func (b block) check(build, name string, files map[string]string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "", b.code, parser.ParseComments)
	if err == nil && file.Name.Name == "main" {
		if formatted, err := format.Source([]byte(b.code)); err != nil || string(formatted) != b.code {
			return "", errors.New("the program is not formatted as gofmt does it")
		}
		if path.Base(path.Dir(name)) == "guides" {
			return "program of a guide", nil
		}
		return "program runs", b.run(build, file)
	}
	for source, text := range files {
		if filepath.Ext(source) == ".go" && contains(text, b.code) {
			return "fragment of " + source, nil
		}
	}
	return "", fmt.Errorf("these lines are in no Go file of the repository, and are no program:\n%s", b.code)
}

// run builds and runs the program b.
func (b block) run(where string, file *ast.File) error {
	dir, err := os.MkdirTemp("", "readme")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	source, program, empty := filepath.Join(dir, "main.go"), filepath.Join(dir, "main"), filepath.Join(dir, "empty")
	if err := errors.Join(os.WriteFile(source, []byte(b.code), 0o600), os.Mkdir(empty, 0o700)); err != nil {
		return err
	}

	// Built at the root, the file's imports are resolved by go.work: from this checkout.
	build := exec.Command("go", "build", "-o", program, source)
	build.Dir = where
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("the program does not build: %w\n%s", err, output)
	}

	ctx, cancel := context.WithTimeout(context.Background(), runTime)
	defer cancel()
	var stdout, stderr bytes.Buffer
	run := exec.CommandContext(ctx, program)
	run.Dir, run.Stdout, run.Stderr = empty, &stdout, &stderr
	if err := run.Run(); err != nil {
		return fmt.Errorf("the program fails: %w\n%s%s", err, stdout.String(), stderr.String())
	}
	want, ok := output(file)
	if got := strings.TrimSpace(stdout.String()); ok && got != want {
		return fmt.Errorf("the program prints\n%s\nwant\n%s", got, want)
	}
	return nil
}

// output returns what the last comment of file says that the program prints.
func output(file *ast.File) (string, bool) {
	if len(file.Comments) == 0 {
		return "", false
	}
	text, ok := strings.CutPrefix(file.Comments[len(file.Comments)-1].Text(), "Output:")
	return strings.TrimSpace(text), ok
}

// contains reports whether the lines of fragment stand together in text, whatever their indentation.
func contains(text, fragment string) bool {
	want := "\n" + unindent(strings.Trim(fragment, "\n")) + "\n"
	return strings.Contains("\n"+unindent(text)+"\n", want)
}

// unindent returns text without the white space around each line.
func unindent(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "\n")
}
