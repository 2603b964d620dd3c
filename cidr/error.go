package cidr

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/ipalloc/ipalloc/internal/sentinel"
)

// ParseError describes a text that cannot be parsed. Every error that this package returns is a *ParseError; use
// [errors.As] to get it from an error that wraps it.
//
// The zero value describes nothing. A ParseError may be copied. Nothing in this package changes one after returning it.
type ParseError struct {
	// Input is the text, in full.
	Input string
	// Rule is the rule that the text breaks. It quotes the part of the text that breaks the rule, if it is not the
	// whole.
	Rule string
	// Want is the corrected text, quoted, or a description of a correct text with an example.
	Want string
}

// Error returns a message of one line with the input, the rule and what is wanted. It quotes no more than the first 100
// bytes of the input.
func (e *ParseError) Error() string {
	return fmt.Sprintf("cannot parse %s: %s; want %s", quote(e.Input), e.Rule, e.Want)
}

// Is reports that the error matches the ErrInvalid of packages allocator, pool and store.
func (e *ParseError) Is(target error) bool { return target == sentinel.ErrInvalid }

// quote returns text in quotes. It cuts a long text and adds its length.
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

// in sets the input of e and returns it as an error.
func (e *ParseError) in(text string) error {
	e.Input = text
	return e
}
