package tree

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ipalloc/ipalloc/config"
)

// maxErrors is how many errors a report keeps. The text of an error is longer than what it is about, and a text may
// have very many things wrong.
const maxErrors = 100

// Report collects what is wrong in a document. The zero Report has nothing yet.
type Report struct {
	wrong []error
	more  int // how many errors were not kept
}

func (r *Report) add(wrong *config.FieldError) {
	if len(r.wrong) == maxErrors {
		r.more++
		return
	}
	r.wrong = append(r.wrong, wrong)
}

// Add records what is wrong with the document as a whole.
func (r *Report) Add(rule, want string) { r.add(&config.FieldError{Rule: rule, Want: want}) }

// Count returns how many errors there are so far. A part of a document is right if reading it does not change that.
func (r *Report) Count() int { return len(r.wrong) + r.more }

// Err joins the errors, in the order in which they were found; nil if there are none.
func (r *Report) Err() error {
	if r.more == 0 {
		return errors.Join(r.wrong...)
	}
	rest := &config.FieldError{Rule: fmt.Sprintf("there are %d more errors, which are not listed", r.more)}
	return errors.Join(append(r.wrong[:len(r.wrong):len(r.wrong)], rest)...)
}

// Quote is the text in quotes, cut if it is too long for a message.
func Quote(text string) string {
	const most = 80
	if short := cut(text, most); len(short) < len(text) {
		return strconv.Quote(short) + "…"
	}
	return strconv.Quote(text)
}

// Clause is a part of a message of another package, without line breaks and other control characters, and cut if it is
// too long.
func Clause(text string) string {
	words := strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
	text = strings.Join(words, " ")
	const most = 240
	if short := cut(text, most); len(short) < len(text) {
		return short + "…"
	}
	return text
}

// cut is the text, or the beginning of it that has at most so many bytes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for end := most; end > most-utf8.UTFMax; end-- {
		if utf8.RuneStart(text[end]) {
			return text[:end]
		}
	}
	return text[:most]
}
