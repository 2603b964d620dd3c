package clusterapi

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// value is a value in a document, and where it stands. One that is missing has no node.
type value struct {
	path string
	line int // that of the object, if the value itself is missing
	node *yaml.Node
}

// object is a value that has fields. Those that are null are left out, as Kubernetes does.
type object struct {
	value
	fields map[string]*yaml.Node
}

// decodeObject decodes an object, all of whose fields must be known, and each only once. No known ones mean any.
func decodeObject(path string, node *yaml.Node, known ...string) (object, error) {
	v := value{path: path, line: node.Line, node: resolve(node)}
	return v.object(known...)
}

func (v value) object(known ...string) (object, error) {
	o := object{value: v, fields: map[string]*yaml.Node{}}
	if v.missing() {
		return o, v.refuse("is missing", "")
	}
	if v.node.Kind != yaml.MappingNode {
		return o, v.refuse(fmt.Sprintf("is %s", kindOf(v.node)), "fields with values")
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		if err := o.add(v.node.Content[i], v.node.Content[i+1], known); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o *object) add(keyNode, node *yaml.Node, known []string) error {
	key := resolve(keyNode).Value
	field := value{path: join(o.path, key), line: keyNode.Line}
	switch _, twice := o.fields[key]; {
	case twice:
		return field.refuse("is there twice", "it once")
	case len(known) > 0 && !slices.Contains(known, key):
		return field.refuse("is not a known field", "one of "+strings.Join(known, ", "))
	}
	o.fields[key] = resolve(node)
	return nil
}

// child is the value of a field.
func (o object) child(field string) value {
	v := value{path: join(o.path, field), line: o.line}
	if node := o.fields[field]; node != nil && !isNull(node) {
		v.node, v.line = node, node.Line
	}
	return v
}

func (v value) missing() bool { return v.node == nil }

// items are the values of a list; none if it is missing.
func (v value) items() ([]value, error) {
	if v.missing() {
		return nil, nil
	}
	if v.node.Kind != yaml.SequenceNode {
		return nil, v.refuse(fmt.Sprintf("is %s", kindOf(v.node)), "a list")
	}
	var items []value
	for i, node := range v.node.Content {
		items = append(items, value{path: fmt.Sprintf("%s[%d]", v.path, i), line: node.Line, node: resolve(node)})
	}
	return items, nil
}

// text is the value of a string; empty if it is missing.
func (v value) text() (string, error) {
	if v.missing() {
		return "", nil
	}
	if v.node.Kind != yaml.ScalarNode || v.node.ShortTag() != "!!str" {
		return "", v.refuse(fmt.Sprintf("is %s", kindOf(v.node)), "a text")
	}
	return v.node.Value, nil
}

// requiredText is the value of a string that must not be missing or empty; want says what it is.
func (v value) requiredText(want string) (string, error) {
	text, err := v.text()
	if err == nil && text == "" {
		err = v.refuse("is missing", want)
	}
	return text, err
}

// number is the value of an integer; 0 if it is missing.
func (v value) number() (int64, error) {
	if v.missing() {
		return 0, nil
	}
	var n int64
	if v.node.Kind != yaml.ScalarNode || v.node.ShortTag() != "!!int" || v.node.Decode(&n) != nil {
		return 0, v.refuse("is no whole number", "one without quotes")
	}
	return n, nil
}

// flag is the value of a boolean; false if it is missing.
func (v value) flag() (bool, error) {
	if v.missing() {
		return false, nil
	}
	var set bool
	if v.node.Kind != yaml.ScalarNode || v.node.ShortTag() != "!!bool" || v.node.Decode(&set) != nil {
		return false, v.refuse("is no boolean", "true or false, without quotes")
	}
	return set, nil
}

// refuse says why the value is not right.
func (v value) refuse(rule, want string) error {
	e := &FieldError{Line: v.line, Field: v.path, Rule: rule, Want: want}
	if v.node != nil && v.node.Kind == yaml.ScalarNode {
		e.Value = quote(v.node.Value)
	}
	return e
}

// quote is the text in quotes, cut if it is too long for a message.
func quote(text string) string {
	const most = 80
	if len(text) > most {
		return strconv.Quote(text[:most]) + "…"
	}
	return strconv.Quote(text)
}

// join is the path of a field.
func join(path, field string) string {
	if quote(field) != `"`+field+`"` {
		field = quote(field)
	}
	if path == "" {
		return field
	}
	return path + "." + field
}

// resolve is what an alias stands for, and any other node itself.
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool {
	node = resolve(node)
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

func kindOf(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	}
	switch node.ShortTag() {
	case "!!str":
		return "a text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a boolean"
	case "!!null":
		return "null"
	default:
		return "tagged " + quote(node.ShortTag())
	}
}
