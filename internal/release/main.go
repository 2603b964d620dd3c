// Command release prepares and checks releases of the modules of this repository, which all have the same version. Run
// it at the root of the repository:
//
//	go run ./internal/release prepare v0.1.0    make the work tree what is tagged
//	go run ./internal/release check v0.1.0      whether it is
//	go run ./internal/release tags v0.1.0       the tags, one a line
//	go run ./internal/release prove             whether a copy, prepared, installs outside of the repository
//	go run ./internal/release prove v0.1.0      whether the work tree, which is prepared, does
//	go run ./internal/release develop           let each module find the others in the checkout again
//
// prove needs no network. It gets each module at the version from a folder that is served as a module proxy, compiles
// its packages, installs the command, and runs the programs in the Markdown files. Modules of others come from the
// module cache, so they must have been downloaded before, as go vet of each module does.
package main

import (
	"errors"
	"fmt"
	"os"
	"time"
)

func main() {
	if err := run(".", os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: release prepare VERSION | check VERSION | tags VERSION | prove [VERSION] | develop")

func run(dir string, args []string) error {
	var version string
	switch {
	case len(args) == 2:
		version = args[1]
	case len(args) != 1 || args[0] != "prove" && args[0] != "develop":
		return errUsage
	}
	t, err := readTree(dir)
	if err != nil {
		return err
	}
	switch args[0] {
	case "prepare":
		return prepare(t, version, time.Now().UTC().Format(time.DateOnly))
	case "check":
		return check(t, version)
	case "tags":
		return printTags(t, version)
	case "prove":
		return prove(dir, version, os.Stdout)
	case "develop":
		return develop(t)
	}
	return errUsage
}

// printTags prints the tags of the version if t can be tagged so.
func printTags(t *tree, version string) error {
	if err := check(t, version); err != nil {
		return err
	}
	for _, tag := range t.tags(version) {
		fmt.Println(tag)
	}
	return nil
}
