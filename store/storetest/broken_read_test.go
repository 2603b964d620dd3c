package storetest_test

import (
	"context"
	"slices"
	"sync"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// readAllFunc is what a wrapper replaces GetAll with, given the store beneath.
type readAllFunc = func(s store.Reader, ctx context.Context, keys []store.Key) ([]store.Record, error)

// alteredReader is a store with another GetAll.
type alteredReader struct {
	altered
	getAll readAllFunc
}

func (a alteredReader) GetAll(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	return a.getAll(a.Store.(store.Reader), ctx, keys)
}

func withGetAll(getAll readAllFunc) func() storetest.Backend {
	return wrapped(func(s store.Store) store.Store { return alteredReader{altered{Store: s}, getAll} })
}

// readingAll returns a backend whose GetAll returns something else than it read.
func readingAll(spoil func([]store.Record) []store.Record) func() storetest.Backend {
	return withGetAll(func(s store.Reader, ctx context.Context, keys []store.Key) ([]store.Record, error) {
		records, err := s.GetAll(ctx, keys...)
		if err != nil {
			return nil, err
		}
		return spoil(records), nil
	})
}

func readAllBreaches() []breach {
	return []breach{
		{"records come in the order of their names", "get all/in order",
			readingAll(func(records []store.Record) []store.Record {
				slices.SortStableFunc(records, func(a, b store.Record) int { return a.Key.Compare(b.Key) })
				return records
			})},
		{"what is missing is left out", "get all/in order",
			readingAll(func(records []store.Record) []store.Record {
				return slices.DeleteFunc(records, func(r store.Record) bool { return r.Revision == 0 })
			})},
		{"what is missing has no key", "get all/in order",
			readingAll(func(records []store.Record) []store.Record {
				for i := range records {
					if records[i].Revision == 0 {
						records[i] = store.Record{}
					}
				}
				return records
			})},
		{"a key is there once", "get all/in order",
			readingAll(func(records []store.Record) []store.Record {
				seen := map[store.Key]bool{}
				for i, r := range records {
					if seen[r.Key] {
						records[i] = store.Record{Key: r.Key}
					}
					seen[r.Key] = true
				}
				return records
			})},
		{"what is missing is an error", "get all/in order",
			withGetAll(func(s store.Reader, ctx context.Context, keys []store.Key) ([]store.Record, error) {
				records, err := s.GetAll(ctx, keys...)
				if slices.ContainsFunc(records, func(r store.Record) bool { return r.Revision == 0 }) {
					err = store.ErrNotFound
				}
				return records, err
			})},
		{"a handle remembers what it read together", "get all/fresh", wrapped(func(s store.Store) store.Store {
			known := map[store.Key]store.Record{}
			return alteredReader{altered{Store: s},
				func(s store.Reader, ctx context.Context, keys []store.Key) ([]store.Record, error) {
					records, err := s.GetAll(ctx, keys...)
					for i, r := range records {
						if old, ok := known[r.Key]; ok {
							records[i] = old
						}
						known[r.Key] = records[i]
					}
					return records, err
				}}
		})},
		{"the first 256 are read", "get all/many",
			readingAll(func(records []store.Record) []store.Record { return records[:min(len(records), 256)] })},
		{"an invalid key is one that is missing, among others", "get all/invalid key",
			withGetAll(func(s store.Reader, ctx context.Context, keys []store.Key) ([]store.Record, error) {
				valid := slices.DeleteFunc(slices.Clone(keys), func(k store.Key) bool { return k.Validate() != nil })
				return s.GetAll(ctx, valid...)
			})},
		{"a key that is there twice shares its record", "get all/aliasing",
			readingAll(func(records []store.Record) []store.Record {
				known := map[store.Key]store.Record{}
				for i, r := range records {
					if old, ok := known[r.Key]; ok {
						records[i] = old
					}
					known[r.Key] = records[i]
				}
				return records
			})},
		{"GetAll returns what it keeps", "get all/aliasing", wrappedFresh(func() func(store.Store) store.Store {
			var kept sync.Map
			return func(s store.Store) store.Store {
				return alteredReader{altered{Store: s},
					func(s store.Reader, ctx context.Context, keys []store.Key) ([]store.Record, error) {
						records, err := s.GetAll(ctx, keys...)
						for i, r := range records {
							if i == 1 { // of which there is one
								same, _ := kept.LoadOrStore(r.Revision, r)
								records[i] = same.(store.Record)
							}
						}
						return records, err
					}}
			}
		})},
		{"GetAll ignores its context", "context/ended before",
			withGetAll(func(s store.Reader, ctx context.Context, keys []store.Key) ([]store.Record, error) {
				return s.GetAll(context.WithoutCancel(ctx), keys...)
			})},
	}
}
