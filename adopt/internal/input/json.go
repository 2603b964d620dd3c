package input

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// JSON reads a text of one or several JSON values step by step, so that a long list need not be in memory.
type JSON struct {
	decoder *json.Decoder
	from    *watched
}

// watched keeps the error of a reader, so that it can be told from one of the text.
type watched struct {
	io.Reader
	err error
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// NewJSON begins at the beginning of r.
func NewJSON(r io.ReadSeeker) (*JSON, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	from := &watched{Reader: r}
	return &JSON{decoder: json.NewDecoder(from), from: from}, nil
}

// OneOrList reads a text that is one value, or a list of values. It calls item for each, which must read it, and is
// told whether it is in a list.
func OneOrList(r io.ReadSeeker, item func(j *JSON, inList bool) error) error {
	isList, err := Begins(r, "[")
	if err != nil {
		return err
	}
	j, err := NewJSON(r)
	if err != nil {
		return err
	}
	each := func() error { return item(j, isList) }
	if isList {
		err = j.List(each)
	} else {
		err = each()
	}
	if err != nil {
		return err
	}
	return j.End()
}

// More reports whether there is another value in the text.
func (j *JSON) More() bool { return j.decoder.More() }

// End requires that there is nothing more in the text.
func (j *JSON) End() error {
	_, err := j.decoder.Token()
	switch {
	case j.from.err == nil && errors.Is(err, io.EOF):
		return nil
	case err == nil:
		err = errors.New("there is more behind the end")
	}
	return j.failed(err)
}

// Value decodes the next value.
func (j *JSON) Value(into any) error {
	if err := j.decoder.Decode(into); err != nil {
		return j.failed(err)
	}
	return nil
}

// Object reads the next value, which must be an object or null. It calls field for each member, which must read the
// value.
func (j *JSON) Object(field func(name string) error) error {
	return j.inside('{', "an object", func() error {
		name, err := j.decoder.Token()
		if err != nil {
			return j.failed(err)
		}
		return field(fmt.Sprint(name))
	})
}

// List reads the next value, which must be a list or null. It calls item for each item, which must read the value.
func (j *JSON) List(item func() error) error { return j.inside('[', "a list", item) }

func (j *JSON) inside(opening json.Delim, what string, each func() error) error {
	token, err := j.decoder.Token()
	if err != nil {
		return j.failed(err)
	}
	if token == nil {
		return nil
	}
	if token != opening {
		return j.failed(fmt.Errorf("%s is not %s", Quote(fmt.Sprint(token)), what))
	}
	for j.decoder.More() {
		if err := each(); err != nil {
			return err
		}
	}
	if _, err := j.decoder.Token(); err != nil { // the closing bracket
		return j.failed(err)
	}
	return nil
}

// failed is an error of reading as it is, and any other one with its place.
func (j *JSON) failed(err error) error {
	switch {
	case j.from.err != nil:
		return j.from.err
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return Invalid(fmt.Sprintf("byte %d", j.decoder.InputOffset()), "%w", err)
}
