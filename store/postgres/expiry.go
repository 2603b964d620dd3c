package postgres

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// firstPageRecords is how many records ByExpiry reads at first; each later page is twice as large, up to what List
// reads. Who asks what has expired takes few.
const firstPageRecords = 8

// ByExpiry implements [store.Store]. It reads ahead no more records than List, and holds no connection while it yields.
// It keeps the names of all records that it has yielded. Cost: one round trip for the first 8 records, and one for each
// page after it.
func (s *Store) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := (store.Key{Kind: kind, Pool: pool}).Validate(); err != nil {
			yield(store.Record{}, err)
			return
		}
		seen := make(map[string]bool)
		var expires time.Time // before that of any record
		name := ""
		for limit := firstPageRecords; ; limit = min(2*limit, pageRecords) {
			page, err := s.query(ctx, s.sql.byExpiry, string(kind), pool, expires, name, limit)
			if err != nil {
				yield(store.Record{}, s.wrap(fmt.Errorf("list by expiry: %w", err)))
				return
			}
			for _, r := range page {
				if seen[r.Name] { // renewed since
					continue
				}
				seen[r.Name] = true
				if !s.yield(ctx, r, yield) {
					return
				}
			}
			if len(page) < limit {
				return
			}
			last := page[len(page)-1]
			expires, name = last.Expires, behind(last.Name)
		}
	}
}
