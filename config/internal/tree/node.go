// Package tree has the values of a document in JSON or YAML as one kind of tree, and finds fields in it. A field that
// is not what it should be is recorded as an error with its path and line, and reading goes on, so that one run reports
// all errors.
//
// Package tree reads JSON, and package yamltree YAML. A CNI plugin, which is started for each container, does without.
package tree

// Node is a value of a document. It is never changed once the document is read. A document in YAML may have a node in
// several places, but not within itself.
type Node struct {
	Kind   Kind
	Text   string // of a scalar; of a tagged one the tag
	Line   int    // from 1 on
	Fields []Field
	Items  []*Node
}

// Field is a name with its value.
type Field struct {
	Name  string
	Line  int
	Value *Node
}

// Kind is the kind of a value.
type Kind uint8

// The kinds of values.
const (
	Null Kind = iota
	Text
	Number
	Boolean
	List
	Mapping
	Tagged // a scalar in YAML with a tag that is none of the above
)

// String returns the kind as it stands after "is".
func (k Kind) String() string {
	return [...]string{"null", "a text", "a number", "a boolean", "a list", "an object", "tagged"}[k]
}
