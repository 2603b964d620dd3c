package mysql

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// timeLayout is a time as MySQL reads and writes it, in UTC.
const timeLayout = "2006-01-02 15:04:05.000000"

// columns are the columns of table record that fields are read from, of an alias r. The driver would read times in one
// of two ways, so they are texts.
const columns = "r.revision, r.state, r.prefixes, CAST(r.created AS CHAR), CAST(r.expires AS CHAR), r.data"

// fields are columns as they are read.
type fields struct {
	revision         int64
	state, prefixes  string
	created, expires sql.NullString
	data             sql.NullString
}

// into are where the columns are read to.
func (f *fields) into() []any {
	return []any{&f.revision, &f.state, &f.prefixes, &f.created, &f.expires, &f.data}
}

// record returns the record under key that has the fields, or an error that wraps [store.ErrDamaged]. With revision 0
// it has only the key.
func (f *fields) record(key store.Key) (store.Record, error) {
	record := store.Record{Key: key, Revision: f.revision, State: f.state}
	var errs [3]error
	record.Prefixes, errs[0] = parsePrefixes(f.prefixes)
	record.Created, errs[1] = parseTime(f.created)
	record.Expires, errs[2] = parseTime(f.expires)
	if f.data.Valid {
		record.Data = json.RawMessage(f.data.String)
	}
	err := errors.Join(errs[:]...)
	if err == nil {
		err = record.Validate()
	}
	if err != nil {
		return store.Record{}, fmt.Errorf("%w: record %v: %w", store.ErrDamaged, key, err)
	}
	return record, nil
}

func parsePrefixes(text string) (prefixes []netip.Prefix, err error) {
	if text == "[]" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &prefixes); err != nil {
		return nil, fmt.Errorf("the prefixes %.80q: %w", text, err)
	}
	return prefixes, nil
}

func parseTime(text sql.NullString) (time.Time, error) {
	if !text.Valid {
		return time.Time{}, nil
	}
	return time.Parse(timeLayout, text.String)
}

// timeText is a canonical time as it is kept, or empty if there is none.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(timeLayout)
}
