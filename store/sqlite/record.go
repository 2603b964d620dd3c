package sqlite

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// timeLayout is ISO 8601 with as many digits for every time, so that the texts sort.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// columns are the columns of table record, in the order of row.
const columns = "kind, pool, name, revision, state, prefixes, labels, created, expires, data"

// row is a row of table record.
type row struct {
	kind, pool, name string
	revision         int64
	state, prefixes  string
	labels           string
	created, expires sql.NullString
	data             sql.NullString
}

// scanner is a row that a statement has returned.
type scanner interface{ Scan(dest ...any) error }

func (r *row) scan(from scanner) error {
	return from.Scan(&r.kind, &r.pool, &r.name, &r.revision, &r.state, &r.prefixes, &r.labels, &r.created, &r.expires,
		&r.data)
}

// size is roughly how much memory the row takes, in bytes.
func (r *row) size() int {
	return len(r.pool) + len(r.name) + len(r.prefixes) + len(r.labels) + len(r.data.String)
}

// newRow returns the row of a canonical record.
func newRow(r store.Record) (row, error) {
	prefixes := []byte("[]")
	if len(r.Prefixes) > 0 {
		var err error
		if prefixes, err = json.Marshal(r.Prefixes); err != nil {
			return row{}, fmt.Errorf("encode record %v: %w", r.Key, err)
		}
	}
	labels, err := labelsText(r.Labels)
	if err != nil {
		return row{}, fmt.Errorf("encode record %v: %w", r.Key, err)
	}
	return row{
		kind: string(r.Kind), pool: r.Pool, name: r.Name, revision: r.Revision, state: r.State,
		prefixes: string(prefixes), labels: labels, created: timeText(r.Created), expires: timeText(r.Expires),
		data: sql.NullString{String: string(r.Data), Valid: len(r.Data) > 0},
	}, nil
}

// args are the values of the columns.
func (r *row) args() []any {
	return []any{r.kind, r.pool, r.name, r.revision, r.state, r.prefixes, r.labels, r.created, r.expires, r.data}
}

func timeText(t time.Time) sql.NullString {
	if t.IsZero() {
		return sql.NullString{}
	}
	return sql.NullString{String: t.Format(timeLayout), Valid: true}
}

// record returns the record that is in the row, or an error that wraps [store.ErrDamaged].
func (r *row) record() (store.Record, error) {
	record := store.Record{
		Key:      store.Key{Kind: store.Kind(r.kind), Pool: r.pool, Name: r.name},
		Revision: r.revision, State: r.state,
	}
	var errs [4]error
	record.Prefixes, errs[0] = parsePrefixes(r.prefixes)
	record.Created, errs[1] = parseTime(r.created)
	record.Expires, errs[2] = parseTime(r.expires)
	record.Labels, errs[3] = parseLabels(r.labels)
	if r.data.Valid {
		record.Data = json.RawMessage(r.data.String)
	}
	err := errors.Join(errs[:]...)
	if err == nil && r.revision < 1 {
		err = fmt.Errorf("its revision is %d, want at least 1", r.revision)
	}
	if err == nil {
		err = record.Validate()
	}
	if err != nil {
		return store.Record{}, fmt.Errorf("%w: record %v: %w", store.ErrDamaged, record.Key, err)
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

// labelsText is labels as a JSON object.
func labelsText(labels map[string]string) (string, error) {
	if len(labels) == 0 {
		return "{}", nil
	}
	text, err := json.Marshal(labels)
	return string(text), err
}

func parseLabels(text string) (labels map[string]string, err error) {
	if text == "{}" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &labels); err != nil {
		return nil, fmt.Errorf("the labels %.80q: %w", text, err)
	}
	return labels, nil
}

func parseTime(text sql.NullString) (time.Time, error) {
	if !text.Valid {
		return time.Time{}, nil
	}
	return time.Parse(timeLayout, text.String)
}
