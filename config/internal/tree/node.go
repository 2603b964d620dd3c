// Package tree reads YAML and JSON into one kind of tree, and finds fields in it. A field that is not what it should
// be is recorded as an error with its path and line, and reading goes on, so that one run reports all errors.
package tree

// Node is a value of a document. It is never changed once the document is read. A document in YAML may have a node in
// several places, but not within itself.
type Node struct {
	kind   kind
	text   string // of a scalar; of a tagged one the tag
	line   int    // from 1 on
	fields []field
	items  []*Node
}

// field is a name with its value.
type field struct {
	name  string
	line  int
	value *Node
}

type kind uint8

const (
	null kind = iota
	text
	number
	boolean
	list
	object
	tagged // a scalar in YAML with a tag that is none of the above
)

// String returns the kind as it stands after "is".
func (k kind) String() string {
	return [...]string{"null", "a text", "a number", "a boolean", "a list", "an object", "tagged"}[k]
}
