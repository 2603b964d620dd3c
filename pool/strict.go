package pool

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// unmarshalStrict is [json.Unmarshal] for text that somebody else may have written. It also refuses, with an error that
// wraps [ErrInvalid], what that passes over: members that into has not, or has in another case; a member that is there
// twice; and text that is not UTF-8, or has half a surrogate pair, which would become U+FFFD. What has an UnmarshalJSON
// of its own looks for its unknown members itself. Errors quote little. Cost: O(len(text)).
func unmarshalStrict(text []byte, into any) error {
	if json.Valid(text) {
		s := strict{text: text, members: map[reflect.Type]map[string]reflect.Type{}}
		if err := s.value(reflect.TypeOf(into)); err != nil {
			return err
		}
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, shortened{err})
	}
	return nil
}

// strict walks over text that is valid JSON.
type strict struct {
	text    []byte
	at      int
	path    []jsonStep // to the value at which it is
	members map[reflect.Type]map[string]reflect.Type
}

// jsonStep leads to a member of an object, by its name, or of a list, by its index.
type jsonStep struct {
	name  string
	index int
}

// value passes the next value, which is to be read into a t; nil for one of which the members are not known.
func (s *strict) value(t reflect.Type) error {
	t = plain(t)
	switch s.next() {
	case '{':
		return s.object(t)
	case '[':
		return s.array(t)
	case '"':
		_, err := s.str()
		return err
	}
	for s.at < len(s.text) && !strings.ContainsRune(",]} \t\r\n", rune(s.text[s.at])) {
		s.at++
	}
	return nil
}

// next skips white space, and returns the byte that follows.
func (s *strict) next() byte {
	for strings.IndexByte(" \t\r\n", s.text[s.at]) >= 0 {
		s.at++
	}
	return s.text[s.at]
}

// more enters the list that begins at the present byte, or goes on behind one of its members. It reports whether there
// is another one, and passes the end of the list if not.
func (s *strict) more(end byte) bool {
	c := s.next()
	if c != end {
		if c == ',' || c == end-2 { // '[' and '{' come two before ']' and '}'
			s.at++
		}
		c = s.next()
	}
	if c == end {
		s.at++
	}
	return c != end
}

func (s *strict) array(t reflect.Type) error {
	if t != nil && t.Kind() == reflect.Slice {
		t = t.Elem()
	} else {
		t = nil
	}
	for i := 0; s.more(']'); i++ {
		if err := s.in(jsonStep{index: i}, t); err != nil {
			return err
		}
	}
	return nil
}

func (s *strict) object(t reflect.Type) error {
	known, seen := s.membersOf(t), map[string]bool{}
	for s.more('}') {
		name, err := s.str()
		if err != nil {
			return err
		}
		member, ok := known[name]
		switch {
		case seen[name]:
			return s.invalid("the member %q is there twice, want it once", name)
		case known != nil && !ok:
			return s.invalid("the member %q is not known, want one of %s",
				name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		seen[name] = true
		s.next() // the colon
		s.at++
		if err := s.in(jsonStep{name, -1}, member); err != nil {
			return err
		}
	}
	return nil
}

// in passes a member of a list or an object.
func (s *strict) in(to jsonStep, t reflect.Type) error {
	s.path = append(s.path, to)
	err := s.value(t)
	s.path = s.path[:len(s.path)-1]
	return err
}

// str passes a string, and returns it.
func (s *strict) str() (string, error) {
	s.next()
	begin, escaped := s.at, false
	for s.at++; s.text[s.at] != '"'; s.at++ {
		if s.text[s.at] != '\\' {
			continue
		}
		escaped = true
		if s.at++; s.text[s.at] != 'u' {
			continue
		}
		if !s.escape() {
			return "", s.invalid("after %q comes %s, half of a surrogate pair, want a character",
				s.text[begin+1:s.at-1], s.text[s.at-1:s.at+5])
		}
	}
	s.at++
	raw := s.text[begin+1 : s.at-1]
	if !utf8.Valid(raw) {
		return "", s.invalid("%q is not UTF-8", raw)
	}
	if !escaped {
		return string(raw), nil
	}
	var text string
	err := json.Unmarshal(s.text[begin:s.at], &text)
	return text, err
}

// escape passes the u and three digits of an escaped character, and all of a surrogate pair but its last digit. It
// reports whether it is a character. If not, it stays at the u.
func (s *strict) escape() bool {
	const digits = 4
	first, _ := strconv.ParseUint(string(s.text[s.at+1:s.at+1+digits]), 16, 16)
	if !utf16.IsSurrogate(rune(first)) {
		s.at += digits
		return true
	}
	rest, ok := strings.CutPrefix(string(s.text[s.at+1+digits:min(len(s.text), s.at+3+2*digits)]), `\u`)
	if !ok || len(rest) < digits {
		return false
	}
	second, err := strconv.ParseUint(rest, 16, 16)
	if err != nil || utf16.DecodeRune(rune(first), rune(second)) == utf8.RuneError {
		return false
	}
	s.at += 2*digits + 2
	return true
}

// invalid is an error about the value at which it is.
func (s *strict) invalid(format string, args ...any) error {
	if len(s.path) == 0 {
		return invalid(format, args...)
	}
	var at strings.Builder
	for _, to := range s.path {
		if to.index >= 0 {
			fmt.Fprintf(&at, "[%d]", to.index)
		} else {
			fmt.Fprintf(&at, "[%q]", brief(to.name))
		}
	}
	return invalid("at %s: %w", at.String(), errorf(format, args...))
}

// membersOf returns the members of a struct, or nil if anything may be one.
func (s *strict) membersOf(t reflect.Type) map[string]reflect.Type {
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	if s.members[t] == nil {
		s.members[t] = map[string]reflect.Type{}
		for _, field := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			s.members[t][name] = field.Type
		}
	}
	return s.members[t]
}

var (
	readsJSON = reflect.TypeFor[json.Unmarshaler]()
	readsText = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// plain is the type to which pointers of type t lead, or nil if it reads itself.
func plain(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || reflect.PointerTo(t).Implements(readsJSON) || reflect.PointerTo(t).Implements(readsText) {
		return nil
	}
	return t
}
