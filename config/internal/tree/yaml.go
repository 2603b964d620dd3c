package tree

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/ipalloc/ipalloc/config"
)

// parseYAML returns the roots of the documents in a YAML stream that are not empty.
func parseYAML(data []byte) ([]*Node, *config.FieldError) {
	var roots []*Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return roots, nil
		}
		if err != nil {
			message := oneLine(strings.TrimPrefix(err.Error(), "yaml: "))
			return nil, &config.FieldError{Rule: "the text is not YAML: " + clause(message), Err: err}
		}
		root, _, err := make(converter).convert(document.Content[0])
		if err != nil {
			return nil, &config.FieldError{Line: document.Line, Rule: "the text is not read: " + err.Error(), Err: err}
		}
		if root.kind != null {
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
	node *Node
	size int // the number of values; 0 if not all of them are converted yet
}

// convert returns the node, and the number of values that it holds, itself included.
func (c converter) convert(in *yaml.Node) (*Node, int, error) {
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
	out, size := &Node{line: in.Line}, 1
	var children []*Node
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
	out.set(in, children)
	c[in] = converted{out, size}
	return out, size, nil
}

func (n *Node) set(in *yaml.Node, children []*Node) {
	switch in.Kind {
	case yaml.MappingNode:
		n.kind = object
		for i := 0; i+1 < len(children); i += 2 {
			n.fields = append(n.fields, field{children[i].text, in.Content[i].Line, children[i+1]})
		}
	case yaml.SequenceNode:
		n.kind, n.items = list, children
	default:
		n.setScalar(in)
	}
}

func (n *Node) setScalar(in *yaml.Node) {
	n.text = in.Value
	switch tag := in.ShortTag(); tag {
	case "!!str", "!!timestamp": // Kubernetes knows no dates
		n.kind = text
	case "!!int", "!!float":
		n.kind = number
	case "!!bool":
		n.kind = boolean
	case "!!null":
		n.kind = null
	default:
		n.kind, n.text = tagged, tag
	}
}

// oneLine is the text without line breaks and other control characters, for messages of others.
func oneLine(text string) string {
	words := strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
	return strings.Join(words, " ")
}
