// Package object reads objects of Kubernetes from YAML and JSON: manifests, and lists as kubectl prints them. It knows
// no kinds. A value that is not what it should be is recorded as an error with its file, line, object and path, and
// reading goes on, so that one run reports all errors.
package object

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// File is a file to read.
type File struct {
	// Name is the name that errors have.
	Name string
	Data []byte
}

// Object is one object of Kubernetes. The zero Object is none. An Object may be copied.
type Object struct {
	APIVersion, Kind string
	Namespace, Name  string // of its metadata; empty if they are missing
	// UID is the one that the API server gave it; empty for an object that did not come from one.
	UID string
	// Value is the whole object.
	Value Value
}

// Read returns the objects in a file in order: those of each document in a stream of YAML, of which JSON is a part. A
// list of objects, whose kind ends in List, stands for its items. What is wrong is recorded in report. Cost: O(bytes),
// about a second for 10 MB.
func Read(file File, report *Report) []Object {
	top := Value{report: report, file: file.Name}
	roots, err := parse(file.Data)
	if err != nil {
		top.RefuseBecause(err, "the text is not read: "+oneLine(err.Error()), "")
		return nil
	}
	var objects []Object
	for _, root := range roots {
		objects = append(objects, expand(top.at("", root))...)
	}
	return objects
}

// parse returns the roots of the documents in a stream of YAML, which may be JSON. Its error names the line.
func parse(data []byte) ([]*yaml.Node, error) {
	var roots []*yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return roots, nil
		}
		if err != nil {
			return nil, err
		}
		roots = append(roots, document.Content...)
	}
}

// expand returns the object, or the items of a list.
func expand(root Value) []Object {
	if root.Missing() {
		return nil
	}
	list := header(root)
	itemKind, isList := strings.CutSuffix(list.Kind, "List")
	if !isList {
		return []Object{list}
	}
	var objects []Object
	for _, item := range root.Get("items").Items() {
		o := header(item)
		if o.Kind == "" && itemKind != "" { // as the API itself lists them
			o.Kind, o.APIVersion = itemKind, list.APIVersion
			o.Value.object = strings.TrimSpace(o.Kind + " " + o.FullName())
		}
		if strings.HasSuffix(o.Kind, "List") {
			item.Refuse("is a list within a list", "an object")
			continue
		}
		objects = append(objects, o)
	}
	return objects
}

// header returns the object with what tells it from others.
func header(v Value) Object {
	o := Object{APIVersion: v.Get("apiVersion").Text(), Kind: v.Get("kind").Text()}
	if metadata := v.Get("metadata"); !metadata.Missing() {
		o.Name, o.Namespace = metadata.Get("name").Text(), metadata.Get("namespace").Text()
		o.UID = metadata.Get("uid").Text()
	}
	v.path, v.object = "", strings.TrimSpace(o.Kind+" "+o.FullName())
	o.Value = v
	return o
}

// FullName returns the namespace and the name, or only the name if there is no namespace.
func (o Object) FullName() string {
	if o.Namespace == "" {
		return o.Name
	}
	return o.Namespace + "/" + o.Name
}

// oneLine returns the text without line breaks and other control characters.
func oneLine(text string) string {
	blank := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	return strings.Join(strings.FieldsFunc(text, blank), " ")
}
