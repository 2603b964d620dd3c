// Package markdown finds the fenced blocks of a Markdown file, for the checks of what the documentation shows.
package markdown

import "strings"

// Block is a fenced block.
type Block struct {
	Line     int    // of the opening fence, counted from 1
	Language string // the first word behind the opening fence, such as go, sh or text
	Text     string // without the fences; it ends with a newline, unless it is empty
	Indent   string // the spaces before each line, which Text has not
	Before   string // the line above the opening fence
}

// Blocks returns the fenced blocks of a file, in order. A block may be indented, as in a list. Its fence is of three
// backquotes or more.
func Blocks(text string) []Block {
	var found []Block
	var b Block
	var fence, before string // the fence of the block that we are in, empty outside; the line before
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimLeft(line, " ")
		rest := strings.TrimLeft(trimmed, "`")
		ticks := trimmed[:len(trimmed)-len(rest)]
		rest = strings.TrimSpace(rest)
		switch {
		case fence == "" && len(ticks) >= 3:
			fence = ticks
			language, _, _ := strings.Cut(rest, " ")
			b = Block{Line: i + 1, Language: language, Indent: line[:len(line)-len(trimmed)], Before: before}
		case fence != "" && len(ticks) >= len(fence) && rest == "":
			found = append(found, b)
			fence = ""
		case fence != "":
			b.Text += strings.TrimPrefix(line, b.Indent) + "\n"
		}
		before = line
	}
	return found
}
