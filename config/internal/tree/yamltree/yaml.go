// Package yamltree reads YAML into the trees of package tree.
package yamltree

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/internal/tree"
)

// Parse reads the documents in a text of JSON or YAML, but those of YAML that are empty.
func Parse(data []byte) tree.Documents {
	// JSON is read as such, since YAML allows no tabs. A text that is almost JSON may be YAML.
	if len(data) > config.MaxBytes || json.Valid(data) {
		return tree.JSON(data)
	}
	roots, wrong := parseYAML(data)
	if wrong != nil && looksLikeJSON(data) {
		return tree.JSON(data)
	}
	return tree.NewDocuments(roots, wrong)
}

// looksLikeJSON reports whether the text begins with an object whose first field is quoted.
func looksLikeJSON(data []byte) bool {
	rest, found := bytes.CutPrefix(bytes.TrimSpace(data), []byte("{"))
	return found && bytes.HasPrefix(bytes.TrimSpace(rest), []byte(`"`))
}

// parseYAML returns the roots of the documents in a YAML stream that are not empty.
func parseYAML(data []byte) ([]*tree.Node, *config.FieldError) {
	var roots []*tree.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return roots, nil
		}
		if err != nil {
			message := strings.TrimPrefix(err.Error(), "yaml: ")
			return nil, &config.FieldError{Rule: "the text is not YAML: " + tree.Clause(message), Err: err}
		}
		root, _, err := make(converter).convert(document.Content[0])
		if err != nil {
			return nil, &config.FieldError{Line: document.Line, Rule: "the text is not read: " + err.Error(), Err: err}
		}
		if root.Kind != tree.Null {
			roots = append(roots, root)
		}
	}
}

// maxNodes is how many values a document may have, where an alias counts as all that it stands for.
const maxNodes = config.MaxBytes

var (
	errLoop  = errors.New("an alias refers to a value that contains it")
	errLarge = errors.New("its aliases expand to too many values")
)

// converter has what was made of each node of YAML, so that an alias is not converted again.
type converter map[*yaml.Node]converted

type converted struct {
	node *tree.Node
	size int // the number of values; 0 if not all of them are converted yet
}

// convert returns the node, and the number of values that it holds, itself included.
func (c converter) convert(in *yaml.Node) (*tree.Node, int, error) {
	if in.Kind == yaml.AliasNode {
		in = in.Alias
	}
	if done, found := c[in]; found {
		if done.size == 0 {
			return nil, 0, errLoop
		}
		return done.node, done.size, nil
	}
	c[in] = converted{}
	out, size := &tree.Node{Line: in.Line}, 1
	var children []*tree.Node
	for _, child := range in.Content {
		node, n, err := c.convert(child)
		if err != nil {
			return nil, 0, err
		}
		if size += n; size > maxNodes {
			return nil, 0, errLarge
		}
		children = append(children, node)
	}
	set(out, in, children)
	c[in] = converted{out, size}
	return out, size, nil
}

func set(n *tree.Node, in *yaml.Node, children []*tree.Node) {
	switch in.Kind {
	case yaml.MappingNode:
		n.Kind = tree.Mapping
		for i := 0; i+1 < len(children); i += 2 {
			n.Fields = append(n.Fields, tree.Field{Name: children[i].Text, Line: in.Content[i].Line, Value: children[i+1]})
		}
	case yaml.SequenceNode:
		n.Kind, n.Items = tree.List, children
	default:
		setScalar(n, in)
	}
}

func setScalar(n *tree.Node, in *yaml.Node) {
	n.Text = in.Value
	switch tag := in.ShortTag(); tag {
	case "!!str", "!!timestamp": // Kubernetes knows no dates
		n.Kind = tree.Text
	case "!!int", "!!float":
		n.Kind = tree.Number
	case "!!bool":
		n.Kind = tree.Boolean
	case "!!null":
		n.Kind = tree.Null
	default:
		n.Kind, n.Text = tree.Tagged, tag
	}
}
