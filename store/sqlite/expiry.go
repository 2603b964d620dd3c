package sqlite

import (
	"context"
	"iter"

	"github.com/ipalloc/ipalloc/store"
)

// firstPageRecords is how many records ByExpiry reads at first; each later page may be twice as large. Who asks what
// has expired takes few.
const firstPageRecords = 8

const expirySQL = "SELECT " + columns + " FROM record " +
	"WHERE kind = ? AND pool = ? AND expires IS NOT NULL AND (expires, name) > (?, ?) ORDER BY expires, name LIMIT ?"

// ByExpiry implements [store.Store]. It reads ahead no more records than List; nothing is open or locked while it
// yields. It keeps the names of all records that it has yielded.
func (s *Store) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := (store.Key{Kind: kind, Pool: pool}).Validate(); err != nil {
			yield(store.Record{}, err)
			return
		}
		seen := make(map[string]bool)
		l := listing{store: s, yield: func(r store.Record, err error) bool {
			if err == nil && seen[r.Name] { // renewed since, so that the index has it again
				return true
			}
			seen[r.Name] = true
			return yield(r, err)
		}}
		var after row
		for limit := firstPageRecords; ; limit = min(2*limit, pageRecords) {
			page, err := s.page(ctx, expirySQL, string(kind), pool, after.expires.String, after.name, limit)
			if !l.page(ctx, page, err) || len(page) == 0 {
				break
			}
			after = page[len(page)-1]
		}
		l.end()
	}
}
