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

// parseJSON returns the one value in a text of JSON.
func parseJSON(data []byte) (*Node, *config.FieldError) {
	r := jsonReader{data: data, line: 1, decoder: json.NewDecoder(bytes.NewReader(data))}
	r.decoder.UseNumber()
	root, err := r.value(0)
	if err == nil {
		err = r.end()
	}
	if err != nil {
		rule := "the text is not JSON: " + clause(oneLine(err.Error()))
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
	n := &Node{line: r.lineHere()}
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
		n.kind, n.text = text, t
	case json.Number:
		n.kind, n.text = number, t.String()
	case bool:
		n.kind, n.text = boolean, fmt.Sprint(t)
	default:
		n.kind, n.text = null, "null"
	}
	return n, nil
}

func (r *jsonReader) list(n *Node, depth int) error {
	n.kind = list
	for r.decoder.More() {
		item, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
	_, err := r.token() // the closing bracket
	return err
}

func (r *jsonReader) object(n *Node, depth int) error {
	n.kind = object
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
		n.fields = append(n.fields, field{fmt.Sprint(name), line, value})
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
