package view

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// printable returns a name in a form that is safe to show. Unprintable characters, such as line breaks,
// escape sequences and marks that change the direction of text, are written as in Go, and so is a
// backslash. Different names stay different.
func printable(name string) string {
	quoted := strconv.Quote(name)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// short is printable with at most n characters.
func short(name string, n int) string {
	text := printable(name)
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}
