package storetest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// oneByOne commits one change after the other.
func oneByOne(s store.Store, ctx context.Context, changes []store.Change) (heads []store.Record, err error) {
	if err := store.ValidateCommit(changes...); err != nil {
		return nil, err
	}
	for _, c := range changes {
		head, err := storetest.CommitOne(ctx, s, c.Head, c.Writes...)
		if err != nil {
			return nil, err
		}
		heads = append(heads, head)
	}
	return heads, nil
}

// checked commits one change after the other, after it has seen that nothing is in the way.
func checked(s store.Store, ctx context.Context, changes []store.Change) ([]store.Record, error) {
	for _, c := range changes {
		current, err := s.Get(ctx, c.Head.Key)
		if err != nil {
			current.Key = c.Head.Key
		}
		if current.Revision != c.Head.Revision {
			return nil, &store.ConflictError{Expected: c.Head.Revision, Current: current}
		}
	}
	time.Sleep(100 * time.Microsecond)
	return oneByOne(s, ctx, changes)
}

func headBreaches() []breach {
	return []breach{
		{"the last change is forgotten", "heads/commit",
			withCommitAll(func(s store.Store, ctx context.Context, changes []store.Change) ([]store.Record, error) {
				heads, err := s.Commit(ctx, changes[:max(1, len(changes)-1)]...)
				for i := len(heads); err == nil && i < len(changes); i++ {
					head := changes[i].Head.Canonical()
					head.Revision = heads[0].Revision
					heads = append(heads, head)
				}
				return heads, err
			})},
		{"heads are returned in another order", "heads/commit",
			withCommitAll(func(s store.Store, ctx context.Context, changes []store.Change) ([]store.Record, error) {
				heads, err := s.Commit(ctx, changes...)
				slices.Reverse(heads)
				return heads, err
			})},
		{"the records are all written with the last head", "heads/commit",
			withCommitAll(func(s store.Store, ctx context.Context, changes []store.Change) (heads []store.Record, err error) {
				var writes []store.Write
				for i, c := range changes {
					if writes = append(writes, c.Writes...); i < len(changes)-1 {
						c.Writes = nil
					} else {
						c.Writes = writes
					}
					head, err := storetest.CommitOne(ctx, s, c.Head, c.Writes...)
					if err != nil {
						return nil, err
					}
					heads = append(heads, head)
				}
				return heads, nil
			})},
		{"each head has a revision of its own", "heads/commit",
			withCommitAll(func(s store.Store, ctx context.Context, changes []store.Change) ([]store.Record, error) {
				heads, err := s.Commit(ctx, changes...)
				for i := range heads {
					heads[i].Revision += int64(i)
				}
				return heads, err
			})},
		{"changes are made one by one", "heads/conflict", withCommitAll(oneByOne)},
		{"a conflict is about the first head", "heads/conflict",
			withCommitAll(func(s store.Store, ctx context.Context, changes []store.Change) ([]store.Record, error) {
				heads, err := s.Commit(ctx, changes...)
				if errors.Is(err, store.ErrConflict) {
					current, _ := s.Get(ctx, changes[0].Head.Key)
					err = &store.ConflictError{Expected: changes[0].Head.Revision, Current: current}
				}
				return heads, err
			})},
		{"changes are made one by one", "heads/exists", withCommitAll(oneByOne)},
		{"creates replace", "heads/exists",
			withCommitAll(func(s store.Store, ctx context.Context, changes []store.Change) ([]store.Record, error) {
				for _, c := range changes {
					for i := range c.Writes {
						c.Writes[i].Op = max(c.Writes[i].Op, store.Put)
					}
				}
				return s.Commit(ctx, changes...)
			})},
		{"heads are never deleted", "heads/come and go", withCommitAll(func(
			s store.Store, ctx context.Context, changes []store.Change,
		) ([]store.Record, error) {
			for i, c := range changes {
				changes[i].Writes = slices.DeleteFunc(slices.Clone(c.Writes), func(w store.Write) bool {
					return w.Record.Key == c.Head.Key
				})
			}
			return s.Commit(ctx, changes...)
		})},
		{"a head deleted and created begins anew", "heads/revisions rise", wrapped(func(s store.Store) store.Store {
			return altered{Store: s,
				commit: func(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
					created := head.Revision == 0 && len(writes) == 0
					done, err := storetest.CommitOne(ctx, s, head, writes...)
					if created {
						done.Revision = 1
					}
					return done, err
				}}
		})},
		{"no changes are a success", "heads/invalid",
			withCommitAll(func(s store.Store, ctx context.Context, changes []store.Change) ([]store.Record, error) {
				if len(changes) == 0 {
					return nil, nil
				}
				return s.Commit(ctx, changes...)
			})},
		{"each change is validated for itself", "heads/invalid",
			withCommitAll(func(s store.Store, ctx context.Context, changes []store.Change) (heads []store.Record, err error) {
				for _, c := range changes {
					if err := store.ValidateCommit(c); err != nil {
						return nil, err
					}
				}
				if len(changes) == 0 {
					return nil, store.ErrInvalid
				}
				for _, c := range changes {
					head, err := force(s, ctx, c.Head, c.Writes)
					if err != nil {
						return nil, err
					}
					heads = append(heads, head)
				}
				return heads, nil
			})},
		{"what is returned is what was given", "heads/aliasing", wrappedFresh(func() func(store.Store) store.Store {
			kept := map[store.Key]store.Record{}
			return func(s store.Store) store.Store {
				return altered{Store: s,
					get: func(ctx context.Context, key store.Key) (store.Record, error) {
						if r, ok := kept[key]; ok {
							return r, nil
						}
						return s.Get(ctx, key)
					},
					commitAll: func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
						heads, err := s.Commit(ctx, changes...)
						for _, head := range heads {
							kept[head.Key] = head
						}
						return heads, err
					}}
			}
		})},
		{"heads are looked at, then changed", "heads/contention",
			withCommitAll(func(s store.Store, ctx context.Context, changes []store.Change) (heads []store.Record, err error) {
				for _, c := range changes {
					if r, err := s.Get(ctx, c.Head.Key); err == nil && r.Revision != c.Head.Revision {
						return nil, &store.ConflictError{Expected: c.Head.Revision, Current: r}
					}
				}
				time.Sleep(time.Millisecond)
				for _, c := range changes {
					head, err := force(s, ctx, c.Head, c.Writes)
					if errors.Is(err, store.ErrConflict) {
						head, err = force(s, ctx, c.Head, c.Writes)
					}
					if err != nil {
						return nil, err
					}
					heads = append(heads, head)
				}
				return heads, nil
			})},
		{"heads are locked in the order given", "heads/contention", wrappedFresh(func() func(store.Store) store.Store {
			var mu sync.Mutex
			locks := map[store.Key]*sync.Mutex{}
			return func(s store.Store) store.Store {
				return altered{Store: s, commitAll: func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
					var held []*sync.Mutex
					defer func() {
						for _, lock := range held {
							lock.Unlock()
						}
					}()
					for _, c := range changes {
						mu.Lock()
						lock := locks[c.Head.Key]
						if lock == nil {
							lock = &sync.Mutex{}
							locks[c.Head.Key] = lock
						}
						mu.Unlock()
						lock.Lock()
						held = append(held, lock)
						time.Sleep(time.Millisecond)
					}
					return s.Commit(ctx, changes...)
				}}
			}
		})},
		{"changes are made one by one", "heads/whole commits only",
			withCommitAll(func(s store.Store, ctx context.Context, changes []store.Change) ([]store.Record, error) {
				if len(changes) == 4 { // a reader, who commits all accounts as they were read, does not check
					return checkedHeads(changes), nil
				}
				return checked(s, ctx, changes)
			})},
		{"commits of several heads are lost with the handle", "heads/reopen",
			wrappedFresh(func() func(store.Store) store.Store {
				var undo [][]store.Record
				return func(s store.Store) store.Store {
					for _, records := range undo {
						for _, r := range records {
							force(s, context.Background(), r, nil)
						}
					}
					undo = nil
					return altered{Store: s, commitAll: func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
						var before []store.Record
						for _, c := range changes {
							r, _ := s.Get(ctx, c.Head.Key)
							before = append(before, r)
						}
						undo = append(undo, before)
						return s.Commit(ctx, changes...)
					}}
				}
			})},
	}
}

func checkedHeads(changes []store.Change) (heads []store.Record) {
	for _, c := range changes {
		c.Head.Revision++
		heads = append(heads, c.Head.Canonical())
	}
	return heads
}
