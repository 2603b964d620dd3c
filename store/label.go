package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// MaxLabels is how many [Record.Labels] a record may have.
	MaxLabels = 128
	// MaxLabelBytes is the largest size in bytes of all labels of a record, names and values together.
	MaxLabelBytes = 8192
)

// ValidateLabels returns an error that wraps [ErrInvalid] if labels break a rule in the comment of [Record.Labels].
// Cost: O(bytes).
func ValidateLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return fmt.Errorf("%w: there are %d labels, the most is %d", ErrInvalid, len(labels), MaxLabels)
	}
	size := 0
	for name, value := range labels {
		switch {
		case name == "":
			return fmt.Errorf("%w: the label with the value %.40q has no name", ErrInvalid, value)
		case !utf8.ValidString(name) || !utf8.ValidString(value):
			return fmt.Errorf("%w: the label %.40q with the value %.40q is not UTF-8", ErrInvalid, name, value)
		case strings.ContainsRune(name, 0) || strings.ContainsRune(value, 0):
			return fmt.Errorf("%w: the label %.40q with the value %.40q contains NUL", ErrInvalid, name, value)
		}
		size += len(name) + len(value)
	}
	if size > MaxLabelBytes {
		return fmt.Errorf("%w: the labels have %d bytes, the most is %d", ErrInvalid, size, MaxLabelBytes)
	}
	return nil
}

// Labelled says which records [Labeller.ByLabel] yields: those of Kind in Pool that have the label of that name with
// that value. The zero Labelled is not valid: it has no kind, no pool and no name. It may be copied and compared.
type Labelled struct {
	// Kind is one of which [Kind.IsLabelled] is true.
	Kind Kind

	Pool, Name, Value string

	// After is the name of the record behind which the iteration begins, whether or not there is such a record: the last
	// one that an earlier iteration has yielded. Empty means at the beginning.
	After string
}

// Validate returns an error that wraps [ErrInvalid] if records of the kind are not found by label, if no record can
// have the label, or if the pool or After breaks a rule of [Key]. A driver begins [Labeller.ByLabel] with it.
func (l Labelled) Validate() error {
	if err := (Key{Kind: l.Kind, Pool: l.Pool, Name: l.After}).Validate(); err != nil {
		return err
	}
	if !l.Kind.IsLabelled() {
		return fmt.Errorf("%w: records of kind %q are not found by label, want %s or %s", ErrInvalid, l.Kind, KindAllocation,
			KindHistory)
	}
	return ValidateLabels(map[string]string{l.Name: l.Value})
}

// matches reports whether r, of the kind and the pool, is one of those.
func (l Labelled) matches(r *Record) bool {
	value, ok := r.Labels[l.Name]
	return ok && value == l.Value && (l.After == "" || r.Name > l.After)
}

// Labeller is a [Store] that finds records by a label without reading the others. The index is part of each commit, so
// it is as right as the records.
type Labeller interface {
	// ByLabel iterates over the records that l describes, in an order of their names that is the store's own, and the
	// same each time. Names of 16 digits come in the order of the numbers. It follows the rules of [Store.List], and is
	// as fresh; a record whose labels change during the iteration counts as deleted and created.
	//
	// Cost: O(records yielded), whatever else is stored, also if l.After is set; the backend may also read some records
	// ahead. A driver may document another one.
	ByLabel(ctx context.Context, l Labelled) iter.Seq2[Record, error]
}

// ByLabel iterates over the records of a kind and pool that have a label, in an order of their names that is the same
// each time for the same store: with [Labeller.ByLabel] if s is a [Labeller].
//
// Otherwise it lists the records of the kind in the pool, and keeps those with the label in memory to order them by
// name, byte by byte. Cost: O(records of the kind in the pool).
func ByLabel(ctx context.Context, s Store, l Labelled) iter.Seq2[Record, error] {
	if indexed, ok := s.(Labeller); ok {
		return indexed.ByLabel(ctx, l)
	}
	return func(yield func(Record, error) bool) {
		if err := l.Validate(); err != nil {
			yield(Record{}, err)
			return
		}
		var found []Record
		var damaged error
		for r, err := range s.List(ctx, l.Kind, l.Pool) {
			switch {
			case errors.Is(err, ErrDamaged): // it may have had the label
				damaged = err
			case err != nil:
				yield(Record{}, err)
				return
			case l.matches(&r):
				found = append(found, r)
			}
		}
		slices.SortFunc(found, func(a, b Record) int { return cmp.Compare(a.Name, b.Name) })
		for _, r := range found {
			if !yield(r, nil) {
				return
			}
		}
		if damaged != nil {
			yield(Record{}, damaged)
		}
	}
}
