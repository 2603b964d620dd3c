package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/ipalloc/ipalloc/config"
)

// maxDepth is how deep objects and lists may stand in one another in JSON.
const maxDepth = 100

var errDepth = fmt.Errorf("objects and lists are nested more than %d deep", maxDepth)

// JSON reads the one document in a text of JSON. An empty text has none.
func JSON(data []byte) Documents {
	switch {
	case len(data) > config.MaxBytes:
		return Documents{wrong: &config.FieldError{
			Rule: fmt.Sprintf("the text has %d bytes", len(data)), Want: fmt.Sprintf("at most %d", config.MaxBytes),
		}}
	case len(bytes.TrimSpace(data)) == 0:
		return Documents{}
	}
	root, wrong := parseJSON(data)
	return NewDocuments([]*Node{root}, wrong)
}

// parseJSON returns the one value in a text of JSON.
func parseJSON(data []byte) (*Node, *config.FieldError) {
	r := jsonReader{data: data, line: 1, decoder: json.NewDecoder(bytes.NewReader(data))}
	r.decoder.UseNumber()
	root, err := r.value(0)
	if err == nil {
		err = r.end()
	}
	if err != nil {
		rule := "the text is not JSON: " + Clause(err.Error())
		return nil, &config.FieldError{Line: r.lineHere(), Rule: rule, Err: err}
	}
	return root, nil
}

// jsonReader counts lines while it reads.
type jsonReader struct {
	data    []byte
	decoder *json.Decoder
	offset  int // up to which lines are counted
	line    int
}

// lineHere is the line of the end of the last token.
func (r *jsonReader) lineHere() int {
	end := min(int(r.decoder.InputOffset()), len(r.data))
	r.line += bytes.Count(r.data[r.offset:end], []byte("\n"))
	r.offset = end
	return r.line
}

func (r *jsonReader) value(depth int) (*Node, error) {
	token, err := r.token()
	if err != nil {
		return nil, err
	}
	n := &Node{Line: r.lineHere()}
	switch t := token.(type) {
	case json.Delim:
		if depth == maxDepth {
			return nil, errDepth
		}
		if t == '[' {
			return n, r.list(n, depth)
		}
		return n, r.object(n, depth)
	case string:
		n.Kind, n.Text = Text, t
	case json.Number:
		n.Kind, n.Text = Number, t.String()
	case bool:
		n.Kind, n.Text = Boolean, fmt.Sprint(t)
	default:
		n.Kind, n.Text = Null, "null"
	}
	return n, nil
}

func (r *jsonReader) list(n *Node, depth int) error {
	n.Kind = List
	for r.decoder.More() {
		item, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.Items = append(n.Items, item)
	}
	_, err := r.token() // the closing bracket
	return err
}

func (r *jsonReader) object(n *Node, depth int) error {
	n.Kind = Mapping
	for r.decoder.More() {
		name, err := r.token()
		if err != nil {
			return err
		}
		line := r.lineHere()
		value, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.Fields = append(n.Fields, Field{fmt.Sprint(name), line, value})
	}
	_, err := r.token() // the closing brace
	return err
}

// token is the next token. The end of the text is an error.
func (r *jsonReader) token() (json.Token, error) {
	token, err := r.decoder.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return token, err
}

func (r *jsonReader) end() error {
	if _, err := r.decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one value")
	}
	return nil
}
