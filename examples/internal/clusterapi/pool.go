// Package clusterapi reads the pools of the Cluster API in-cluster IPAM provider, as people write them in YAML, into
// specifications of this library's pools.
//
// It knows InClusterIPPool and GlobalInClusterIPPool of the group ipam.cluster.x-k8s.io, in v1alpha1 and v1alpha2.
// Reading is strict: a field that does not exist, exists twice or has the wrong type is an error, and so is what the
// provider's own validation refuses. Every such error is a *[FieldError].
package clusterapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/ipalloc/ipalloc/pool"
)

// Group is the API group of the pools.
const Group = "ipam.cluster.x-k8s.io"

// The kinds of pools.
const (
	// KindNamespaced is a pool for the claims of its own namespace.
	KindNamespaced = "InClusterIPPool"
	// KindGlobal is a pool for the claims of all namespaces.
	KindGlobal = "GlobalInClusterIPPool"
)

// Pool is a pool as a file describes it.
//
// The zero Pool is none. A Pool may be copied; the copy shares the slices of Spec.
type Pool struct {
	// Kind is [KindNamespaced] or [KindGlobal].
	Kind string
	// Namespace is empty if Kind is [KindGlobal], and otherwise a DNS label; "default" if the file names none.
	Namespace string
	// Name is a DNS subdomain.
	Name string
	// Spec is valid. Equal pools have equal specs, in whichever order and pieces the file lists the addresses.
	Spec pool.Spec
}

// StoreName is the name of the pool in a store: namespace/name, or the name alone if the pool is global. Different
// pools have different names there, since neither a namespace nor a name can contain a slash.
func (p Pool) StoreName() string {
	if p.Namespace == "" {
		return p.Name
	}
	return p.Namespace + "/" + p.Name
}

// maxFileBytes is more than any pool that people write has.
const maxFileBytes = 1 << 20

// ReadFile reads the one pool in the file at path. Errors name the file. Cost: O(bytes of the file), all in memory.
func ReadFile(path string) (Pool, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return Pool{}, fmt.Errorf("%s is not a regular file, want a pool in YAML", path)
	}
	if err == nil && info.Mode().IsRegular() && info.Size() > maxFileBytes {
		return Pool{}, fmt.Errorf("%s has %d bytes, want a pool in YAML of at most %d", path, info.Size(), maxFileBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Pool{}, err // names the path already
	}
	p, err := Parse(data)
	if err == nil {
		return p, nil
	}
	var field *FieldError
	if errors.As(err, &field) && field.Line > 0 {
		return Pool{}, fmt.Errorf("%s:%d: %w", path, field.Line, err)
	}
	return Pool{}, fmt.Errorf("%s: %w", path, err)
}

// Parse reads the one pool in a YAML stream. Empty documents are skipped; a second one that is not empty is an error.
// Each error is on one line. Cost: O(bytes of data).
func Parse(data []byte) (Pool, error) {
	documents, err := parseYAML(data)
	switch {
	case err != nil:
		return Pool{}, err
	case len(documents) == 0:
		return Pool{}, fmt.Errorf("it has no content, want a %s or a %s", KindNamespaced, KindGlobal)
	case len(documents) > 1:
		return Pool{}, &FieldError{
			Line: documents[1].Line,
			Rule: fmt.Sprintf("it has %d YAML documents, of which this is the second", len(documents)),
			Want: "one pool in a file",
		}
	}
	return decodePool(documents[0])
}

// parseYAML returns the root of each document that is not empty.
func parseYAML(data []byte) ([]*yaml.Node, error) {
	var roots []*yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return roots, nil
		}
		if err != nil {
			return nil, fmt.Errorf("it is not YAML: %s", oneLine(strings.TrimPrefix(err.Error(), "yaml: ")))
		}
		if root := document.Content[0]; !isNull(root) {
			roots = append(roots, root)
		}
	}
}

// oneLine is text without line breaks and other control characters, for messages of others.
func oneLine(text string) string {
	words := strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
	return strings.Join(words, " ")
}

// decodePool decodes a document. It looks at its kind first: what is no pool is told so, not which fields are unknown.
func decodePool(root *yaml.Node) (Pool, error) {
	decodeSpec, kind, err := decodeType(root)
	if err != nil {
		return Pool{}, err
	}
	top, err := decodeObject("", root, "apiVersion", "kind", "metadata", "spec", "status")
	if err != nil {
		return Pool{}, err
	}
	p := Pool{Kind: kind}
	if p.Namespace, p.Name, err = decodeMetadata(top.child("metadata"), kind); err != nil {
		return Pool{}, err
	}
	if p.Spec, err = decodeSpec(top.child("spec")); err != nil {
		return Pool{}, err
	}
	if err := p.Spec.Validate(); err != nil {
		return Pool{}, fmt.Errorf("spec: %w", err)
	}
	return p, nil
}

// decodeType tells from apiVersion and kind how to decode the spec.
func decodeType(root *yaml.Node) (func(value) (pool.Spec, error), string, error) {
	top, err := decodeObject("", root)
	if err != nil {
		return nil, "", err
	}
	kind, err := top.child("kind").requiredText(KindNamespaced + " or " + KindGlobal)
	if err != nil {
		return nil, "", err
	}
	if kind != KindNamespaced && kind != KindGlobal {
		return nil, "", top.child("kind").refuse("is no kind of pool", KindNamespaced+" or "+KindGlobal)
	}
	const versions = Group + "/v1alpha2 or " + Group + "/v1alpha1"
	version, err := top.child("apiVersion").requiredText(versions)
	if err != nil {
		return nil, "", err
	}
	switch version {
	case Group + "/v1alpha1":
		return decodeV1alpha1, kind, nil
	case Group + "/v1alpha2":
		return decodeV1alpha2, kind, nil
	}
	return nil, "", top.child("apiVersion").refuse("is not known", versions)
}
