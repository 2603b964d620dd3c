package storetest_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

func readBreaches() []breach {
	return []breach{
		{"a missing record is an empty one", "get/missing",
			withGet(func(s store.Store, ctx context.Context, key store.Key) (store.Record, error) {
				r, err := s.Get(ctx, key)
				if errors.Is(err, store.ErrNotFound) {
					return store.Record{Key: key}, nil
				}
				return r, err
			})},
		{"a missing record is another error", "get/missing",
			withGet(func(s store.Store, ctx context.Context, key store.Key) (store.Record, error) {
				r, err := s.Get(ctx, key)
				if err != nil {
					return r, errors.New(err.Error())
				}
				return r, nil
			})},
		{"a handle remembers what it read", "get/fresh", wrapped(func(s store.Store) store.Store {
			known := map[store.Key]store.Record{}
			return altered{Store: s, get: func(ctx context.Context, key store.Key) (store.Record, error) {
				if r, ok := known[key]; ok {
					return r, nil
				}
				r, err := s.Get(ctx, key)
				if err == nil {
					known[key] = r
				}
				return r, err
			}}
		})},
		{"an invalid key is one that is missing", "get/invalid key",
			withGet(func(s store.Store, ctx context.Context, key store.Key) (store.Record, error) {
				if key.Validate() != nil {
					return store.Record{}, store.ErrNotFound
				}
				return s.Get(ctx, key)
			})},
	}
}

// changing returns a backend that commits other writes than it is given.
func changing(change func([]store.Write) []store.Write) func() storetest.Backend {
	return withCommit(func(
		s store.Store, ctx context.Context, head store.Record, writes []store.Write,
	) (store.Record, error) {
		return storetest.CommitOne(ctx, s, head, change(slices.Clone(writes))...)
	})
}

// eachWrite returns a backend that commits each write as change makes it.
func eachWrite(change func(*store.Write)) func() storetest.Backend {
	return changing(func(writes []store.Write) []store.Write {
		for i := range writes {
			change(&writes[i])
		}
		return writes
	})
}

func commitBreaches() []breach {
	without := func(drop func(store.Write) bool) func() storetest.Backend {
		return changing(func(writes []store.Write) []store.Write { return slices.DeleteFunc(writes, drop) })
	}
	return []breach{
		{"the head returned has the old revision", "commit/head alone",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				_, err := storetest.CommitOne(ctx, s, head, writes...)
				return head.Canonical(), err
			})},
		{"the head is not replaced", "commit/head alone", storing(func(r *store.Record) {
			if r.Kind == store.KindPool {
				r.Data = json.RawMessage(`{"n":0}`)
			}
		})},
		{"records have revisions of their own", "commit/one revision", yielding(func(r *store.Record) {
			if r.Name == "put" {
				r.Revision++
			}
		})},
		{"a given revision is stored", "commit/one revision", yielding(func(r *store.Record) {
			if r.Name == "created" {
				r.Revision += 1000
			}
		})},
		{"put creates only", "commit/put", without(func() func(store.Write) bool {
			seen := map[store.Key]bool{}
			return func(w store.Write) bool {
				again := w.Op == store.Put && seen[w.Record.Key]
				seen[w.Record.Key] = true
				return again
			}
		}())},
		{"put keeps fields that are empty", "commit/put",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				writes = slices.Clone(writes)
				for i, w := range writes {
					if old, err := s.Get(ctx, w.Record.Key); err == nil && w.Op == store.Put {
						writes[i].Record.State = cmp.Or(w.Record.State, old.State)
					}
				}
				return storetest.CommitOne(ctx, s, head, writes...)
			})},
		{"creates are dropped", "commit/create", without(func(w store.Write) bool { return w.Op == store.Create })},
		{"create replaces", "commit/create what exists", eachWrite(func(w *store.Write) {
			if w.Op == store.Create {
				w.Op = store.Put
			}
		})},
		{"the error does not carry what exists", "commit/create what exists", failing(func(err error) error {
			if errors.Is(err, store.ErrExists) {
				return &store.ExistsError{}
			}
			return err
		})},
		{"the error carries the new record", "commit/create what exists", failing(func(err error) error {
			var exists *store.ExistsError
			if errors.As(err, &exists) {
				exists.Records[0].State = "mine"
			}
			return err
		})},
		{"a failed commit leaves the writes before the one that failed", "commit/all or nothing",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				got, err := storetest.CommitOne(ctx, s, head, writes...)
				if errors.Is(err, store.ErrExists) {
					storetest.CommitOne(ctx, s, head, writes[:len(writes)-1]...)
				}
				return got, err
			})},
		{"a failed commit changes the head", "commit/all or nothing",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				got, err := storetest.CommitOne(ctx, s, head, writes...)
				if errors.Is(err, store.ErrExists) {
					storetest.CommitOne(ctx, s, head)
				}
				return got, err
			})},
		{
			"only the first 32 writes count", "commit/many writes",
			changing(func(writes []store.Write) []store.Write { return writes[:min(32, len(writes))] }),
		},
		{"all pools share a head", "commit/heads of two pools",
			withGet(func(s store.Store, ctx context.Context, key store.Key) (store.Record, error) {
				if key.Kind != store.KindPool {
					return s.Get(ctx, key)
				}
				var latest store.Record
				for r := range s.List(ctx, store.KindPool, "") {
					if r.Revision > latest.Revision {
						latest = r
					}
				}
				if latest.Revision == 0 {
					return latest, store.ErrNotFound
				}
				latest.Key = key
				return latest, nil
			})},
		{"only heads of pools are guarded", "commit/head of any kind",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				if head.Kind != store.KindPool {
					return force(s, ctx, head, writes)
				}
				return storetest.CommitOne(ctx, s, head, writes...)
			})},
		{"deletes are dropped", "delete/record", without(func(w store.Write) bool { return w.Op == store.Delete })},
		{"deleted records are listed", "delete/record", wrappedFresh(func() func(store.Store) store.Store {
			known := map[store.Key]store.Record{}
			return func(s store.Store) store.Store {
				return altered{Store: s,
					list: func(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
						return func(yield func(store.Record, error) bool) {
							for _, r := range known {
								if r.Kind == kind && !yield(r, nil) {
									return
								}
							}
						}
					}, commit: func(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
						for _, w := range writes {
							known[w.Record.Key] = w.Record
						}
						return storetest.CommitOne(ctx, s, head, writes...)
					}}
			}
		})},
		{"deleting what is missing fails", "delete/missing",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				for _, w := range writes {
					if _, err := s.Get(ctx, w.Record.Key); w.Op == store.Delete && err != nil {
						return store.Record{}, err
					}
				}
				return storetest.CommitOne(ctx, s, head, writes...)
			})},
		{"a record to be deleted must be valid", "delete/only the key counts",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				for _, w := range writes {
					if err := w.Record.Validate(); err != nil {
						return store.Record{}, err
					}
				}
				return storetest.CommitOne(ctx, s, head, writes...)
			})},
		{"the head cannot be deleted", "delete/head", without(isHeadDelete)},
		{"the head cannot be deleted with others", "delete/head with its records",
			changing(func(writes []store.Write) []store.Write {
				if len(writes) > 1 {
					return slices.DeleteFunc(writes, isHeadDelete)
				}
				return writes
			})},
		{"a head that is missing is created instead of deleted", "delete/head that is missing",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				if head.Revision == 0 {
					writes = slices.DeleteFunc(slices.Clone(writes), isHeadDelete)
				}
				return storetest.CommitOne(ctx, s, head, writes...)
			})},
		{"revisions begin again with each head", "delete/revisions do not come again", countingHeads()},
		{
			"revisions begin again with each head, and let old ones through", "conflict/after delete and create",
			countingHeads(),
		},
	}
}

func isHeadDelete(w store.Write) bool {
	return w.Op == store.Delete && w.Record.Kind == store.KindPool
}

// countingHeads returns a backend that counts the revisions of a head from 1 each time that it is created.
func countingHeads() func() storetest.Backend {
	return wrappedFresh(func() func(store.Store) store.Store {
		base := map[store.Key]int64{}
		shown := func(r store.Record) store.Record {
			if r.Revision > 0 {
				r.Revision -= base[r.Key]
			}
			return r
		}
		return func(s store.Store) store.Store {
			return altered{Store: s,
				get: func(ctx context.Context, key store.Key) (store.Record, error) {
					r, err := s.Get(ctx, key)
					return shown(r), err
				},
				commit: func(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
					fresh := head.Revision == 0
					if !fresh {
						head.Revision += base[head.Key]
					}
					got, err := storetest.CommitOne(ctx, s, head, writes...)
					var conflict *store.ConflictError
					if errors.As(err, &conflict) {
						conflict.Current = shown(conflict.Current)
						conflict.Expected -= base[head.Key]
					}
					if err == nil && fresh {
						base[head.Key] = got.Revision - 1
					}
					return shown(got), err
				}}
		}
	})
}

// failing returns a backend whose commits fail with other errors.
func failing(change func(error) error) func() storetest.Backend {
	return withCommit(func(
		s store.Store, ctx context.Context, head store.Record, writes []store.Write,
	) (store.Record, error) {
		got, err := storetest.CommitOne(ctx, s, head, writes...)
		return got, change(err)
	})
}

// conflicting returns a backend whose conflicts are others.
func conflicting(change func(*store.ConflictError)) func() storetest.Backend {
	return failing(func(err error) error {
		var conflict *store.ConflictError
		if errors.As(err, &conflict) {
			change(conflict)
		}
		return err
	})
}

func conflictBreaches() []breach {
	return []breach{
		{"the last writer wins", "conflict/stale head", withCommit(force)},
		{
			"the conflict carries no head", "conflict/stale head",
			conflicting(func(c *store.ConflictError) { c.Current = store.Record{Key: c.Current.Key} }),
		},
		{
			"the conflict carries a head without data", "conflict/head exists",
			conflicting(func(c *store.ConflictError) { c.Current.Data = nil }),
		},
		{
			"the conflict names the wrong revision", "conflict/stale head",
			conflicting(func(c *store.ConflictError) { c.Expected = c.Current.Revision }),
		},
		{"the conflict is flattened", "conflict/stale head", failing(func(err error) error {
			if errors.Is(err, store.ErrConflict) {
				return store.ErrConflict
			}
			return err
		})},
		{"a stale commit still deletes", "conflict/stale head",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				got, err := storetest.CommitOne(ctx, s, head, writes...)
				if errors.Is(err, store.ErrConflict) && len(writes) > 0 && writes[0].Op == store.Delete {
					force(s, ctx, store.Record{Key: store.Key{Kind: "other", Pool: "b"}}, writes)
				}
				return got, err
			})},
		{"only older revisions conflict", "conflict/head from the future",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				if current, err := s.Get(ctx, head.Key); err == nil && head.Revision > current.Revision {
					head.Revision = current.Revision
				}
				return storetest.CommitOne(ctx, s, head, writes...)
			})},
		{"revision 0 means any", "conflict/head exists",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				if head.Revision == 0 {
					return force(s, ctx, head, writes)
				}
				return storetest.CommitOne(ctx, s, head, writes...)
			})},
		{"a head that is missing is created", "conflict/head missing",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				if _, err := s.Get(ctx, head.Key); err != nil {
					head.Revision = 0
				}
				return storetest.CommitOne(ctx, s, head, writes...)
			})},
		{"the conflict carries the caller's head", "conflict/head missing",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				got, err := storetest.CommitOne(ctx, s, head, writes...)
				var conflict *store.ConflictError
				if errors.As(err, &conflict) && conflict.Current.Revision == 0 {
					conflict.Current = head
				}
				return got, err
			})},
		{"the creates are checked first", "conflict/before exists",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				for _, w := range writes {
					if r, err := s.Get(ctx, w.Record.Key); err == nil && w.Op == store.Create {
						return store.Record{}, &store.ExistsError{Records: []store.Record{r}}
					}
				}
				return storetest.CommitOne(ctx, s, head, writes...)
			})},
	}
}

func raceBreaches() []breach {
	checkThenWrite := withCommit(func(
		s store.Store, ctx context.Context, head store.Record, writes []store.Write,
	) (store.Record, error) {
		current, err := s.Get(ctx, head.Key)
		if errors.Is(err, store.ErrNotFound) {
			current, err = store.Record{Key: head.Key}, nil
		}
		if err != nil {
			return store.Record{}, err
		}
		if current.Revision != head.Revision {
			return store.Record{}, &store.ConflictError{Expected: head.Revision, Current: current}
		}
		time.Sleep(time.Millisecond)
		for i := range writes {
			writes[i].Op = store.Put
		}
		for {
			got, err := force(s, ctx, head, writes)
			if !errors.Is(err, store.ErrConflict) {
				return got, err
			}
		}
	})
	inTwoSteps := func(headFirst bool) func() storetest.Backend {
		return withCommit(func(
			s store.Store, ctx context.Context, head store.Record, writes []store.Write,
		) (store.Record, error) {
			aside := store.Record{Key: store.Key{Kind: "aside", Pool: "a"}}
			if !headFirst {
				if _, err := force(s, ctx, aside, writes); err != nil {
					return store.Record{}, err
				}
				time.Sleep(time.Millisecond)
				return storetest.CommitOne(ctx, s, head)
			}
			got, err := storetest.CommitOne(ctx, s, head)
			if err != nil {
				return got, err
			}
			time.Sleep(time.Millisecond)
			_, err = force(s, ctx, aside, writes)
			return got, err
		})
	}
	return []breach{
		{"the head is looked at and written in two steps", "contention/first head", checkThenWrite},
		{"the head is looked at and written in two steps", "contention/one winner a revision", checkThenWrite},
		{"the head is written before its records", "contention/whole commits only", inTwoSteps(true)},
		{"the head is written after its records", "contention/whole commits only", inTwoSteps(false)},
	}
}

// tolerating returns a backend that makes what is invalid valid, instead of refusing it.
func tolerating(repair func(head *store.Record, writes []store.Write) []store.Write) func() storetest.Backend {
	return withCommit(func(
		s store.Store, ctx context.Context, head store.Record, writes []store.Write,
	) (store.Record, error) {
		writes = repair(&head, slices.Clone(writes))
		return storetest.CommitOne(ctx, s, head, writes...)
	})
}

func validationBreaches() []breach {
	repairRecords := func(repair func(*store.Record)) func() storetest.Backend {
		return tolerating(func(head *store.Record, writes []store.Write) []store.Write {
			repair(head)
			for i := range writes {
				repair(&writes[i].Record)
			}
			return writes
		})
	}
	return []breach{
		{"prefixes are masked", "invalid/records", repairRecords(func(r *store.Record) {
			r.Prefixes = slices.Clone(r.Prefixes)
			for i, p := range r.Prefixes {
				r.Prefixes[i] = p.Masked()
			}
		})},
		{
			"states are made UTF-8", "invalid/records",
			repairRecords(func(r *store.Record) { r.State = strings.ToValidUTF8(r.State, "?") }),
		},
		{
			"states are cut", "invalid/records",
			repairRecords(func(r *store.Record) { r.State = r.State[:min(len(r.State), store.MaxNameBytes)] }),
		},
		{"data that is no JSON is dropped", "invalid/records", repairRecords(func(r *store.Record) {
			if !json.Valid(r.Data) {
				r.Data = nil
			}
		})},
		{"years are cut", "invalid/records", repairRecords(func(r *store.Record) {
			if r.Created.Year() > 9999 {
				r.Created = time.Time{}
			}
		})},
		{"an invalid record leaves the others", "invalid/records",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				got, err := storetest.CommitOne(ctx, s, head, writes...)
				if errors.Is(err, store.ErrInvalid) {
					storetest.CommitOne(ctx, s, head, writes[:1]...)
				}
				return got, err
			})},
		{
			"long names are cut", "invalid/keys",
			repairRecords(func(r *store.Record) { r.Name = r.Name[:min(len(r.Name), store.MaxNameBytes)] }),
		},
		{"an empty pool is one", "invalid/keys", repairRecords(func(r *store.Record) { r.Pool = cmp.Or(r.Pool, "default") })},
		{"unknown operations are dropped", "invalid/operations",
			tolerating(func(_ *store.Record, writes []store.Write) []store.Write {
				return slices.DeleteFunc(writes, func(w store.Write) bool { return w.Op < store.Create || w.Op > store.Delete })
			})},
		{"of two writes under one key the last counts", "invalid/one key twice",
			tolerating(func(_ *store.Record, writes []store.Write) []store.Write {
				last := map[store.Key]store.Write{}
				for _, w := range writes {
					last[w.Record.Key] = w
				}
				var left []store.Write
				for _, w := range last {
					left = append(left, w)
				}
				return left
			})},
		{"a put of the head is dropped", "invalid/one key twice",
			tolerating(func(head *store.Record, writes []store.Write) []store.Write {
				return slices.DeleteFunc(writes, func(w store.Write) bool { return w.Record.Key == head.Key && w.Op == store.Put })
			})},
		{"a negative revision is 0", "invalid/revision",
			tolerating(func(head *store.Record, writes []store.Write) []store.Write {
				head.Revision = max(head.Revision, 0)
				return writes
			})},
		{"List of an invalid pool is empty", "list/invalid arguments",
			withList(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				if (store.Key{Kind: kind, Pool: pool}).Validate() != nil {
					return func(func(store.Record, error) bool) {}
				}
				return s.List(ctx, kind, pool)
			})},
	}
}

func fieldBreaches() []breach {
	times := func(change func(time.Time) time.Time) func() storetest.Backend {
		return yielding(func(r *store.Record) { r.Created, r.Expires = change(r.Created), change(r.Expires) })
	}
	data := func(change func([]byte) []byte) func() storetest.Backend {
		return yielding(func(r *store.Record) { r.Data = change(r.Data) })
	}
	return []breach{
		{"states are trimmed", "fields/state", storing(func(r *store.Record) { r.State = strings.TrimSpace(r.State) })},
		{"states are cut", "fields/state", storing(func(r *store.Record) { r.State = r.State[:min(255, len(r.State))] })},
		{"prefixes are sorted", "fields/prefixes", storing(func(r *store.Record) {
			slices.SortFunc(r.Prefixes, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
		})},
		{"prefixes are a set", "fields/prefixes", storing(func(r *store.Record) { r.Prefixes = slices.Compact(r.Prefixes) })},
		{"a prefix of all addresses is none", "fields/prefixes", storing(func(r *store.Record) {
			r.Prefixes = slices.DeleteFunc(r.Prefixes, func(p netip.Prefix) bool { return p.Bits() == 0 })
		})},
		{"times are in seconds", "fields/times", times(func(t time.Time) time.Time { return t.Truncate(time.Second) })},
		{
			"times are in milliseconds", "fields/times",
			times(func(t time.Time) time.Time { return t.Truncate(time.Millisecond) }),
		},
		{
			"times are rounded", "fields/times",
			storing(func(r *store.Record) { r.Created = r.Created.Add(500 * time.Nanosecond) }),
		},
		{"times are local", "fields/times", times(func(t time.Time) time.Time { return t.In(time.FixedZone("", 3600)) })},
		{"the zero time is 1970", "fields/times", times(func(t time.Time) time.Time {
			if t.IsZero() {
				return time.Unix(0, 0).UTC()
			}
			return t
		})},
		{"1970 is the zero time", "fields/times", times(func(t time.Time) time.Time {
			if t.Unix() == 0 {
				return time.Time{}
			}
			return t
		})},
		{"Expires is lost", "fields/times", storing(func(r *store.Record) { r.Expires = time.Time{} })},
		{"numbers are floating-point", "fields/data", data(func(text []byte) []byte {
			var value any
			if json.Unmarshal(text, &value) != nil {
				return text
			}
			text, _ = json.Marshal(value)
			return text
		})},
		{"null is nothing", "fields/data", data(func(text []byte) []byte {
			if string(text) == "null" {
				return nil
			}
			return text
		})},
		{"nothing is null", "fields/data", data(func(text []byte) []byte {
			if len(text) == 0 {
				return []byte("null")
			}
			return text
		})},
		{
			"strings are escaped for HTML twice", "fields/data",
			data(func(text []byte) []byte { return bytes.ReplaceAll(text, []byte("<"), []byte("&lt;")) }),
		},
		{"member names lose their case", "fields/data", data(bytes.ToLower)},
		{"data is cut", "fields/data", storing(func(r *store.Record) {
			if len(r.Data) > 8<<10 {
				r.Data = json.RawMessage(`""`)
			}
		})},
		{"prefixes are lost where there is data", "fields/all", storing(func(r *store.Record) {
			if r.Data != nil {
				r.Prefixes = nil
			}
		})},
		{"a list lacks the data", "list/whole records",
			withList(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for r, err := range s.List(ctx, kind, pool) {
						if r.Data = nil; !yield(r, err) {
							return
						}
					}
				}
			})},
	}
}

func keyBreaches() []breach {
	texts := func(change func(string) string) func() storetest.Backend {
		return renaming(func(k store.Key) store.Key {
			return store.Key{Kind: store.Kind(change(string(k.Kind))), Pool: change(k.Pool), Name: change(k.Name)}
		})
	}
	cut := func(n int) func() storetest.Backend {
		return texts(func(s string) string { return s[:min(n, len(s))] })
	}
	return []breach{
		{"keys have no case", "names/odd names", texts(strings.ToLower)},
		{
			"keys are trimmed", "names/odd pools",
			texts(func(s string) string { return cmp.Or(strings.TrimSpace(s), s[:min(1, len(s))]) }),
		},
		{"keys are cut at 63 bytes", "names/odd kinds", cut(63)},
		{"keys are cut at 253 bytes", "names/odd names", cut(253)},
		{"keys are cut at 1023 bytes", "names/odd pools", cut(1023)},
		{"keys are paths", "names/odd names", texts(func(s string) string { return strings.ReplaceAll(s, "//", "/") })},
		{"keys are unescaped", "names/odd names", texts(func(s string) string { return strings.ReplaceAll(s, "%2F", "/") })},
		{
			"line breaks are white space", "names/odd names",
			texts(func(s string) string { return strings.ReplaceAll(s, "\n", " ") }),
		},
		{"unknown kinds are one", "names/odd kinds", renaming(func(k store.Key) store.Key {
			switch k.Kind {
			case store.KindPool, store.KindAllocation, store.KindSpace:
			default:
				k.Kind = "other"
			}
			return k
		})},
		{"keys are joined with slashes", "names/alike", renaming(func(k store.Key) store.Key {
			if k.Name == "" {
				return k
			}
			i := strings.LastIndex(k.Pool+"/"+k.Name, "/")
			joined := k.Pool + "/" + k.Name
			return store.Key{Kind: k.Kind, Pool: cmp.Or(joined[:i], "/"), Name: joined[i+1:]}
		})},
	}
}

// keeping is a store that gives out, and keeps, the very slices that it was given.
func keeping(given, got bool, kinds ...string) func() storetest.Backend {
	return wrappedFresh(func() func(store.Store) store.Store {
		kept := map[store.Key]store.Record{}
		show := func(r store.Record, where string) store.Record {
			if own, ok := kept[r.Key]; ok && own.Revision == r.Revision && slices.Contains(kinds, where) {
				return own
			}
			if own, ok := kept[r.Key]; ok && own.Revision == r.Revision {
				return own.Canonical()
			}
			return r
		}
		keep := func(r store.Record, revision int64) {
			if !given {
				r = r.Canonical()
			}
			r.Revision, r.Created, r.Expires = revision, r.Canonical().Created, r.Canonical().Expires
			kept[r.Key] = r
		}
		return func(s store.Store) store.Store {
			return altered{Store: s,
				get: func(ctx context.Context, key store.Key) (store.Record, error) {
					r, err := s.Get(ctx, key)
					return show(r, "Get"), err
				},
				list: func(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
					return func(yield func(store.Record, error) bool) {
						for r, err := range s.List(ctx, kind, pool) {
							if !yield(show(r, "List"), err) {
								return
							}
						}
					}
				},
				commit: func(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
					next, err := storetest.CommitOne(ctx, s, head, writes...)
					var conflict *store.ConflictError
					var exists *store.ExistsError
					switch {
					case errors.As(err, &conflict):
						conflict.Current = show(conflict.Current, "conflict")
					case errors.As(err, &exists):
						exists.Records[0] = show(exists.Records[0], "exists")
					case err == nil:
						keep(head, next.Revision)
						for _, w := range writes {
							keep(w.Record, next.Revision)
						}
						next = show(next, "Commit")
					}
					return next, err
				},
				find: func(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
					r, err := s.Find(ctx, pool, addr)
					return show(r, "Find"), err
				},
			}
		}
	})
}

func aliasingBreaches() []breach {
	return []breach{
		{"what was given is kept", "aliasing/given", keeping(true, false)},
		{"Commit returns what is kept", "aliasing/returned", keeping(false, true, "Commit")},
		{"Get returns what is kept", "aliasing/returned", keeping(false, true, "Get")},
		{"List yields what is kept", "aliasing/returned", keeping(false, true, "List")},
		{"Find returns what is kept", "aliasing/returned", keeping(false, true, "Find")},
		{"conflicts carry what is kept", "aliasing/in errors", keeping(false, true, "conflict")},
		{"exists errors carry what is kept", "aliasing/in errors", keeping(false, true, "exists")},
	}
}

// lifeBreaches are about contexts, handles and durability.
func lifeBreaches() []breach {
	return []breach{
		{"Get does not look at its context", "context/ended before",
			withGet(func(s store.Store, _ context.Context, key store.Key) (store.Record, error) {
				return s.Get(context.Background(), key)
			})},
		{"List does not look at its context", "context/ended before",
			withList(func(s store.Store, _ context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return s.List(context.Background(), kind, pool)
			})},
		{"a commit with an ended context takes effect", "context/ended before",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				got, err := storetest.CommitOne(context.WithoutCancel(ctx), s, head, writes...)
				if ctx.Err() != nil {
					return got, ctx.Err()
				}
				return got, err
			})},
		{"an ended context is flattened", "context/ended before",
			withGet(func(s store.Store, ctx context.Context, key store.Key) (store.Record, error) {
				if ctx.Err() != nil {
					return store.Record{}, errors.New("cancelled")
				}
				return s.Get(ctx, key)
			})},
		{"a commit whose context ends meanwhile says that it failed", "context/ends in the middle",
			withCommit(func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				if ctx.Err() != nil {
					return store.Record{}, ctx.Err()
				}
				got, err := storetest.CommitOne(context.WithoutCancel(ctx), s, head, writes...)
				if _, ok := ctx.Deadline(); ok {
					select {
					case <-ctx.Done():
					case <-time.After(20 * time.Millisecond):
					}
				}
				if ctx.Err() != nil {
					return store.Record{}, ctx.Err()
				}
				return got, err
			})},
		{"a closed handle works", "close/use afterwards", wrapped(func(s store.Store) store.Store {
			return altered{Store: s, close: func() error { return nil }}
		})},
		{"a closed handle commits", "close/use afterwards", wrappedFresh(func() func(store.Store) store.Store {
			var latest store.Store
			return func(s store.Store) store.Store {
				latest = s
				return altered{Store: s,
					commit: func(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
						return storetest.CommitOne(ctx, latest, head, writes...)
					}}
			}
		})},
		{"the second Close fails", "close/twice", wrapped(func(s store.Store) store.Store {
			closed := false
			return altered{Store: s, close: func() error {
				if closed {
					return store.ErrClosed
				}
				closed = true
				return s.Close()
			}}
		})},
		{"Close closes all handles", "close/other handles go on", wrappedFresh(func() func(store.Store) store.Store {
			var all []store.Store
			return func(s store.Store) store.Store {
				all = append(all, s)
				return altered{Store: s, close: func() error {
					for _, s := range all {
						s.Close()
					}
					return nil
				}}
			}
		})},
		{"a commit during Close fails in its own way", "close/during calls", failing(func(err error) error {
			if errors.Is(err, store.ErrClosed) {
				return errors.New("broken pipe")
			}
			return err
		})},
		{"Close waits for all calls to end for ever", "close/during calls", wrapped(func(s store.Store) store.Store {
			var running sync.RWMutex
			var closing atomic.Bool
			return altered{Store: s, close: func() error {
				if closing.Swap(true) {
					return nil
				}
				running.Lock()
				select {}
			}}
		})},
		{"commits after the last but one are lost with the handle", "durability/reopen", func() storetest.Backend {
			return storetest.Backend{OneHandle: true, Open: func(context.Context) (store.Store, error) {
				return store.NewMemory(), nil
			}}
		}},
		{"deletes come back when the store is opened again", "durability/reopen", wrappedFresh(func() func(
			store.Store,
		) store.Store {
			opened := 0
			gone := map[store.Key]store.Record{}
			return func(s store.Store) store.Store {
				if opened++; opened > 1 {
					for _, r := range gone {
						force(s, context.Background(), store.Record{Key: store.Key{Kind: "aside", Pool: "a"}},
							[]store.Write{{Op: store.Put, Record: r}})
					}
				}
				return altered{Store: s,
					commit: func(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
						for _, w := range writes {
							if r, err := s.Get(ctx, w.Record.Key); err == nil && w.Op == store.Delete {
								gone[r.Key] = r
							}
						}
						return storetest.CommitOne(ctx, s, head, writes...)
					}}
			}
		})},
	}
}

// byOffset lists in pages of ten, and begins each page by counting.
func byOffset(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for offset := 0; ; offset += 10 {
			all := sorted(s, ctx, kind, pool)
			if offset >= len(all) {
				return
			}
			for _, r := range all[offset:min(offset+10, len(all))] {
				if !yield(r, nil) {
					return
				}
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
}

func sorted(s store.Store, ctx context.Context, kind store.Kind, pool string) []store.Record {
	var all []store.Record
	for r, err := range s.List(ctx, kind, pool) {
		if err == nil {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b store.Record) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// damaging returns a backend on which records can be damaged. List yields, instead of these, what instead says.
func damaging(instead func(damaged []error) (whole bool, last error)) func() storetest.Backend {
	return func() storetest.Backend {
		var damaged []store.Key
		memory := store.NewMemory()
		list := func(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
			return func(yield func(store.Record, error) bool) {
				var errs []error
				for _, key := range damaged {
					errs = append(errs, fmt.Errorf("%v: %w", key, store.ErrDamaged))
				}
				whole, last := instead(errs)
				for r, err := range memory.List(ctx, kind, pool) {
					if !slices.Contains(damaged, r.Key) && whole && !yield(r, err) {
						return
					}
				}
				if last != nil {
					yield(store.Record{}, last)
				}
			}
		}
		return storetest.Backend{
			Open: func(context.Context) (store.Store, error) { return altered{Store: memory.Open(), list: list}, nil },
			Damage: func(_ context.Context, key store.Key) error {
				damaged = append(damaged, key)
				return nil
			},
		}
	}
}

// TestDamagedRecords: a store that does as the contract says passes.
func TestDamagedRecords(t *testing.T) {
	for name, instead := range map[string]func([]error) (bool, error){
		"goes on": func(damaged []error) (bool, error) { return true, &store.DamagedError{Damaged: damaged} },
		"stops":   func(damaged []error) (bool, error) { return false, damaged[0] },
	} {
		t.Run(name, func(t *testing.T) { storetest.RunCase(t, "list/damaged records", damaging(instead)()) })
	}
}

func damageBreaches() []breach {
	const by = "list/damaged records"
	return []breach{
		{"silent", by, damaging(func([]error) (bool, error) { return true, nil })},
		{"names one", by, damaging(func(damaged []error) (bool, error) {
			return true, &store.DamagedError{Damaged: damaged[:1]}
		})},
		{"hides others", by, damaging(func(damaged []error) (bool, error) {
			return false, &store.DamagedError{Damaged: damaged}
		})},
	}
}

func listBreaches() []breach {
	locking := wrappedFresh(func() func(store.Store) store.Store {
		var mu sync.RWMutex
		return func(s store.Store) store.Store {
			return altered{Store: s,
				list: func(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
					return func(yield func(store.Record, error) bool) {
						mu.RLock()
						defer mu.RUnlock()
						s.List(ctx, kind, pool)(yield)
					}
				},
				commit: func(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
					mu.Lock()
					defer mu.Unlock()
					return storetest.CommitOne(ctx, s, head, writes...)
				}}
		}
	})
	lockingReads := wrappedFresh(func() func(store.Store) store.Store {
		var mu sync.Mutex
		return func(s store.Store) store.Store {
			return altered{Store: s,
				list: func(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
					return func(yield func(store.Record, error) bool) {
						mu.Lock()
						defer mu.Unlock()
						s.List(ctx, kind, pool)(yield)
					}
				}}
		}
	})
	return []breach{
		{"List of nothing fails", "list/empty",
			withList(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				if len(sorted(s, ctx, kind, pool)) == 0 {
					return func(yield func(store.Record, error) bool) { yield(store.Record{}, store.ErrNotFound) }
				}
				return s.List(ctx, kind, pool)
			})},
		{"pools are told apart by what they begin with", "list/kinds and pools apart",
			withList(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for r, err := range s.List(ctx, kind, "") {
						if strings.HasPrefix(r.Pool, pool) && !yield(r, err) {
							return
						}
					}
				}
			})},
		{"an empty pool is none", "list/kinds and pools apart",
			withList(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				if pool == "" {
					return func(func(store.Record, error) bool) {}
				}
				return s.List(ctx, kind, pool)
			})},
		{"a loop that stops early goes on", "list/early stop",
			withList(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for r, err := range s.List(ctx, kind, pool) {
						yield(r, err)
					}
				}
			})},
		{"a loop that stops early keeps the lock", "list/early stop", wrappedFresh(func() func(store.Store) store.Store {
			var mu sync.RWMutex
			return func(s store.Store) store.Store {
				return altered{Store: s,
					list: func(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
						return func(yield func(store.Record, error) bool) {
							mu.RLock()
							for r, err := range s.List(ctx, kind, pool) {
								if !yield(r, err) {
									return
								}
							}
							mu.RUnlock()
						}
					},
					commit: func(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
						mu.Lock()
						defer mu.Unlock()
						return storetest.CommitOne(ctx, s, head, writes...)
					}}
			}
		})},
		{"an iterator works once", "list/again",
			withList(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				all := sorted(s, ctx, kind, pool)
				return func(yield func(store.Record, error) bool) {
					for len(all) > 0 {
						r := all[0]
						if all = all[1:]; !yield(r, nil) {
							return
						}
					}
				}
			})},
		{"List holds a lock while it yields", "list/commits in the body", locking},
		{"List reads by offset", "list/commits in the body", withList(byOffset)},
		{"List yields the first twice", "list/commits in the body",
			withList(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for i, r := range sorted(s, ctx, kind, pool) {
						if i == 0 && !yield(r, nil) || !yield(r, nil) {
							return
						}
					}
				}
			})},
		{"List locks out other reads while it yields", "list/reads in the body", lockingReads},
		{"List reads by offset", "list/beside commits", withList(byOffset)},
		{"List goes on after an error", "list/errors come last",
			withList(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for _, r := range sorted(s, ctx, kind, pool) {
						if !yield(r, ctx.Err()) {
							return
						}
					}
				}
			})},
		{"List ends early without an error", "list/errors come last",
			withList(func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for _, r := range sorted(s, ctx, kind, pool) {
						if ctx.Err() != nil || !yield(r, nil) {
							return
						}
					}
				}
			})},
	}
}

// pick finds the allocation whose prefix is best by better, of those with addr.
func pick(matches func(netip.Prefix, netip.Addr) bool, better func(a, b int) bool) findFunc {
	return func(s store.Store, ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
		if err := (store.Key{Kind: store.KindAllocation, Pool: pool}).Validate(); err != nil {
			return store.Record{}, err
		}
		bits, best := -1, store.Record{}
		for _, r := range sorted(s, ctx, store.KindAllocation, pool) {
			for _, p := range r.Prefixes {
				if matches(p, addr) && (bits < 0 || better(p.Bits(), bits)) {
					bits, best = p.Bits(), r
				}
			}
		}
		if bits < 0 {
			return best, store.ErrNotFound
		}
		return best, nil
	}
}

func findBreaches() []breach {
	longer := func(a, b int) bool { return a > b }
	return []breach{
		{
			"Find looks for hosts only", "find/containing prefix",
			withFind(pick(func(p netip.Prefix, a netip.Addr) bool { return p.IsSingleIP() && p.Addr() == a }, longer)),
		},
		{"Find looks at the first prefix only", "find/containing prefix",
			withFind(func(s store.Store, ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
				r, err := s.Find(ctx, pool, addr)
				if err == nil && !r.Prefixes[0].Contains(addr) {
					return store.Record{}, store.ErrNotFound
				}
				return r, err
			})},
		{"an address with a zone is in no prefix", "find/containing prefix", withFind(pick(netip.Prefix.Contains, longer))},
		{"IPv4 and IPv6 are one", "find/containing prefix", withFind(pick(func(p netip.Prefix, a netip.Addr) bool {
			return p.Contains(a) || p.Bits() <= 32 && bytes.HasPrefix(a.AsSlice(), p.Addr().AsSlice())
		}, longer))},
		{
			"Find takes the shortest prefix", "find/longest prefix",
			withFind(pick(netip.Prefix.Contains, func(a, b int) bool { return a < b })),
		},
		{"the index is not updated", "find/after changes", wrappedFresh(func() func(store.Store) store.Store {
			index := map[netip.Addr]store.Record{}
			return func(s store.Store) store.Store {
				return altered{Store: s, find: func(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
					if r, ok := index[addr]; ok {
						return r, nil
					}
					r, err := s.Find(ctx, pool, addr)
					if err == nil {
						index[addr] = r
					}
					return r, err
				}}
			}
		})},
		{"overlaps are taken", "find/overlap refused", func() storetest.Backend {
			b := wrapped(func(s store.Store) store.Store { return s })()
			b.NoOverlap = true
			return b
		}},
		{"Find looks at all pools", "find/pools and kinds apart",
			withFind(func(s store.Store, ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
				r, err := s.Find(ctx, pool, addr)
				if other, otherErr := s.Find(ctx, "b", addr); err != nil && otherErr == nil {
					return other, nil
				}
				return r, err
			})},
		{"Find looks at all kinds", "find/pools and kinds apart",
			withFind(func(s store.Store, ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
				for r := range s.List(ctx, store.KindSpace, pool) {
					if r.Prefixes[0].Contains(addr) {
						return r, nil
					}
				}
				return s.Find(ctx, pool, addr)
			})},
		{"4in6 addresses are IPv4", "find/addresses in no prefix",
			withFind(func(s store.Store, ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
				return s.Find(ctx, pool, addr.Unmap())
			})},
		{"an invalid pool is empty", "find/invalid pool",
			withFind(func(s store.Store, ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
				r, err := s.Find(ctx, pool, addr)
				if errors.Is(err, store.ErrInvalid) {
					return r, store.ErrNotFound
				}
				return r, err
			})},
	}
}

// limited returns a backend that takes so many writes and bytes of the head's data, and otherwise does what tooMuch
// does.
func limited(writesMax, bytesMax int, tooMuch commitFunc) func() storetest.Backend {
	return withCommit(func(
		s store.Store, ctx context.Context, head store.Record, writes []store.Write,
	) (store.Record, error) {
		if len(writes) > writesMax || len(head.Data) > bytesMax {
			return tooMuch(s, ctx, head, writes)
		}
		return storetest.CommitOne(ctx, s, head, writes...)
	})
}

func sizeBreaches() []breach {
	tooLarge := &store.TooLargeError{What: "commit"}
	return []breach{
		{"a large head is cut", "size/bytes", storing(func(r *store.Record) {
			if len(r.Data) > 1<<20 {
				r.Data = json.RawMessage(`""`)
			}
		})},
		{"what is too large is another error", "size/bytes",
			limited(1000, 1<<20, func(store.Store, context.Context, store.Record, []store.Write) (store.Record, error) {
				return store.Record{}, fmt.Errorf("request is too large")
			})},
		{"what is too large is written without its head", "size/bytes", limited(1000, 1<<20,
			func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				force(s, ctx, store.Record{Key: store.Key{Kind: "aside", Pool: "a"}}, writes)
				return store.Record{}, tooLarge
			})},
		{"too many writes are written in part", "size/writes", limited(100, 1<<20,
			func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				storetest.CommitOne(ctx, s, head, writes[:100]...)
				return store.Record{}, tooLarge
			})},
		{"too many writes are dropped", "size/writes", limited(100, 1<<20,
			func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				return storetest.CommitOne(ctx, s, head, writes[:100]...)
			})},
		{"what is too large does not say what it is", "size/writes",
			limited(100, 1<<20, func(store.Store, context.Context, store.Record, []store.Write) (store.Record, error) {
				return store.Record{}, &store.TooLargeError{}
			})},
	}
}
