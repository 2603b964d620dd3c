package mysql

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"

	"github.com/ipalloc/ipalloc/store"
)

var _ store.Labeller = (*Store)(nil)

// label is a row of table label, as procedure apply takes it.
type label struct {
	Kind  string `json:"k"`
	Pool  string `json:"p"`
	Name  string `json:"n"`
	Hash  string `json:"h"`
	Label string `json:"l"`
	Value string `json:"v"`
}

// labelsOf are the rows of a record.
func labelsOf(r *store.Record) (rows []label) {
	if !r.Kind.IsLabelled() {
		return nil
	}
	for name, value := range r.Labels {
		rows = append(rows, label{
			Kind: string(r.Kind), Pool: r.Pool, Name: r.Name, Hash: hashOf(r.Kind, name, value), Label: name, Value: value,
		})
	}
	return rows
}

// hashOf is the hash of a label of a kind of records, in hexadecimal digits. It stands for both: no two that anybody
// can find have the same one.
func hashOf(kind store.Kind, name, value string) string {
	hash := sha256.Sum256(fmt.Appendf(nil, "%s:%d:%s%s", kind, len(name), name, value))
	return hex.EncodeToString(hash[:])
}

// firstLabelRecords is how many records ByLabel reads at first; each later page may be twice as large. Who asks for a
// label takes all that have it.
const firstLabelRecords = 32

// ByLabel implements [store.Labeller], in the order of the names, byte by byte. It reads ahead no more records than
// List, and holds no connection while it yields. Cost: one round trip for the first 32 records, and one for each page
// after it.
func (s *Store) ByLabel(ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := l.Validate(); err != nil {
			yield(store.Record{}, err)
			return
		}
		hash := hashOf(l.Kind, l.Name, l.Value)
		after, first := l.After, l.After == "" // a name may be empty
		for limit := firstLabelRecords; ; limit = min(2*limit, pageRecords) {
			page, err := s.query(ctx, s.sql.byLabel, string(l.Kind), l.Pool, hash, first, after, limit)
			if err != nil {
				yield(store.Record{}, s.wrap(fmt.Errorf("list by label: %w", err)))
				return
			}
			for _, r := range page {
				if !s.yield(ctx, r, yield) {
					return
				}
			}
			if len(page) < limit {
				return
			}
			after, first = page[len(page)-1].Name, false
		}
	}
}
