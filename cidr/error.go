package cidr

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

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

// Error returns a message of one line that quotes the input, names the rule and says what would be right. Of an input
// longer than 100 bytes it quotes the beginning.
func (e *ParseError) Error() string {
	return fmt.Sprintf("cannot parse %s: %s; want %s", quote(e.Input), e.Rule, e.Want)
}

// quote quotes a text, or the beginning of one that is long.
func quote(text string) string {
	const most = 100
	if len(text) <= most {
		return strconv.Quote(text)
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return fmt.Sprintf("%q... (%d bytes)", text[:end], len(text))
}

// in completes a fault with the text that it was found in.
func (e *ParseError) in(text string) error {
	e.Input = text
	return e
}
