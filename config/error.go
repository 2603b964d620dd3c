package config

import "strconv"

// FieldError says which field of a configuration is wrong, and why.
//
// The readers return it as a pointer, joined with others by [errors.Join]; see [FieldErrors]. The zero FieldError is
// not useful. A FieldError may be copied and used concurrently; the readers do not change it later.
type FieldError struct {
	// File is the file that was read; empty if there was none.
	File string
	// Line is the line in the text, counted from 1; 0 if there is none.
	Line int
	// Field is the path of the field, such as spec.addresses[2]; empty if it is the document itself.
	Field string
	// Value is the text in the field, quoted and cut to 80 bytes; empty if the field is missing or not a single value.
	Value string
	// Rule is the rule that it breaks, in words that follow Value.
	Rule string
	// Want is what would be right; empty if Rule says so.
	Want string
	// Err is the error of the package that checks the rule, such as a [*cidr.ParseError]; nil if there is none.
	//
	// [*cidr.ParseError]: https://pkg.go.dev/github.com/ipalloc/ipalloc/cidr#ParseError
	Err error
}

// Error returns, for example: pool.yaml:6: spec.prefix: "33" is out of range, want 1 to 32.
func (e *FieldError) Error() string {
	text := e.Rule
	if e.Value != "" {
		text = e.Value + " " + text
	}
	if e.Field != "" {
		text = e.Field + ": " + text
	}
	if e.Want != "" {
		text += ", want " + e.Want
	}
	switch {
	case e.File != "" && e.Line > 0:
		return e.File + ":" + strconv.Itoa(e.Line) + ": " + text
	case e.File != "":
		return e.File + ": " + text
	}
	return text
}

// Unwrap returns Err.
func (e *FieldError) Unwrap() error { return e.Err }

// FieldErrors returns the field errors that a reader's error joins, in order; nil if there are none. The error may be
// wrapped.
func FieldErrors(err error) []*FieldError {
	switch e := err.(type) { //nolint:errorlint // walks the tree of errors itself, to find all of them
	case *FieldError:
		return []*FieldError{e}
	case interface{ Unwrap() []error }:
		var all []*FieldError
		for _, one := range e.Unwrap() {
			all = append(all, FieldErrors(one)...)
		}
		return all
	case interface{ Unwrap() error }:
		return FieldErrors(e.Unwrap())
	}
	return nil
}
