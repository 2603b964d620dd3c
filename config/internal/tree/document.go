package tree

import (
	"fmt"
	"os"

	"github.com/ipalloc/ipalloc/config"
)

// Documents are the documents of a text, or what is wrong with the text. The zero Documents are none.
type Documents struct {
	roots []*Node
	wrong *config.FieldError
}

// NewDocuments returns the documents with these roots, or those of a text that cannot be read if wrong is not nil.
func NewDocuments(roots []*Node, wrong *config.FieldError) Documents {
	if wrong != nil {
		return Documents{wrong: wrong}
	}
	return Documents{roots: roots}
}

// Values returns the root of each document. What is wrong in them is recorded in report. A text that cannot be read is
// recorded too, and has none.
func (d Documents) Values(report *Report) []Value {
	if d.wrong != nil {
		wrong := *d.wrong // which the caller may change
		report.add(&wrong)
		return nil
	}
	values := make([]Value, len(d.roots))
	for i, root := range d.roots {
		values[i] = Value{report: report, line: root.Line, node: root}
	}
	return values
}

// Embedded returns the value in JSON that v is the text of. What is wrong in it is reported at the line of v.
func (v Value) Embedded() (Value, bool) {
	text, ok := v.Text()
	if !ok {
		return Value{}, false
	}
	root, wrong := parseJSON([]byte(text))
	if wrong != nil {
		wrong.Line, wrong.Field = v.line, v.path
		v.report.add(wrong)
		return Value{}, false
	}
	return Value{report: v.report, path: v.path, line: v.line, fixedLine: true, node: root}, true
}

// ReadFile reads a regular file of at most [config.MaxBytes] bytes, parses it, and returns what read makes of it. Its
// errors name the file.
func ReadFile[T any](path string, parse func([]byte) Documents, read func(Documents) (T, error)) (T, error) {
	var none T
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return none, err // names the path already
	case !info.Mode().IsRegular() && !info.IsDir():
		return none, &config.FieldError{File: path, Rule: "is not a regular file"}
	case info.Mode().IsRegular() && info.Size() > config.MaxBytes:
		return none, &config.FieldError{
			File: path, Rule: fmt.Sprintf("has %d bytes", info.Size()), Want: fmt.Sprintf("at most %d", config.MaxBytes),
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return none, err
	}
	result, err := read(parse(data))
	for _, wrong := range config.FieldErrors(err) {
		wrong.File = path
	}
	return result, err
}
