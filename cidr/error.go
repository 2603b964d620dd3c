package cidr

import "fmt"

// ParseError says why a text was refused. Every error of this package is one, as a pointer; find it with
// [errors.As]. Copy it as you like; nothing changes it later.
type ParseError struct {
	// Input is the whole text.
	Input string
	// Rule is the rule that it breaks; if that is a rule for a part of the text, with the part quoted.
	Rule string
	// Want is what would be right: the corrected text, quoted, where there is one, else a description with
	// an example.
	Want string
}

// Error quotes the input, names the rule and says what would be right, on one line.
func (e *ParseError) Error() string {
	return fmt.Sprintf("cannot parse %q: %s; want %s", e.Input, e.Rule, e.Want)
}

// in completes a fault with the text that it was found in.
func (e *ParseError) in(text string) error {
	e.Input = text
	return e
}
