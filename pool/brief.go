package pool

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

const (
	// mostQuoted is how many bytes of one text an error quotes at most.
	mostQuoted = 100
	// mostListed is how many members of one list an error names at most.
	mostListed = 5
	// mostSaid is how many bytes of the text of another package's error are shown at most.
	mostSaid = 400
)

// brief returns what an error says of a value that may be long: the beginning of a text, and the first members of a
// list. Any other value is returned as it is.
func brief(value any) any {
	switch v := value.(type) {
	case string:
		return briefText(v)
	case []byte:
		return briefText(string(v[:min(len(v), mostQuoted+1)]))
	case []string:
		return briefList(v)
	case []netip.Prefix:
		return briefList(v)
	case []netipx.IPRange:
		return briefList(v)
	case []Request:
		return briefList(v)
	case *netipx.IPSet:
		return briefList(cidr.FormatSet(v))
	default:
		return value
	}
}

// shortened is an error of another package, which may quote all that it was given.
type shortened struct{ error }

// Error returns the beginning of a long text.
func (e shortened) Error() string { return cutText(e.error.Error(), mostSaid) }

// Unwrap returns the error.
func (e shortened) Unwrap() error { return e.error }

// errorf is [fmt.Errorf] for an error that quotes what may be long.
func errorf(format string, args ...any) error {
	for i := range args {
		args[i] = brief(args[i])
	}
	return fmt.Errorf(format, args...)
}

// briefText is the beginning of a long text.
func briefText(text string) string { return cutText(text, mostQuoted) }

// cutText cuts a long text, between two characters.
func cutText(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// briefList writes a list as %v does, without most of what is in a long one.
func briefList[E any](list []E) string {
	var b strings.Builder
	for i, member := range list[:min(len(list), mostListed)] {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(briefText(fmt.Sprint(member)))
	}
	if more := len(list) - mostListed; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return "[" + b.String() + "]"
}
