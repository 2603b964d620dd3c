// Package csv reads addresses in use from a table of comma-separated values (RFC 4180), such as one from a spreadsheet.
//
// The first line has the names of the columns, in any order:
//
//	owner              who has it; not empty
//	prefixes           addresses and prefixes, with commas or spaces between them; also called address or prefix
//	expires            when the lease ends, as RFC 3339 writes a time; empty for never
//	scope              the scope of the claim
//	labels             NAME=VALUE, with commas between them
//	label.NAME         the value of one label; empty for none
//	pool, state, generation, created, child
//	                   are in what ipalloc owners -o csv prints, and are not read
//
// So it reads what ipalloc owners -o csv prints. A row whose state is other than "allocated" is left out: it is only
// reserved. Any other column is an error. A text may begin with a byte order mark.
package csv

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/input"
)

// The columns.
const (
	owner     = "owner"
	prefixes  = "prefixes"
	expires   = "expires"
	scope     = "scope"
	labels    = "labels"
	state     = "state"
	labelOf   = "label."
	allocated = "allocated"
)

// synonyms are other names of columns.
var synonyms = map[string]string{"address": prefixes, "prefix": prefixes, "addresses": prefixes}

// known are the columns that are read, and those that are passed over.
var known = []string{owner, prefixes, expires, scope, labels, state, "pool", "generation", "created", "child"}

// Read returns the rows in their order. Cost: O(1) of memory.
func Read(r io.ReadSeeker) adopt.Entries {
	return input.Stream(func(yield func(adopt.Entry) error) error {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return err
		}
		reader := csv.NewReader(r)
		reader.ReuseRecord = true
		t := table{columns: map[string]int{}}
		for first := true; ; first = false {
			fields, err := reader.Read()
			if errors.Is(err, io.EOF) && !first {
				return nil
			}
			if err != nil {
				return wrong(err)
			}
			n, _ := reader.FieldPos(0)
			if first {
				err = t.header(fields)
			} else {
				err = t.row(n, fields, yield)
			}
			if err != nil {
				return err
			}
		}
	})
}

// wrong is an error of the text with its place, and one of reading as it is.
func wrong(err error) error {
	var parse *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return input.Invalid(input.AtLine(1), "the names of the columns are missing")
	case errors.As(err, &parse):
		return input.Invalid(input.AtLine(parse.Line), "%w", parse.Err)
	}
	return err
}

// table is what the first line says.
type table struct {
	columns map[string]int
	labels  []string // columns that begin with "label."
	fields  []string // of the current row
}

func (t *table) header(names []string) error {
	for i, name := range names {
		name = strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))
		if other, ok := synonyms[name]; ok {
			name = other
		}
		isLabel := strings.HasPrefix(name, labelOf) && len(name) > len(labelOf)
		if !isLabel && !slices.Contains(known, name) {
			return input.Invalid(input.AtLine(1), "%s is no column, want of: %s, label.NAME", input.Quote(name),
				strings.Join(known, ", "))
		}
		if _, twice := t.columns[name]; twice {
			return input.Invalid(input.AtLine(1), "the column %s is there twice", input.Quote(name))
		}
		t.columns[name] = i
		if isLabel {
			t.labels = append(t.labels, name)
		}
	}
	for _, name := range []string{owner, prefixes} {
		if _, ok := t.columns[name]; !ok {
			return input.Invalid(input.AtLine(1), "there is no column %q", name)
		}
	}
	return nil
}

// field is the field of a column in the current row, in memory of its own; empty if there is no such column.
func (t *table) field(name string) string {
	if i, ok := t.columns[name]; ok {
		return strings.Clone(t.fields[i])
	}
	return ""
}

func (t *table) row(n int, fields []string, yield func(adopt.Entry) error) error {
	t.fields = fields
	if s := t.field(state); s != "" && s != allocated {
		return nil
	}
	e := adopt.Entry{Owner: t.field(owner), Scope: t.field(scope), At: input.AtLine(n)}
	var err error
	if e.Owner == "" {
		return input.Invalid(e.At, "there is no owner")
	}
	if e.Prefixes, err = prefixesOf(t.field(prefixes)); err == nil {
		e.Ends, err = endsOf(t.field(expires))
	}
	if err == nil {
		e.Labels, err = t.labelsOf()
	}
	if err != nil {
		return input.Invalid(e.At, "%w", err)
	}
	return yield(e)
}

func prefixesOf(text string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, one := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", ;", r) }) {
		prefix, err := input.Prefix(one)
		if err != nil {
			return nil, err
		}
		all = append(all, prefix)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no address")
	}
	return all, nil
}

func endsOf(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is no time, want one such as 2026-11-22T20:36:05Z", input.Quote(text))
	}
	return at, nil
}

func (t *table) labelsOf() (map[string]string, error) {
	var all map[string]string
	set := func(name, value string) {
		if all == nil {
			all = map[string]string{}
		}
		all[name] = value
	}
	if text := t.field(labels); text != "" {
		for part := range strings.SplitSeq(text, ",") {
			name, value, ok := strings.Cut(part, "=")
			if !ok || name == "" {
				return nil, fmt.Errorf("the label %s is not NAME=VALUE", input.Quote(part))
			}
			set(name, value)
		}
	}
	for _, column := range t.labels {
		if value := t.field(column); value != "" {
			set(strings.TrimPrefix(column, labelOf), value)
		}
	}
	return all, nil
}
