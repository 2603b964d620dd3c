// Package object reads Kubernetes objects, as kubectl prints them, one after the other.
package object

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/input"
)

// Metadata is what is read of the metadata of an object.
type Metadata struct {
	Name      string  `json:"name"`
	Namespace string  `json:"namespace"`
	UID       string  `json:"uid"`
	Owners    []Owner `json:"ownerReferences"`
}

// Owner is an owner reference.
type Owner struct {
	Kind string `json:"kind"`
	UID  string `json:"uid"`
}

// FullName is the name with the namespace before it, if there is one.
func (m Metadata) FullName() string {
	if m.Namespace == "" {
		return m.Name
	}
	return m.Namespace + "/" + m.Name
}

// Object is an object. Text is all of it.
type Object struct {
	Kind     string   `json:"kind"`
	Metadata Metadata `json:"metadata"`
	Text     []byte   `json:"-"`
}

// At is the place of the object.
func (o Object) At() string { return o.Kind + " " + o.Metadata.FullName() }

// Invalid is an error about the object.
func (o Object) Invalid(format string, args ...any) error {
	return input.Invalid(o.At(), format, args...)
}

// Decode decodes the object into a struct of its own kind.
func (o Object) Decode(into any) error {
	if err := json.Unmarshal(o.Text, into); err != nil {
		return o.Invalid("%w", err)
	}
	return nil
}

// Read makes entries of the objects of some kinds, which the function reads. The text is JSON or YAML, of one object or
// several, or of lists. Objects of other kinds are passed over; if there is nothing else, the error says so. Items of a
// list that name no kind are of the first kind.
//
// Lists in JSON are read item by item. A document in YAML is read as a whole.
func Read(r io.ReadSeeker, entries func(o Object, yield func(adopt.Entry) error) error, kinds ...string) adopt.Entries {
	return input.Stream(func(yield func(adopt.Entry) error) error {
		s := &stream{kinds: kinds, each: func(o Object) error { return entries(o, yield) }}
		isJSON, err := input.Begins(r, "{")
		if err != nil {
			return err
		}
		if isJSON {
			err = s.json(r)
		} else {
			err = s.yaml(r)
		}
		if err != nil {
			return err
		}
		if s.found == 0 && s.other != "" {
			return input.Invalid("objects", "there are only objects of other kinds, such as %s; want %s",
				input.Quote(s.other), strings.Join(kinds, ", "))
		}
		return nil
	})
}

// stream is a text that is read.
type stream struct {
	kinds []string
	each  func(Object) error
	found int
	other string // the kind of an object of another kind, of which there may be many
}

// json reads a text of one or several objects or lists.
func (s *stream) json(r io.ReadSeeker) error {
	j, err := input.NewJSON(r)
	for err == nil && j.More() {
		err = s.document(j)
	}
	if err != nil {
		return err
	}
	return j.End()
}

// document reads an object, or a list, whose kind may stand before or behind its items.
func (s *stream) document(j *input.JSON) error {
	members, isList := map[string]json.RawMessage{}, false
	err := j.Object(func(name string) error {
		if name == "items" {
			isList = true
			kind := s.kindOfItems(members["kind"])
			return j.List(func() error {
				var item json.RawMessage
				if err := j.Value(&item); err != nil {
					return err
				}
				return s.object(item, kind)
			})
		}
		var value json.RawMessage
		err := j.Value(&value)
		members[name] = value
		return err
	})
	if err != nil || isList || len(members) == 0 {
		return err
	}
	text, err := json.Marshal(members)
	if err != nil {
		return err
	}
	return s.object(text, "")
}

// kindOfItems is the kind of items that name none, in a list whose own kind is known or not.
func (s *stream) kindOfItems(list json.RawMessage) string {
	var kind string
	if json.Unmarshal(list, &kind) == nil && strings.HasSuffix(kind, "List") && kind != "List" {
		return strings.TrimSuffix(kind, "List")
	}
	if len(s.kinds) == 1 {
		return s.kinds[0]
	}
	return ""
}

func (s *stream) object(text []byte, kind string) error {
	o := Object{Kind: kind, Text: text}
	if err := json.Unmarshal(text, &o); err != nil {
		return input.Invalid("object", "%w", err)
	}
	if !slices.Contains(s.kinds, o.Kind) {
		s.other = cmp.Or(o.Kind, "one without a kind")
		return nil
	}
	s.found++
	return s.each(o)
}

// yaml reads a text of documents, each of which is an object or a list.
func (s *stream) yaml(r io.ReadSeeker) error {
	var document []byte
	begin := 1
	read := func() error {
		text, err := yaml.YAMLToJSONStrict(document)
		if err != nil {
			oneLine := strings.Join(strings.Fields(err.Error()), " ")
			return input.Invalid(fmt.Sprintf("the document at line %d", begin), "%s", oneLine)
		}
		document = document[:0]
		if isNull(text) {
			return nil
		}
		return s.json(bytes.NewReader(text))
	}
	err := input.Lines(r, func(n int, line string) error {
		if line != "---" && !strings.HasPrefix(line, "--- ") {
			document = append(append(document, line...), '\n')
			return nil
		}
		err := read()
		begin = n + 1
		document = append(document, strings.TrimPrefix(line, "---")...)
		document = append(document, '\n')
		return err
	})
	if err != nil {
		return err
	}
	return read()
}

func isNull(text []byte) bool { return string(bytes.TrimSpace(text)) == "null" }
