package kea

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/client"
	"github.com/ipalloc/ipalloc/adopt/internal/input"
)

// required are the columns that every file has.
var required = []string{"address", "valid_lifetime", "expire", "state"}

// row is a line of a file: its fields, and where each column is.
type row struct {
	n       int
	fields  []string
	columns map[string]int
}

func readCSV(r io.ReadSeeker) adopt.Entries {
	walk := func(yield func(netip.Prefix, row) error) error { return rows(r, yield) }
	return input.Last(walk, func(_ netip.Prefix, r row) (adopt.Entry, bool, error) {
		l, err := r.lease()
		if err != nil {
			return adopt.Entry{}, false, r.invalid(err)
		}
		e, ok, err := l.entry()
		if err != nil {
			return adopt.Entry{}, false, r.invalid(err)
		}
		e.At = input.AtLine(r.n)
		return e, ok, nil
	})
}

// rows reads the lines. Kea writes no quotes, and &#x2c for a comma, so a comma always ends a field. A quote is one
// that a database's export has around a field; only what people write may have it, which is at the end of the line and
// not read.
func rows(r io.ReadSeeker, yield func(netip.Prefix, row) error) error {
	var columns map[string]int
	err := input.Lines(r, func(n int, line string) (err error) {
		if line == "" {
			return nil
		}
		fields := strings.Split(line, ",")
		if columns == nil {
			columns, err = columnsOf(fields)
			return err
		}
		this := row{n, fields, columns}
		prefix, err := lease{
			address: this.field("address"), kind: this.field("lease_type"), length: this.field("prefix_len"),
		}.prefix()
		if err != nil {
			return this.invalid(err)
		}
		return yield(prefix, this)
	})
	if err == nil && columns == nil {
		err = errNoColumns
	}
	return err
}

var errNoColumns = input.Invalid("line 1", "the names of the columns are missing")

func columnsOf(names []string) (map[string]int, error) {
	columns := map[string]int{}
	for i, name := range names {
		columns[strings.TrimSpace(name)] = i
	}
	for _, name := range required {
		if _, ok := columns[name]; !ok {
			return nil, input.Invalid("line 1", "%s has no column %q; want a line with the names of the columns",
				input.Quote(strings.Join(names, ",")), name)
		}
	}
	return columns, nil
}

func (r row) invalid(err error) error { return input.Invalid(input.AtLine(r.n), "%w", err) }

// field is the field of a column; empty if there is none.
func (r row) field(name string) string {
	if i, ok := r.columns[name]; ok && i < len(r.fields) {
		return r.fields[i]
	}
	return ""
}

var errFields = errors.New("it has fewer fields than the first line has names")

func (r row) lease() (lease, error) {
	last := slices.MaxFunc(required, func(a, b string) int { return r.columns[a] - r.columns[b] })
	if r.columns[last] >= len(r.fields) {
		return lease{}, errFields
	}
	lifetime, err := strconv.ParseInt(r.field("valid_lifetime"), 10, 64)
	if err != nil {
		return lease{}, fmt.Errorf("%s is no lifetime in seconds", input.Quote(r.field("valid_lifetime")))
	}
	ends, err := client.Ends(r.field("expire"))
	if err != nil {
		return lease{}, err
	}
	return lease{
		address: r.field("address"), length: r.field("prefix_len"), hardware: r.field("hwaddr"),
		clientID: r.field("client_id"), duid: r.field("duid"), iaid: r.field("iaid"), kind: r.field("lease_type"),
		state: r.field("state"), hostname: strings.ReplaceAll(r.field("hostname"), "&#x2c", ","),
		subnet: r.field("subnet_id"), lifetime: lifetime, ends: ends,
	}, nil
}
