package mysql

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/ipalloc/ipalloc/store"
)

// reply is a row that a procedure returns. The first column says what it is.
type reply struct {
	outcome string
	values  []sql.NullString // of the other columns
}

// call calls a procedure, and do with each row that it returns.
func call(ctx context.Context, conn *sql.Conn, text string, args []any, do func(*reply) error) error {
	rows, err := conn.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for more := true; more; more = rows.NextResultSet() {
		columns, err := rows.Columns()
		if err != nil {
			return err
		}
		for rows.Next() {
			r := reply{values: make([]sql.NullString, max(0, len(columns)-1))}
			into := []any{&r.outcome}
			for i := range r.values {
				into = append(into, &r.values[i])
			}
			if err := rows.Scan(into...); err != nil {
				return err
			}
			if err := do(&r); err != nil {
				return err
			}
		}
	}
	return rows.Err()
}

// number is the value of a column, 0 if it is null.
func (r *reply) number(column int) (int64, error) {
	if column >= len(r.values) {
		return 0, fmt.Errorf("the server's answer %q has %d columns", r.outcome, len(r.values)+1)
	}
	if !r.values[column].Valid {
		return 0, nil
	}
	return strconv.ParseInt(r.values[column].String, 10, 64)
}

// recordColumns is how many values a reply with a record has: its number, and those of fields.
const recordColumns = 7

// record returns the record under key that the reply has.
func (r *reply) record(key store.Key) (store.Record, error) {
	if len(r.values) != recordColumns {
		return store.Record{}, fmt.Errorf("the server's answer %q has %d columns", r.outcome, len(r.values)+1)
	}
	revision, err := r.number(1)
	if err != nil {
		return store.Record{}, err
	}
	v := r.values
	f := fields{revision, v[2].String, v[3].String, v[4], v[5], v[6]}
	return f.record(key)
}

// index is the index of what the reply is about, among so many.
func (r *reply) index(length int) (int, error) {
	n, err := r.number(0)
	if err == nil && (n < 1 || n > int64(length)) {
		err = fmt.Errorf("the server's answer %q is about number %d of %d", r.outcome, n, length)
	}
	return int(n) - 1, err
}

// intoOneOf puts the record that the reply has in its place.
func (r *reply) intoOneOf(records []store.Record) error {
	i, err := r.index(len(records))
	if err != nil {
		return err
	}
	records[i], err = r.record(records[i].Key)
	return err
}

// jsonText is a value as procedures take it.
func jsonText(value any) (string, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return text.String(), err
}
