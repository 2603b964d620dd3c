// Command write writes the manifests into the folder that is its argument.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/ipalloc/ipalloc/store/kube/kubetest/internal/manifest"
)

func main() {
	if err := write(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // a program ends itself
	}
}

func write(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%d arguments, want one: the folder", len(args))
	}
	files, err := manifest.Files()
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(args[0], name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
