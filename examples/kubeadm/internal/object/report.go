package object

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/ipalloc/ipalloc/config"
)

// maxErrors is how many errors a report keeps.
const maxErrors = 100

// Report collects what is wrong in files. The zero Report has nothing yet. It must not be copied, and is not safe for
// concurrent use.
type Report struct {
	wrong []error
	more  int // how many errors were not kept
}

func (r *Report) add(wrong *config.FieldError) {
	same := func(err error) bool { return err.Error() == wrong.Error() }
	if slices.ContainsFunc(r.wrong, same) {
		return // looked at twice
	}
	if len(r.wrong) == maxErrors {
		r.more++
		return
	}
	r.wrong = append(r.wrong, wrong)
}

// Refuse records a fault that is not in one file.
func (r *Report) Refuse(rule, want string) { r.add(&config.FieldError{Rule: rule, Want: want}) }

// Count returns how many errors there are so far.
func (r *Report) Count() int { return len(r.wrong) + r.more }

// Err joins the errors, each a [*config.FieldError], in the order in which they were found; nil if there are none.
func (r *Report) Err() error {
	if r.more == 0 {
		return errors.Join(r.wrong...)
	}
	return errors.Join(errors.Join(r.wrong...), fmt.Errorf("there are %d more errors, which are not listed", r.more))
}

// Quote returns the text in quotes, cut to 80 bytes.
func Quote(text string) string {
	const most = 80
	if len(text) <= most {
		return strconv.Quote(text)
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return strconv.Quote(text[:end]) + "…"
}
