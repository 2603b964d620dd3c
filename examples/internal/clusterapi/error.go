package clusterapi

import "fmt"

// FieldError says which field of a pool is wrong, and why.
//
// It is returned as a pointer; find it with [errors.As]. It may be copied, and nothing changes it later.
type FieldError struct {
	// Line is the line in the YAML, from 1 on; 0 if there is none to point at.
	Line int
	// Field is the path of the field, such as spec.addresses[2]; empty if it is the document itself.
	Field string
	// Value is the text in the field, quoted; empty if it is missing or not text.
	Value string
	// Rule is the rule that it breaks, to be read after Value.
	Rule string
	// Want is what would be right; empty if Rule says so.
	Want string
}

// Error returns, for example: spec.prefix: "33" is out of range, want 0 to 32.
func (e *FieldError) Error() string {
	text := e.Rule
	if e.Value != "" {
		text = fmt.Sprintf("%s %s", e.Value, e.Rule)
	}
	if e.Field != "" {
		text = fmt.Sprintf("%s: %s", e.Field, text)
	}
	if e.Want != "" {
		text += ", want " + e.Want
	}
	return text
}
