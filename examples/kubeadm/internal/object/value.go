package object

import (
	"fmt"
	"iter"

	"go.yaml.in/yaml/v3"

	"github.com/ipalloc/ipalloc/config"
)

// Value is a value in an object, and where it is. It may be missing. Its methods record in the object's [Report] what
// is wrong, and then return nothing. The zero Value must not be used. A Value may be copied.
type Value struct {
	report *Report
	file   string
	line   int    // that of the parent if the value is missing
	object string // names the object, such as Node worker-1
	path   string // within the object
	node   *yaml.Node
	// fixedLine says that the lines of nodes are not those of the file.
	fixedLine bool
}

// Refuse records that the value breaks a rule. The message quotes the value. Want is what would be right; empty if the
// rule says so.
func (v Value) Refuse(rule, want string) { v.report.add(v.Error(rule, want)) }

// RefuseBecause is Refuse with the error of the package that checks the rule.
func (v Value) RefuseBecause(err error, rule, want string) {
	wrong := v.Error(rule, want)
	wrong.Err = err
	v.report.add(wrong)
}

// Error returns the error that Refuse records, and does not record it.
func (v Value) Error(rule, want string) *config.FieldError {
	wrong := &config.FieldError{File: v.file, Line: v.line, Field: v.where(), Rule: rule, Want: want}
	if v.node != nil && v.node.Kind == yaml.ScalarNode {
		wrong.Value = Quote(v.node.Value)
	}
	return wrong
}

func (v Value) where() string {
	switch {
	case v.object == "":
		return v.path
	case v.path == "":
		return v.object
	}
	return v.object + ": " + v.path
}

// Missing reports whether the value is missing, null or an empty text.
func (v Value) Missing() bool {
	return v.node == nil || v.node.Kind == yaml.ScalarNode && (v.node.Value == "" || v.node.ShortTag() == "!!null")
}

// Text returns the value of a text; empty if it is missing or refused.
func (v Value) Text() string {
	if v.Missing() {
		return ""
	}
	if tag := v.node.ShortTag(); v.node.Kind != yaml.ScalarNode || tag != "!!str" && tag != "!!timestamp" {
		v.Refuse("is not a text", "a text, in quotes if it looks like a number or a boolean")
		return ""
	}
	return v.node.Value
}

// Items returns the values of a list; none if it is missing or refused.
func (v Value) Items() []Value {
	if v.Missing() {
		return nil
	}
	if v.node.Kind != yaml.SequenceNode {
		v.Refuse("is not a list", "a list")
		return nil
	}
	items := make([]Value, len(v.node.Content))
	for i, node := range v.node.Content {
		items[i] = v.at(fmt.Sprintf("%s[%d]", v.path, i), node)
	}
	return items
}

// Texts returns the values of a list of texts.
func (v Value) Texts() []string {
	var texts []string
	for _, item := range v.Items() {
		texts = append(texts, item.Text())
	}
	return texts
}

// Get returns the value of a field. It records a field that is there twice, and a value that has no fields.
func (v Value) Get(name string) Value {
	found := v.at(v.pathTo(name), nil)
	for key, node := range v.fields() {
		switch {
		case key == "<<":
			v.Refuse("has a merge key (<<), which is not read", "the fields themselves")
		case key != name:
		case found.node != nil:
			v.at(found.path, node).Refuse("is there twice", "it once")
		default:
			found = v.at(found.path, node)
		}
	}
	return found
}

// Field is a field of a value.
type Field struct {
	Name  string
	Value Value
}

// Fields returns the fields of a value in order; none if it is missing or refused.
func (v Value) Fields() []Field {
	var fields []Field
	for name, node := range v.fields() {
		fields = append(fields, Field{Name: name, Value: v.at(v.pathTo(name), node)})
	}
	return fields
}

// fields iterates over the names and nodes of the fields; over none if the value is missing or refused.
func (v Value) fields() iter.Seq2[string, *yaml.Node] {
	return func(yield func(string, *yaml.Node) bool) {
		if v.Missing() {
			return
		}
		if v.node.Kind != yaml.MappingNode {
			v.Refuse("is not an object", "fields with values")
			return
		}
		for i := 0; i+1 < len(v.node.Content); i += 2 {
			if !yield(v.node.Content[i].Value, v.node.Content[i+1]) {
				return
			}
		}
	}
}

// IsList reports whether the value is a list.
func (v Value) IsList() bool { return v.node != nil && v.node.Kind == yaml.SequenceNode }

// Line returns the line of the value in its file.
func (v Value) Line() int { return v.line }

func (v Value) pathTo(name string) string {
	if v.path == "" {
		return name
	}
	return v.path + "." + name
}

// at returns a value within v. An alias stands for its anchor's value.
func (v Value) at(path string, node *yaml.Node) Value {
	v.path, v.node = path, node
	if node != nil {
		if !v.fixedLine {
			v.line = node.Line
		}
		if node.Kind == yaml.AliasNode {
			v.node = node.Alias
		}
	}
	return v
}

// Path returns the path of the value in its object, such as spec.clusterIPs[0].
func (v Value) Path() string { return v.path }

// Embedded returns the objects in the text of a value. What is wrong in them is reported at the value's line.
func (v Value) Embedded() []Object {
	text := v.Text()
	roots, err := parse([]byte(text))
	if err != nil {
		v.RefuseBecause(err, "is not read: "+oneLine(err.Error()), "")
		return nil
	}
	var objects []Object
	for _, root := range roots {
		top := v
		top.path, top.node, top.fixedLine = "", root, true
		objects = append(objects, expand(top)...)
	}
	return objects
}
