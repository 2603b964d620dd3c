package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// writeTable writes the results as Markdown: a table a group, with a column for each subject that
// has a figure or a reason in it.
func writeTable(w io.Writer, r Results) {
	fmt.Fprintf(w, "# Benchmarks\n\n%s\n", introduction(r))
	if r.Quick {
		fmt.Fprint(w, "\n**This is a -quick run: sizes are cut, and the figures mean nothing.**\n")
	}
	if r.Missing > 0 {
		fmt.Fprintf(w, "\n**This run did not come to its end: %d rows are missing.**\n", r.Missing)
	}
	for _, group := range groups(r) {
		writeGroup(w, r, group)
	}
	writeSubjects(w, r)
}

func introduction(r Results) string {
	return fmt.Sprintf("%s, %d cores, %s/%s, %s; %s, in %s. "+
		"Each figure is the median of rounds in which the columns of a row take turns, "+
		"with half of the distance between the quartiles behind ±. A letter says why there is no figure.",
		r.Machine.CPU, r.Machine.Cores, r.Machine.OS, r.Machine.Arch, r.Machine.Go, r.Taken.Format("2006-01-02"), r.Took)
}

// groups are the headings, in the order of their first rows.
func groups(r Results) []string {
	var all []string
	for _, row := range r.Rows {
		if !slices.Contains(all, row.Group) {
			all = append(all, row.Group)
		}
	}
	return all
}

func writeGroup(w io.Writer, r Results, group string) {
	rows := slices.DeleteFunc(slices.Clone(r.Rows), func(row Row) bool { return row.Group != group })
	names := columnsOf(r, rows)
	fmt.Fprintf(w, "\n## %s\n\n| | %s |\n|---%s|\n", group, strings.Join(names, " | "),
		strings.Repeat("|---:", len(names)))
	var reasons footnotes
	for _, row := range rows {
		fmt.Fprintf(w, "| %s |", strings.ReplaceAll(row.Name, "|", "\\|"))
		for _, name := range names {
			fmt.Fprintf(w, " %s |", reasons.cell(row, name))
		}
		fmt.Fprintln(w)
	}
	reasons.write(w)
}

// columnsOf are the subjects that have a figure in any of the rows.
func columnsOf(r Results, rows []Row) []string {
	var names []string
	for _, s := range r.Subjects {
		if slices.ContainsFunc(rows, func(row Row) bool { return has(row, s.Name) }) {
			names = append(names, s.Name)
		}
	}
	return names
}

// has reports whether a subject belongs into a row's table: it has a figure, or tried and could not.
func has(row Row, name string) bool {
	cell, ok := row.Cells[name]
	return ok && cell.Missing != noSuchThing
}

// noSuchThing is the reason of a subject that does not do that kind of work at all.
const noSuchThing = "has no such thing"

// footnotes are the reasons in a table, by letter.
type footnotes []string

// cell is the text of a cell.
func (f *footnotes) cell(row Row, name string) string {
	cell, ok := row.Cells[name]
	switch {
	case !ok || cell.Missing == noSuchThing:
		return ""
	case strings.HasPrefix(cell.Missing, "over "):
		return "> " + strings.TrimSuffix(strings.TrimPrefix(cell.Missing, "over "), "0s")
	case cell.Missing != "":
		return "– " + f.letter(cell.Missing)
	}
	text := format(cell.Median, row.Unit)
	if isOurs(name) {
		text = "**" + text + "**"
	}
	text += " " + formatSpread(cell)
	if cell.Allocs > 0 {
		text += fmt.Sprintf(", %.0f allocs", cell.Allocs)
	}
	if cell.Note != "" {
		text += " " + f.letter(cell.Note)
	}
	return text
}

func (f *footnotes) letter(text string) string {
	i := slices.Index(*f, text)
	if i < 0 {
		i = len(*f)
		*f = append(*f, text)
	}
	return fmt.Sprintf("(%s)", letters(i))
}

// letters are a to z, then aa to az, and so on.
func letters(i int) string {
	if i >= 26 {
		return letters(i/26-1) + letters(i%26)
	}
	return string(rune('a' + i))
}

func (f footnotes) write(w io.Writer) {
	if len(f) > 0 {
		fmt.Fprintln(w)
	}
	for i, text := range f {
		fmt.Fprintf(w, "- (%s) %s\n", letters(i), text)
	}
}

func writeSubjects(w io.Writer, r Results) {
	fmt.Fprint(w, "\n## What is compared\n\n| | version | what of it | order | differences |\n|---|---|---|---|---|\n")
	for _, s := range r.Subjects {
		version := s.Version
		switch {
		case s.Module == ourModule:
			version = "this repository"
		case version == "":
			version = "–"
		}
		note := s.Note
		if s.Absent != "" {
			note = "**not measured**: " + s.Absent
		}
		fmt.Fprintf(w, "| %s | `%s` %s | %s | %s | %s |\n", s.Name, s.Module, version, s.Package, s.Order, note)
	}
}

const ourModule = "github.com/ipalloc/ipalloc"
