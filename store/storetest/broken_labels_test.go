package storetest_test

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// byLabelFunc is what a wrapper replaces ByLabel with, given the store beneath.
type byLabelFunc = func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error]

// alteredLabeller is a store with another ByLabel.
type alteredLabeller struct {
	altered
	byLabel byLabelFunc
}

func (a alteredLabeller) ByLabel(ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
	return a.byLabel(a.Store, ctx, l)
}

func withByLabel(byLabel byLabelFunc) func() storetest.Backend {
	return wrapped(func(s store.Store) store.Store { return alteredLabeller{altered{Store: s}, byLabel} })
}

// labelled returns what ByLabel of the store beneath yields.
func labelled(s store.Store, ctx context.Context, l store.Labelled) (all []store.Record) {
	for r, err := range store.ByLabel(ctx, s, l) {
		if err == nil {
			all = append(all, r)
		}
	}
	return all
}

// matching returns a backend that looks at all allocations of all pools, and goes by matches alone.
func matching(matches func(store.Record, store.Labelled) bool) func() storetest.Backend {
	return withByLabel(func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
		return func(yield func(store.Record, error) bool) {
			for r, err := range s.List(ctx, store.KindAllocation, "") {
				if err != nil || matches(r, l) && r.Name > l.After {
					if !yield(r, err) {
						return
					}
				}
			}
		}
	})
}

func has(r store.Record, name, value string) bool {
	got, ok := r.Labels[name]
	return ok && got == value
}

// anyLabel reports whether a label of the record fits.
func anyLabel(r store.Record, fits func(name, value string) bool) bool {
	for name, value := range r.Labels {
		if fits(name, value) {
			return true
		}
	}
	return false
}

// inPages reads pages of ten; next returns the page behind those that were yielded.
func inPages(next func(all []store.Record, yielded int, last string) []store.Record) func() storetest.Backend {
	return withByLabel(func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
		return func(yield func(store.Record, error) bool) {
			n, last := 0, ""
			for {
				page := next(labelled(s, ctx, l), n, last)
				for _, r := range page {
					if n++; !yield(r, nil) {
						return
					}
					last = r.Name
				}
				if len(page) == 0 {
					return
				}
			}
		}
	})
}

func labelBreaches() []breach {
	return []breach{
		{"any value will do", "labels/by name and value", matching(func(r store.Record, l store.Labelled) bool {
			_, ok := r.Labels[l.Name]
			return ok && r.Pool == l.Pool
		})},
		{"values are compared without their case", "labels/by name and value",
			matching(func(r store.Record, l store.Labelled) bool {
				return r.Pool == l.Pool && anyLabel(r, func(name, value string) bool {
					return name == l.Name && strings.EqualFold(value, l.Value)
				})
			})},
		{"an empty value is none", "labels/by name and value", matching(func(r store.Record, l store.Labelled) bool {
			return r.Pool == l.Pool && l.Value != "" && has(r, l.Name, l.Value)
		})},
		{"what begins with the value has it", "labels/by name and value",
			matching(func(r store.Record, l store.Labelled) bool {
				return r.Pool == l.Pool && anyLabel(r, func(name, value string) bool {
					return name == l.Name && strings.HasPrefix(value, l.Value)
				})
			})},
		{"a name and a value run together", "labels/odd texts", wrapped(func(s store.Store) store.Store {
			return alteredLabeller{altered{Store: s},
				func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
					return yielded(labelled(s, ctx, split(l)))
				}}
		})},
		{"the index is not updated", "labels/after changes", wrappedFresh(func() func(store.Store) store.Store {
			seen := map[store.Labelled][]store.Record{}
			return func(s store.Store) store.Store {
				return alteredLabeller{altered{Store: s},
					func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
						if seen[l] == nil {
							seen[l] = labelled(s, ctx, l)
						}
						return yielded(seen[l])
					}}
			}
		})},
		{"a label that a record had stays", "labels/after changes", wrappedFresh(func() func(store.Store) store.Store {
			seen := map[store.Labelled][]store.Key{}
			return func(s store.Store) store.Store {
				return alteredLabeller{altered{Store: s},
					func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
						all := labelled(s, ctx, l)
						for _, key := range seen[l] {
							r, err := s.Get(ctx, key)
							if err == nil && !slices.ContainsFunc(all, func(o store.Record) bool { return o.Key == key }) {
								r.Labels = map[string]string{l.Name: l.Value}
								all = append(all, r)
							}
						}
						seen[l] = nil
						for _, r := range all {
							seen[l] = append(seen[l], r.Key)
						}
						return yielded(all)
					}}
			}
		})},
		{"labels of all pools are one", "labels/pools and kinds apart",
			matching(func(r store.Record, l store.Labelled) bool { return has(r, l.Name, l.Value) })},
		{"labels of all kinds are one", "labels/of past tenures, in their order",
			withByLabel(func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
				l.Kind = store.KindAllocation
				return store.ByLabel(ctx, s, l)
			})},
		{"numbers come in any order", "labels/of past tenures, in their order",
			withByLabel(func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
				all := labelled(s, ctx, l)
				if len(all) > 0 && l.Kind == store.KindHistory {
					all = append(all[1:], all[0])
				}
				return yielded(all)
			})},
		{"After is ignored", "labels/on from any record",
			withByLabel(func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
				l.After = ""
				return store.ByLabel(ctx, s, l)
			})},
		{"After is the first", "labels/on from any record",
			withByLabel(func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
				first, err := s.Get(ctx, store.Key{Kind: store.KindAllocation, Pool: l.Pool, Name: l.After})
				if err != nil {
					return store.ByLabel(ctx, s, l)
				}
				return yielded(append([]store.Record{first}, labelled(s, ctx, l)...))
			})},
		{"After must be there", "labels/on from any record",
			withByLabel(func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
				_, err := s.Get(ctx, store.Key{Kind: store.KindAllocation, Pool: l.Pool, Name: l.After})
				if l.After != "" && errors.Is(err, store.ErrNotFound) {
					return yielded(nil)
				}
				return store.ByLabel(ctx, s, l)
			})},
		{"the order is another one each time", "labels/on from any record",
			withByLabel(func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
				all := labelled(s, ctx, l)
				rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
				return yielded(all)
			})},
		{"a loop that stops early goes on", "labels/early stop and again",
			withByLabel(func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for _, r := range labelled(s, ctx, l) {
						yield(r, nil)
					}
				}
			})},
		{"ByLabel reads by offset", "labels/changes in the body",
			inPages(func(all []store.Record, n int, _ string) []store.Record {
				return all[min(n, len(all)):min(n+10, len(all))]
			})},
		{"a page begins where the last one ended", "labels/changes in the body",
			inPages(func(all []store.Record, _ int, last string) []store.Record {
				all = slices.DeleteFunc(all, func(r store.Record) bool { return r.Name < last })
				if len(all) == 1 && last != "" {
					return nil
				}
				return all[:min(10, len(all))]
			})},
		{"a handle knows the labels of its own commits", "labels/under concurrent commits",
			wrapped(func(s store.Store) store.Store {
				var own sync.Map // the names of what it has written
				return alteredLabeller{
					altered{Store: s, commitAll: func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
						heads, err := s.Commit(ctx, changes...)
						for _, c := range changes {
							for _, w := range c.Writes {
								if err == nil {
									own.Store(w.Record.Name, heads[0].Revision)
								}
							}
						}
						return heads, err
					}},
					func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
						return yielded(slices.DeleteFunc(labelled(s, ctx, l), func(r store.Record) bool {
							revision, ok := own.Load(r.Name)
							return !ok || revision != r.Revision
						}))
					}}
			})},
		{"ByLabel ends early without an error", "labels/errors come last",
			withByLabel(func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for _, r := range labelled(s, ctx, l) {
						if ctx.Err() != nil || !yield(r, nil) {
							return
						}
					}
				}
			})},
		{"ByLabel goes on after an error", "labels/errors come last",
			withByLabel(func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for _, r := range labelled(s, ctx, l) {
						if !yield(r, ctx.Err()) {
							return
						}
					}
				}
			})},
		{"a label that cannot be is not there", "labels/invalid",
			withByLabel(func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
				if l.Validate() != nil {
					return yielded(nil)
				}
				return store.ByLabel(ctx, s, l)
			})},
		{"ByLabel ignores its context", "context/ended before",
			withByLabel(func(s store.Store, ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
				return store.ByLabel(context.WithoutCancel(ctx), s, l)
			})},
		{"labels with an empty value are dropped", "fields/labels", storing(func(r *store.Record) {
			kept := map[string]string{}
			for name, value := range r.Labels {
				if value != "" {
					kept[name] = value
				}
			}
			r.Labels = kept
		})},
		{"names of labels are in lower case", "fields/labels", storing(func(r *store.Record) {
			lower := map[string]string{}
			for name, value := range r.Labels {
				lower[strings.ToLower(name)] = value
			}
			r.Labels = lower
		})},
	}
}

// split takes name=value apart at the first equals sign that either has.
func split(l store.Labelled) store.Labelled {
	if name, value, ok := strings.Cut(l.Name+"="+l.Value, "="); ok {
		l.Name, l.Value = name, value
	}
	return l
}
