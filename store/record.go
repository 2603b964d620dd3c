package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Record is one record of a store. Its named fields are for people and for queries: a driver shows them in the way that
// suits its backend (columns, printer columns, plain JSON). Everything else is in Data.
//
// The zero Record is not valid: it has no key. A Record may be copied; the copy shares Prefixes, Labels and Data.
// [Store] says who may change these.
type Record struct {
	Key

	// Revision is the revision of the commit that last wrote this record. The store sets it. All records that one commit
	// writes, heads included, get the same revision. It is at least 1 for a record that exists. A [Write] ignores it.
	Revision int64

	// State says in one word what the record's prefixes are, such as "allocated". May be empty.
	State string

	// Prefixes are the addresses that the record is about, in the order in which they were requested. They are masked,
	// have no zone and are not 4in6. May be empty.
	Prefixes []netip.Prefix

	// Labels are names with values, by which [ByLabel] finds records of some kinds. A name is not empty. Names and values
	// are valid UTF-8 without NUL. There are at most [MaxLabels], of at most [MaxLabelBytes] bytes together. May be empty.
	Labels map[string]string

	// Created and Expires are in the years 1 to 9999. A store cuts them to the microsecond, without rounding, and returns
	// them in UTC. The zero time means that there is none, and is returned as the zero time.
	Created, Expires time.Time

	// Data is one JSON value in UTF-8, or empty. A store returns an equal JSON value, with numbers to the last digit and
	// strings to the last character. It may change white space, the order of an object's members, and how a number or a
	// character is written.
	Data json.RawMessage
}

// Validate returns an error that wraps [ErrInvalid] if r breaks a rule in the comments of [Key] or [Record]. Stores
// call it for each record of a commit before they change anything.
func (r Record) Validate() error {
	if err := r.Key.Validate(); err != nil {
		return err
	}
	if len(r.State) > MaxNameBytes || !utf8.ValidString(r.State) || strings.ContainsRune(r.State, 0) {
		return fmt.Errorf("%w: the state %.20q of record %v is not valid UTF-8 of at most %d bytes without NUL",
			ErrInvalid, r.State, r.Key, MaxNameBytes)
	}
	for _, p := range r.Prefixes {
		switch {
		case !p.IsValid():
			return fmt.Errorf("%w: record %v has a prefix that is not valid", ErrInvalid, r.Key)
		case p != p.Masked():
			return fmt.Errorf("%w: the prefix %v of record %v has host bits set, want %v", ErrInvalid, p, r.Key, p.Masked())
		case p.Addr().Is4In6():
			return fmt.Errorf("%w: the prefix %v of record %v is 4in6", ErrInvalid, p, r.Key)
		}
	}
	if err := ValidateLabels(r.Labels); err != nil {
		return fmt.Errorf("%w of record %v", err, r.Key)
	}
	for _, t := range []time.Time{r.Created, r.Expires} {
		if year := t.UTC().Year(); year < 1 || year > 9999 {
			return fmt.Errorf("%w: a time of record %v is in the year %d, want 1 to 9999", ErrInvalid, r.Key, year)
		}
	}
	if len(r.Data) > 0 && !(utf8.Valid(r.Data) && json.Valid(r.Data)) {
		return fmt.Errorf("%w: the data %.40q of record %v is not one JSON value in UTF-8", ErrInvalid, r.Data, r.Key)
	}
	return nil
}

// Canonical returns r as a store keeps it: a deep copy with its times cut to the microsecond and in UTC,
// and with empty Prefixes, Labels and Data as nil. It does not validate. Cost: O(bytes of r).
func (r Record) Canonical() Record {
	r.Created, r.Expires = canonicalTime(r.Created), canonicalTime(r.Expires)
	if len(r.Prefixes) == 0 {
		r.Prefixes = nil
	}
	if len(r.Labels) == 0 {
		r.Labels = nil
	}
	if len(r.Data) == 0 {
		r.Data = nil
	}
	r.Prefixes, r.Labels, r.Data = slices.Clone(r.Prefixes), maps.Clone(r.Labels), bytes.Clone(r.Data)
	return r
}

func canonicalTime(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
