package postgres

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ipalloc/ipalloc/store"
)

// scanRecord reads a row of the columns that statementsFor selects.
func scanRecord(row pgx.CollectableRow) (store.Record, error) {
	var r store.Record
	var f fields
	err := row.Scan((*string)(&r.Kind), &r.Pool, &r.Name, &r.Revision, &f.state, &f.prefixes, &f.labels, &f.created,
		&f.expires, &f.data)
	f.into(&r)
	return r, err
}

// fields are columns as they are read: those that may be null are nil then.
type fields struct {
	state            *string
	prefixes         []netip.Prefix
	labels           map[string]string
	created, expires *time.Time
	data             *string
}

func (f *fields) into(r *store.Record) {
	if f.state != nil {
		r.State = *f.state
	}
	if len(f.prefixes) > 0 {
		r.Prefixes = f.prefixes
	}
	r.Labels = f.labels
	if f.created != nil {
		r.Created = f.created.UTC()
	}
	if f.expires != nil {
		r.Expires = f.expires.UTC()
	}
	if f.data != nil {
		r.Data = json.RawMessage(*f.data)
	}
}

// prefixArray is prefixes as PostgreSQL writes an array.
func prefixArray(prefixes []netip.Prefix) string {
	text := make([]string, len(prefixes))
	for i, p := range prefixes {
		text[i] = p.String()
	}
	return "{" + strings.Join(text, ",") + "}"
}

// labelsOrNull is labels as they are kept: as a JSON object, or null if there are none.
func labelsOrNull(labels map[string]string) *string {
	if len(labels) == 0 {
		return nil
	}
	text, err := json.Marshal(labels)
	if err != nil { // it has texts alone
		return nil
	}
	object := string(text)
	return &object
}

// timeOrNull is a time as it is kept: cut to the microsecond, or null if there is none.
func timeOrNull(t time.Time) *time.Time {
	t = t.UTC().Truncate(time.Microsecond)
	if t.IsZero() {
		return nil
	}
	return &t
}

// dataOrNull is data as it is kept.
func dataOrNull(data json.RawMessage) *string {
	if len(data) == 0 {
		return nil
	}
	text := string(data)
	return &text
}
