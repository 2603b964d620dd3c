// Command crossvet runs go vet on modules for a platform, as those build them that import them:
//
//	crossvet OS/ARCH FOLDER...
//
// It finds what "GOWORK=off GOOS=OS GOARCH=ARCH CGO_ENABLED=0 go vet ./..." finds in each folder: errors of the type
// checker, in the tests as well, and the findings of vet's analyzers. But it compiles nothing: go vet compiles each
// dependency for each platform, which takes minutes where this takes seconds. It must be built with the version of Go
// that it is to look with, or with a newer one.
//
// It exits with status 1 if something was found, and with status 2 if it could not look.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/tools/go/analysis/checker"
	"golang.org/x/tools/go/analysis/suite/vet"
	"golang.org/x/tools/go/packages"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: crossvet OS/ARCH FOLDER...")
		os.Exit(2)
	}
	total := 0
	for _, folder := range os.Args[2:] {
		fmt.Println("--", folder)
		found, err := look(os.Stdout, os.Args[1], folder)
		if err != nil {
			fmt.Fprintf(os.Stderr, "crossvet: %s for %s: %v\n", folder, os.Args[1], err)
			os.Exit(2)
		}
		total += found
	}
	if total > 0 {
		os.Exit(1)
	}
}

// look writes what is wrong in the module in the folder, for the platform, and returns how much that is.
func look(w io.Writer, platform, folder string) (int, error) {
	loaded, err := load(platform, folder)
	if err != nil {
		return 0, err
	}
	// Where a package has the wrong types, the analyzers do not run.
	if found := printErrors(w, loaded); found > 0 {
		return found, nil
	}
	graph, err := checker.Analyze(vet.Suite, loaded, nil)
	if err != nil {
		return 0, err
	}
	found := 0
	for _, root := range graph.Roots {
		if root.Err != nil {
			return 0, fmt.Errorf("%v: %w", root, root.Err)
		}
		found += len(root.Diagnostics)
	}
	return found, graph.PrintText(w, -1)
}

// load reads the packages of the module, their tests, and all that they import, from source.
func load(platform, folder string) ([]*packages.Package, error) {
	system, architecture, ok := strings.Cut(platform, "/")
	if !ok {
		return nil, fmt.Errorf("platform %q: must be OS/ARCH", platform)
	}
	loaded, err := packages.Load(&packages.Config{
		Mode:  packages.LoadAllSyntax | packages.NeedModule,
		Dir:   folder,
		Tests: true,
		Env:   append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+architecture),
	}, "./...")
	if err == nil && len(loaded) == 0 {
		err = errors.New("no packages")
	}
	return loaded, err
}

func printErrors(w io.Writer, loaded []*packages.Package) int {
	found := 0
	packages.Visit(loaded, nil, func(p *packages.Package) {
		for _, err := range p.Errors {
			fmt.Fprintln(w, err)
			found++
		}
	})
	return found
}
