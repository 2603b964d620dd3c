package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/measure"
)

// table is a table of the page.
type table struct {
	name string // by which the page knows it
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// String is the table as Markdown.
func (t *table) String() string {
	var b strings.Builder
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(t.head)
	line(strings.Split(strings.Repeat("---,", len(t.head)-1)+"---", ","))
	for _, row := range t.rows {
		line(row)
	}
	return b.String()
}

// begins and ends are the comments of the page around a table.
func (t *table) begins() string { return "<!-- far: " + t.name + " -->\n" }

const ends = "<!-- end -->\n"

// show prints a table, and puts it into the page if there is one.
func (m *measurer) show(t *table) error {
	if _, err := fmt.Fprintf(m.out, "%s%s%s\n", t.begins(), t, ends); err != nil || m.page == "" {
		return err
	}
	text, err := os.ReadFile(m.page)
	if err != nil {
		return err
	}
	replaced, err := replace(string(text), t)
	if err != nil {
		return fmt.Errorf("%s: %w", m.page, err)
	}
	return os.WriteFile(m.page, []byte(replaced), 0o644)
}

// replace puts the table in the place of the one of its name.
func replace(page string, t *table) (string, error) {
	before, rest, ok := strings.Cut(page, t.begins())
	if !ok {
		return "", fmt.Errorf("the page has no comment %q", strings.TrimSpace(t.begins()))
	}
	_, after, ok := strings.Cut(rest, ends)
	if !ok {
		return "", errors.New("the last table of the page has no end")
	}
	return before + t.begins() + t.String() + ends + after, nil
}

// none is the cell of what was not measured.
const none = "–"

func timeText(d time.Duration) string {
	if d <= 0 {
		return none
	}
	return measure.FormatTime(float64(d))
}

func bytesText(bytes int64) string {
	if bytes <= 0 {
		return none
	}
	return measure.Format(float64(bytes), 1024, "B", "KiB", "MiB", "GiB")
}

// countText groups the digits of a count by thousands.
func countText(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func rateText(n int, took time.Duration) string {
	if took <= 0 {
		return none
	}
	return countText(int(float64(n)/took.Seconds())) + "/s"
}
