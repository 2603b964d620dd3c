package command

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/ipalloc/ipalloc/cmd/ipalloc/internal/specfile"
)

// The formats of the flag --output.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
	formatCSV   = "csv"
)

var formats = []string{formatTable, formatJSON, formatYAML, formatCSV}

// table is what a command prints as a table or as CSV.
type table struct {
	columns []string
	rows    [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// addShares adds a column with the share key of each row, unless there are none.
func (t *table) addShares(keys []string) {
	if !slices.ContainsFunc(keys, func(key string) bool { return key != "" }) {
		return
	}
	t.columns = append(t.columns, "share")
	for i, key := range keys {
		t.rows[i] = append(t.rows[i], key)
	}
}

// checkFormat returns an error for a format that there is not. Commands call it before they change anything.
func (a *app) checkFormat() error {
	if !slices.Contains(formats, a.output) {
		return usagef("the output format is %q, want one of: %s", a.output, strings.Join(formats, ", "))
	}
	return nil
}

// print prints the value as JSON or YAML, or the table.
func (a *app) print(value any, t table) error {
	switch a.output {
	case formatJSON:
		encoder := json.NewEncoder(a.stdout)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(value)
	case formatYAML:
		return printYAML(a.stdout, value)
	case formatCSV:
		return printCSV(a.stdout, t)
	}
	return printTable(a.stdout, t)
}

func printYAML(w io.Writer, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if text, err = specfile.FromJSON(text); err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// printCSV prints a line with the names of the columns, unless there are none, and the rows; RFC 4180, with the line
// ends of Unix.
func printCSV(w io.Writer, t table) error {
	out := csv.NewWriter(w)
	if t.columns != nil {
		if err := out.Write(t.columns); err != nil {
			return err
		}
	}
	return out.WriteAll(t.rows)
}

func printTable(w io.Writer, t table) error {
	const gap = 2
	out := tabwriter.NewWriter(w, 0, 0, gap, ' ', 0)
	for i, row := range append([][]string{t.columns}, t.rows...) {
		for j, cell := range row {
			if i == 0 {
				cell = strings.ToUpper(cell)
			}
			if j > 0 {
				fmt.Fprint(out, "\t")
			}
			fmt.Fprint(out, printable(cell))
		}
		fmt.Fprintln(out)
	}
	return out.Flush()
}

// printable returns a cell of a table: quoted if it has something that a terminal may take for more than text, and a
// dash if it is empty.
func printable(cell string) string {
	switch {
	case cell == "":
		return "-"
	case strings.ContainsFunc(cell, func(r rune) bool { return !unicode.IsPrint(r) }):
		return strconv.Quote(cell)
	}
	return cell
}

// timeText is a time as tables have it: to the second, in UTC; empty for the zero time.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// labelText is labels as the flag --label takes them, in the order of their names.
func labelText(labels map[string]string) string {
	var texts []string
	for name, value := range labels {
		texts = append(texts, name+"="+value)
	}
	slices.Sort(texts)
	return strings.Join(texts, ",")
}
