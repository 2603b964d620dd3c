package view

import (
	"fmt"
	"strings"
)

// segmentOf returns a name as one segment of a path, of letters, digits, "-", "_" and "~" only, so
// that no router, proxy or browser misreads it. Every other byte is ~ and two hexadecimal digits.
// Different names have different segments.
func segmentOf(name string) string {
	if name == "" {
		return "~"
	}
	var b strings.Builder
	for _, c := range []byte(name) {
		if plain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "~%02X", c)
		}
	}
	return b.String()
}

func plain(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_'
}

// nameOf is the inverse of segmentOf: it is false for what that does not return.
func nameOf(segment string) (string, bool) {
	if segment == "~" {
		return "", true
	}
	var b strings.Builder
	for i := 0; i < len(segment); i++ {
		c := segment[i]
		if c == '~' {
			var ok bool
			if c, ok = hexByte(segment[i+1:]); !ok {
				return "", false
			}
			i += 2
		}
		b.WriteByte(c)
	}
	name := b.String()
	return name, name != "" && segmentOf(name) == segment
}

// hexByte returns the byte that two upper-case hexadecimal digits at the start of s stand for.
func hexByte(s string) (byte, bool) {
	const digits = "0123456789ABCDEF"
	if len(s) < 2 {
		return 0, false
	}
	high, low := strings.IndexByte(digits, s[0]), strings.IndexByte(digits, s[1])
	return byte(high<<4 | low), high >= 0 && low >= 0
}
