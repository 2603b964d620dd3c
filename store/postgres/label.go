package postgres

import (
	"context"
	"fmt"
	"iter"

	"github.com/ipalloc/ipalloc/store"
)

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
		from := ""
		if l.After != "" {
			from = behind(l.After)
		}
		for limit := firstLabelRecords; ; limit = min(2*limit, pageRecords) {
			page, err := s.query(ctx, s.sql.byLabel, l.Pool, l.Name, l.Value, from, limit, string(l.Kind))
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
			from = behind(page[len(page)-1].Name)
		}
	}
}

// behind returns the first text that may be the name of a record after name: names have no NUL.
func behind(name string) string { return name + "\x01" }
