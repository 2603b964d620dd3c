package tree

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/ipalloc/ipalloc/config"
)

// Documents returns the root of each document in a text, either the one value of JSON or the documents of YAML that are
// not empty. What is wrong in them is recorded in report. A text that cannot be read is recorded too, and has none.
func Documents(data []byte, report *Report) []Value {
	roots, err := parse(data)
	if err != nil {
		report.add(err)
		return nil
	}
	values := make([]Value, len(roots))
	for i, root := range roots {
		values[i] = Value{report: report, line: root.line, node: root}
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

func parse(data []byte) ([]*Node, *config.FieldError) {
	if len(data) > config.MaxBytes {
		return nil, &config.FieldError{
			Rule: fmt.Sprintf("the text has %d bytes", len(data)), Want: fmt.Sprintf("at most %d", config.MaxBytes),
		}
	}
	// JSON is read as such, since YAML allows no tabs. A text that is almost JSON may be YAML.
	if json.Valid(data) {
		return one(parseJSON(data))
	}
	roots, err := parseYAML(data)
	if err != nil && looksLikeJSON(data) {
		return one(parseJSON(data))
	}
	return roots, err
}

func one(root *Node, err *config.FieldError) ([]*Node, *config.FieldError) {
	if err != nil {
		return nil, err
	}
	return []*Node{root}, nil
}

// looksLikeJSON reports whether the text begins with an object whose first field is quoted.
func looksLikeJSON(data []byte) bool {
	rest, found := bytes.CutPrefix(bytes.TrimSpace(data), []byte("{"))
	return found && bytes.HasPrefix(bytes.TrimSpace(rest), []byte(`"`))
}

// ReadFile reads a regular file of at most [config.MaxBytes] bytes and parses it. Its errors name the file.
func ReadFile[T any](path string, parse func([]byte) (T, error)) (T, error) {
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
	parsed, err := parse(data)
	for _, wrong := range config.FieldErrors(err) {
		wrong.File = path
	}
	return parsed, err
}
