// Package specfile reads and writes the spec of a pool as YAML: the JSON of pool.Spec, written as YAML.
package specfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"

	"github.com/ipalloc/ipalloc/pool"
)

// Parse reads one YAML document. Unknown and duplicate members are errors, and so are anchors and aliases. All errors
// wrap pool.ErrInvalid. The rules for a whole spec are those of Spec.Validate, which Parse checks too.
func Parse(text []byte) (pool.Spec, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	if err := decoder.Decode(&document); err != nil {
		return pool.Spec{}, invalid("no YAML document: %v", err)
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return pool.Spec{}, invalid("more than one YAML document")
	}
	asJSON, err := appendJSON(nil, document.Content[0])
	if err != nil {
		return pool.Spec{}, err
	}
	var spec pool.Spec
	if err := json.Unmarshal(asJSON, &spec); err != nil {
		return pool.Spec{}, asInvalid(err)
	}
	return spec, spec.Validate()
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", pool.ErrInvalid, fmt.Sprintf(format, args...))
}

// asInvalid returns the error as one that wraps pool.ErrInvalid, once.
func asInvalid(err error) error {
	if errors.Is(err, pool.ErrInvalid) {
		return err
	}
	return invalid("%v", err)
}

// appendJSON appends the node as JSON, with its members in the same order, duplicate ones too.
func appendJSON(to []byte, n *yaml.Node) ([]byte, error) {
	switch n.Kind {
	case yaml.MappingNode:
		return appendList(append(to, '{'), n.Content, '}')
	case yaml.SequenceNode:
		return appendList(append(to, '['), n.Content, ']')
	case yaml.ScalarNode:
		return appendScalar(to, n)
	}
	return nil, invalid("line %d: an alias, *%s, which a spec must not have", n.Line, n.Value)
}

// appendList appends the items of a list, or the names and values of a mapping in turn, and the closing bracket.
func appendList(to []byte, items []*yaml.Node, closing byte) ([]byte, error) {
	for i, item := range items {
		isName := closing == '}' && i%2 == 0
		if isName && item.Kind != yaml.ScalarNode {
			return nil, invalid("line %d: the name of a member is no text", item.Line)
		}
		var err error
		if isName {
			to, err = appendText(to, item.Value)
		} else {
			to, err = appendJSON(to, item)
		}
		if err != nil {
			return nil, err
		}
		switch {
		case isName:
			to = append(to, ':')
		case i+1 < len(items):
			to = append(to, ',')
		}
	}
	return append(to, closing), nil
}

// appendScalar appends whole numbers, true, false and null as they are, and everything else as text.
func appendScalar(to []byte, n *yaml.Node) ([]byte, error) {
	switch n.Tag {
	case "!!int", "!!bool", "!!null":
		var value any
		if err := n.Decode(&value); err != nil {
			return nil, invalid("line %d: %v", n.Line, err)
		}
		text, err := json.Marshal(value)
		return append(to, text...), err
	}
	return appendText(to, n.Value)
}

func appendText(to []byte, value string) ([]byte, error) {
	text, err := json.Marshal(value)
	return append(to, text...), err
}

// FromJSON returns the YAML of a JSON text, with its members in the same order.
func FromJSON(text []byte) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	inBlocks(&document)
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	err := encoder.Encode(&document)
	return out.Bytes(), err
}

// inBlocks takes the brackets and quotes of JSON away; YAML quotes what needs it.
func inBlocks(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		inBlocks(child)
	}
}
