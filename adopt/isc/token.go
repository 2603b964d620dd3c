package isc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/ipalloc/ipalloc/adopt/internal/input"
)

// statement is what ends with a semicolon, or with the brace that opens a block, or the brace that closes one.
type statement struct {
	words []word
	end   byte // ';', '{' or '}'
	line  int  // where it begins
}

// word is a word or a string of a statement.
type word struct {
	text   string // of a string its bytes
	quoted bool
}

// is reports whether the statement begins with these words.
func (s statement) is(words ...string) bool {
	if len(s.words) < len(words) {
		return false
	}
	for i, w := range words {
		if s.words[i].quoted || s.words[i].text != w {
			return false
		}
	}
	return true
}

// word is the text of the i-th word; empty if there is none.
func (s statement) word(i int) string {
	if i < len(s.words) {
		return s.words[i].text
	}
	return ""
}

func (s statement) invalid(format string, args ...any) error {
	return input.Invalid(input.AtLine(s.line), format, args...)
}

// scanner reads statements.
type scanner struct {
	in   *bufio.Reader
	line int
	size int // bytes of the statement
}

func newScanner(r io.ReadSeeker) (*scanner, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return &scanner{in: bufio.NewReader(r), line: 1}, nil
}

func (s *scanner) invalid(format string, args ...any) error {
	return input.Invalid(input.AtLine(s.line), format, args...)
}

// read returns the next byte.
func (s *scanner) read() (byte, error) {
	b, err := s.in.ReadByte()
	if err != nil {
		return 0, err
	}
	if b == '\n' {
		s.line++
	}
	if s.size++; s.size > input.MaxLine {
		return 0, s.invalid("a statement is longer than %d bytes", input.MaxLine)
	}
	return b, nil
}

// next returns the next statement. After the last one the error is io.EOF.
func (s *scanner) next() (statement, error) {
	var st statement
	s.size = 0
	for {
		b, err := s.read()
		switch {
		case errors.Is(err, io.EOF) && len(st.words) > 0:
			return st, st.invalid("the end of the file is within %s", input.Quote(st.word(0)))
		case err != nil:
			return st, err
		case b == ' ' || b == '\t' || b == '\r' || b == '\n':
		case b == '#':
			if err := s.skipComment(); err != nil {
				return st, err
			}
		case b == ';' && len(st.words) == 0:
		case b == ';' || b == '{' || b == '}':
			if len(st.words) == 0 {
				st.line = s.line
			} else if b == '}' {
				return st, st.invalid("%s has no semicolon", input.Quote(st.word(0)))
			}
			st.end = b
			return st, nil
		default:
			if len(st.words) == 0 {
				st.line = s.line
			}
			w, err := s.word(b)
			if err != nil {
				return st, err
			}
			st.words = append(st.words, w)
		}
	}
}

// skipComment reads up to the end of the line. A comment may be as long as it likes.
func (s *scanner) skipComment() error {
	for {
		b, err := s.in.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if b == '\n' {
			s.line++
			return nil
		}
	}
}

// word reads the rest of a word or a string that begins with b.
func (s *scanner) word(b byte) (word, error) {
	if b == '"' {
		text, err := s.text()
		return word{text, true}, err
	}
	text := []byte{b}
	for {
		b, err := s.read()
		if errors.Is(err, io.EOF) {
			return word{string(text), false}, nil
		}
		if err != nil {
			return word{}, err
		}
		switch b {
		case ' ', '\t', '\r', '\n', ';', '{', '}', '#', '"':
			s.unread(b)
			return word{string(text), false}, nil
		}
		text = append(text, b)
	}
}

func (s *scanner) unread(b byte) {
	_ = s.in.UnreadByte() // follows a read
	s.size--
	if b == '\n' {
		s.line--
	}
}

// text reads a string up to its closing quote. In it, a byte may be a backslash and three octal digits, or a backslash
// and the byte.
func (s *scanner) text() (string, error) {
	var text []byte
	for {
		b, err := s.stringByte()
		switch {
		case errors.Is(err, errClosed):
			return string(text), nil
		case errors.Is(err, io.EOF):
			return "", s.invalid("a string has no closing quote")
		case err != nil:
			return "", err
		}
		text = append(text, b)
	}
}

var errClosed = errors.New("closing quote")

func (s *scanner) stringByte() (byte, error) {
	b, err := s.read()
	if err != nil {
		return 0, err
	}
	if b == '"' {
		return 0, errClosed
	}
	if b != '\\' {
		return b, nil
	}
	if b, err = s.read(); err != nil || b < '0' || b > '7' {
		return b, err
	}
	digits := []byte{b, 0, 0}
	for i := 1; i < len(digits); i++ {
		if digits[i], err = s.read(); err != nil {
			return 0, err
		}
	}
	n, err := strconv.ParseUint(string(digits), 8, 8)
	if err != nil {
		return 0, s.invalid("%q is no byte, want three octal digits", fmt.Sprintf(`\%s`, digits))
	}
	return byte(n), nil
}
