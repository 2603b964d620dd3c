package tree

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ipalloc/ipalloc/config"
)

// Value is a value in a document, and where it stands. It may be missing. Its methods record what is wrong, and then
// return false or nothing.
type Value struct {
	report    *Report
	path      string
	line      int   // that of the object, if the value itself is missing
	fixedLine bool  // the lines of nodes are not those of the file
	node      *Node // nil if the value is missing
}

// Refuse records that the value breaks a rule. Want is what would be right; empty if the rule says so.
func (v Value) Refuse(rule, want string) { v.refuse(rule, want, nil) }

func (v Value) refuse(rule, want string, err error) {
	wrong := &config.FieldError{Line: v.line, Field: v.path, Rule: rule, Want: want, Err: err}
	if v.node != nil && v.node.Kind != List && v.node.Kind != Mapping {
		wrong.Value = Quote(v.node.Text)
	}
	v.report.add(wrong)
}

// Missing reports whether the value is missing or an empty text. A field that is null is missing too.
func (v Value) Missing() bool { return v.node == nil || v.node.Kind == Text && v.node.Text == "" }

// Path is where the value stands, such as spec.addresses[2].
func (v Value) Path() string { return v.path }

// Errors is the count of the document's errors so far; see [Report.Count].
func (v Value) Errors() int { return v.report.Count() }

// Text is the value of a text.
func (v Value) Text() (string, bool) {
	if !v.is(Text, "a text") {
		return "", false
	}
	return v.node.Text, true
}

// TextOr is the value of a text, or what to take if it is missing or refused.
func (v Value) TextOr(missing string) string {
	if v.Missing() {
		return missing
	}
	got, ok := v.Text()
	if !ok {
		return missing
	}
	return got
}

// Number is the value of a whole number from low to high, which want describes.
func (v Value) Number(low, high int, want string) (int, bool) {
	if !v.is(Number, "a whole number without quotes") {
		return 0, false
	}
	n, err := strconv.ParseInt(v.node.Text, 0, 64)
	switch {
	case err != nil && strings.Trim(v.node.Text, "+-0123456789") != "":
		v.Refuse("is not a whole number", want)
	case err != nil || n < int64(low) || n > int64(high):
		v.Refuse("is out of range", want)
	default:
		return int(n), true
	}
	return 0, false
}

// Flag is the value of a boolean, or what to take if it is missing or refused.
func (v Value) Flag(missing bool) bool {
	if v.Missing() || !v.is(Boolean, "true or false, without quotes") {
		return missing
	}
	return strings.EqualFold(v.node.Text, "true")
}

// Items are the values of a list; none if it is missing or refused.
func (v Value) Items() []Value {
	if v.Missing() || !v.is(List, "a list") {
		return nil
	}
	items := make([]Value, len(v.node.Items))
	for i, node := range v.node.Items {
		items[i] = v.at(fmt.Sprintf("%s[%d]", v.path, i), node.Line, node)
	}
	return items
}

// Texts are the values of a list of texts.
func (v Value) Texts() []string {
	var texts []string
	for _, item := range v.Items() {
		if got, ok := item.Text(); ok {
			texts = append(texts, got)
		}
	}
	return texts
}

// Object is the value of an object, each field of which stands once.
func (v Value) Object() (Object, bool) { return v.object(false) }

// FoldedObject is the value of an object whose names match whatever their case, as they do in Go's encoding/json.
func (v Value) FoldedObject() (Object, bool) { return v.object(true) }

func (v Value) object(fold bool) (Object, bool) {
	if !v.is(Mapping, "fields with values") {
		return Object{}, false
	}
	o := Object{Value: v, fold: fold}
	seen := map[string]bool{}
	for _, f := range v.node.Fields {
		name := f.Name
		if fold {
			name = strings.ToLower(name)
		}
		if seen[name] {
			o.at(o.pathOf(f.Name), f.Line, nil).Refuse("is there twice", "it once")
		}
		seen[name] = true
	}
	return o, true
}

// at is a value within v.
func (v Value) at(path string, line int, node *Node) Value {
	if v.fixedLine {
		line = v.line
	}
	return Value{report: v.report, path: path, line: line, fixedLine: v.fixedLine, node: node}
}

func (v Value) is(k Kind, want string) bool {
	switch {
	case v.node == nil:
		v.Refuse("is missing", want)
	case v.node.Kind == Tagged:
		v.Refuse("is the tag of the value", want)
	case v.node.Kind != k:
		v.Refuse("is "+v.node.Kind.String(), want)
	default:
		return true
	}
	return false
}

// Object is a value that has fields.
type Object struct {
	Value
	fold bool // whether names match whatever their case
}

// Field is the value of a field.
func (o Object) Field(name string) Value {
	for _, f := range o.node.Fields {
		if !o.matches(f.Name, name) {
			continue
		}
		if f.Value.Kind == Null {
			return o.at(o.pathOf(name), f.Line, nil)
		}
		return o.at(o.pathOf(name), f.Value.Line, f.Value)
	}
	return o.at(o.pathOf(name), o.line, nil)
}

// Unknown are the paths of the fields that have another name than these, in their order.
func (o Object) Unknown(known ...string) []string {
	var unknown []string
	for _, f := range o.unknown(known) {
		unknown = append(unknown, o.pathOf(f.Name))
	}
	return unknown
}

// RefuseUnknown records each field that has another name than these.
func (o Object) RefuseUnknown(known ...string) {
	for _, f := range o.unknown(known) {
		o.at(o.pathOf(f.Name), f.Line, nil).Refuse("is not a known field", "one of "+strings.Join(known, ", "))
	}
}

func (o Object) unknown(known []string) []Field {
	var unknown []Field
	for _, f := range o.node.Fields {
		if !slices.ContainsFunc(known, func(name string) bool { return o.matches(f.Name, name) }) {
			unknown = append(unknown, f)
		}
	}
	return unknown
}

func (o Object) matches(got, name string) bool {
	return got == name || o.fold && strings.EqualFold(got, name)
}

// pathOf is the path of a field.
func (o Object) pathOf(name string) string {
	if quoted := Quote(name); quoted != `"`+name+`"` {
		name = quoted
	}
	if o.path == "" {
		return name
	}
	return o.path + "." + name
}
