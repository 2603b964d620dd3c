// Package manifest reads configurations in YAML, such as a NetworkAttachmentDefinition in a manifest, for the readers
// that on their own read JSON only. It is a package of its own so that a program which needs no YAML, such as a CNI
// plugin, does not have its parser: that takes time whenever the program starts.
//
// It takes the function Read of a reader:
//
//	c, err := manifest.ReadFile("network.yaml", whereabouts.Read)
package manifest

import (
	"github.com/ipalloc/ipalloc/config/internal/tree"
	"github.com/ipalloc/ipalloc/config/internal/tree/yamltree"
)

// Parse reads a configuration in YAML or JSON. Its errors are those of the reader's own function Parse.
func Parse[T any](data []byte, read func(tree.Documents) (T, error)) (T, error) {
	return read(yamltree.Parse(data))
}

// ReadFile reads a configuration in YAML or JSON from the file at path, which must be a regular file. Its errors are
// those of the reader's own function ReadFile.
func ReadFile[T any](path string, read func(tree.Documents) (T, error)) (T, error) {
	return tree.ReadFile(path, yamltree.Parse, read)
}
