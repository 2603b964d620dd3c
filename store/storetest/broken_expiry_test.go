package storetest_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

func withExpiry(byExpiry listFunc) func() storetest.Backend {
	return wrapped(func(s store.Store) store.Store {
		return altered{Store: s,
			expiry: func(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return byExpiry(s, ctx, kind, pool)
			}}
	})
}

// collected returns what ByExpiry of the store beneath yields.
func collected(s store.Store, ctx context.Context, kind store.Kind, pool string) (all []store.Record) {
	for r, err := range s.ByExpiry(ctx, kind, pool) {
		if err == nil {
			all = append(all, r)
		}
	}
	return all
}

func yielded(all []store.Record) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for _, r := range all {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// paged reads pages of ten, each after the time and name of the last record of the one before.
func paged(
	s store.Store, ctx context.Context, kind store.Kind, pool string, after func(r, last store.Record) bool,
) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		var last store.Record
		for {
			page := slices.DeleteFunc(collected(s, ctx, kind, pool),
				func(r store.Record) bool { return last.Revision > 0 && !after(r, last) })
			if len(page) == 0 {
				return
			}
			for _, r := range page[:min(10, len(page))] {
				if last = r; !yield(r, nil) {
					return
				}
			}
		}
	}
}

func expiryBreaches() []breach {
	return []breach{
		{"the order is that of names", "expiry/order",
			withExpiry(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				all := collected(s, ctx, kind, pool)
				slices.SortFunc(all, func(a, b store.Record) int { return strings.Compare(a.Name, b.Name) })
				return yielded(all)
			})},
		{"times are ordered by the second", "expiry/order",
			withExpiry(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				all := collected(s, ctx, kind, pool)
				slices.SortFunc(all, func(a, b store.Record) int {
					if a.Expires.Unix() == b.Expires.Unix() {
						return b.Expires.Compare(a.Expires)
					}
					return a.Expires.Compare(b.Expires)
				})
				return yielded(all)
			})},
		{"times before 1970 are none", "expiry/order", withExpiry(func(
			s store.Store, ctx context.Context, kind store.Kind, pool string,
		) iter.Seq2[store.Record, error] {
			return yielded(slices.DeleteFunc(collected(s, ctx, kind, pool), func(r store.Record) bool {
				return r.Expires.Unix() < 0
			}))
		})},
		{"pages lose what has the same time", "expiry/order",
			withExpiry(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return paged(s, ctx, kind, pool, func(r, last store.Record) bool { return r.Expires.After(last.Expires) })
			})},
		{"the index is not updated", "expiry/after changes", wrappedFresh(func() func(store.Store) store.Store {
			seen := map[string]store.Record{}
			return func(s store.Store) store.Store {
				return altered{Store: s,
					expiry: func(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
						all := collected(s, ctx, kind, pool)
						for i, r := range all {
							if old, ok := seen[r.Name]; ok {
								all[i] = old
							}
							seen[r.Name] = all[i]
						}
						return yielded(all)
					}}
			}
		})},
		{"all pools are one", "expiry/pools and kinds apart",
			withExpiry(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for r, err := range s.List(ctx, kind, "") {
						if strings.HasPrefix(r.Pool, pool) && !r.Expires.IsZero() && !yield(r, err) {
							return
						}
					}
				}
			})},
		{"heads do not expire", "expiry/pools and kinds apart",
			withExpiry(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				if kind == store.KindPool {
					return yielded(nil)
				}
				return s.ByExpiry(ctx, kind, pool)
			})},
		{"a loop that stops early goes on", "expiry/early stop and again",
			withExpiry(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for _, r := range collected(s, ctx, kind, pool) {
						yield(r, nil)
					}
				}
			})},
		{"an iterator works once", "expiry/early stop and again",
			withExpiry(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				next, stop := iter.Pull2(s.ByExpiry(ctx, kind, pool))
				return func(yield func(store.Record, error) bool) {
					defer stop()
					for {
						r, err, ok := next()
						if !ok || !yield(r, err) {
							return
						}
					}
				}
			})},
		{"ByExpiry reads by offset", "expiry/deletes in the body",
			withExpiry(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for offset := 0; ; offset += 10 {
						all := collected(s, ctx, kind, pool)
						if offset >= len(all) {
							return
						}
						for _, r := range all[offset:min(offset+10, len(all))] {
							if !yield(r, nil) {
								return
							}
						}
					}
				}
			})},
		{"ByExpiry holds a lock while it yields", "expiry/deletes in the body",
			wrappedFresh(func() func(store.Store) store.Store {
				var mu sync.RWMutex
				return func(s store.Store) store.Store {
					return altered{Store: s,
						commitAll: func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
							mu.Lock()
							defer mu.Unlock()
							return s.Commit(ctx, changes...)
						},
						expiry: func(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
							return func(yield func(store.Record, error) bool) {
								mu.RLock()
								defer mu.RUnlock()
								s.ByExpiry(ctx, kind, pool)(yield)
							}
						}}
				}
			})},
		{"what is renewed comes up again", "expiry/renewals in the body",
			withExpiry(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return paged(s, ctx, kind, pool, func(r, last store.Record) bool { return r.Expires.After(last.Expires) })
			})},
		{"ByExpiry ends early without an error", "expiry/errors come last",
			withExpiry(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for _, r := range collected(s, ctx, kind, pool) {
						if ctx.Err() != nil || !yield(r, nil) {
							return
						}
					}
				}
			})},
		{"ByExpiry goes on after an error", "expiry/errors come last",
			withExpiry(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for _, r := range collected(s, ctx, kind, pool) {
						if !yield(r, ctx.Err()) {
							return
						}
					}
				}
			})},
		{"an invalid pool is empty", "expiry/invalid pool",
			withExpiry(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for r, err := range s.ByExpiry(ctx, kind, pool) {
						if errors.Is(err, store.ErrInvalid) || !yield(r, err) {
							return
						}
					}
				}
			})},
	}
}
