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

// committing is a store whose CommitSeveral is another.
type committing struct {
	store.Store
	several func(ctx context.Context, changes []store.Change) ([]store.Record, error)
}

func (c committing) CommitSeveral(ctx context.Context, changes []store.Change) ([]store.Record, error) {
	return c.several(ctx, changes)
}

// severalFunc is what a wrapper replaces CommitSeveral with, given the store beneath.
type severalFunc = func(s *store.Memory, ctx context.Context, changes []store.Change) ([]store.Record, error)

func withSeveral(several severalFunc) func() storetest.Backend {
	return wrapped(func(s store.Store) store.Store {
		memory, ok := s.(*store.Memory)
		if !ok {
			return s
		}
		return committing{s, func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
			return several(memory, ctx, changes)
		}}
	})
}

// oneByOne commits one change after the other.
func oneByOne(s *store.Memory, ctx context.Context, changes []store.Change) (heads []store.Record, err error) {
	if err := store.ValidateSeveral(changes); err != nil {
		return nil, err
	}
	for _, c := range changes {
		head, err := s.Commit(ctx, c.Head, c.Writes)
		if err != nil {
			return nil, err
		}
		heads = append(heads, head)
	}
	return heads, nil
}

// checked commits one change after the other, after it has seen that nothing is in the way.
func checked(s *store.Memory, ctx context.Context, changes []store.Change) ([]store.Record, error) {
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

func severalBreaches() []breach {
	return []breach{
		{"the last change is forgotten", "several/commit", withSeveral(func(s *store.Memory, ctx context.Context, changes []store.Change) ([]store.Record, error) {
			heads, err := s.CommitSeveral(ctx, changes[:max(1, len(changes)-1)])
			for i := len(heads); err == nil && i < len(changes); i++ {
				head := changes[i].Head.Canonical()
				head.Revision = heads[0].Revision
				heads = append(heads, head)
			}
			return heads, err
		})},
		{"heads are returned in another order", "several/commit", withSeveral(func(s *store.Memory, ctx context.Context, changes []store.Change) ([]store.Record, error) {
			heads, err := s.CommitSeveral(ctx, changes)
			slices.Reverse(heads)
			return heads, err
		})},
		{"the records are all written with the last head", "several/commit", withSeveral(func(s *store.Memory, ctx context.Context, changes []store.Change) (heads []store.Record, err error) {
			var writes []store.Write
			for i, c := range changes {
				if writes = append(writes, c.Writes...); i < len(changes)-1 {
					c.Writes = nil
				} else {
					c.Writes = writes
				}
				head, err := s.Commit(ctx, c.Head, c.Writes)
				if err != nil {
					return nil, err
				}
				heads = append(heads, head)
			}
			return heads, nil
		})},
		{"one change is not guarded", "several/one change", withSeveral(func(s *store.Memory, ctx context.Context, changes []store.Change) ([]store.Record, error) {
			if len(changes) == 1 {
				head, err := force(s, ctx, changes[0].Head, changes[0].Writes)
				return []store.Record{head}, err
			}
			return s.CommitSeveral(ctx, changes)
		})},
		{"changes are made one by one", "several/conflict", withSeveral(oneByOne)},
		{"a conflict is about the first head", "several/conflict", withSeveral(func(s *store.Memory, ctx context.Context, changes []store.Change) ([]store.Record, error) {
			heads, err := s.CommitSeveral(ctx, changes)
			if errors.Is(err, store.ErrConflict) {
				current, _ := s.Get(ctx, changes[0].Head.Key)
				err = &store.ConflictError{Expected: changes[0].Head.Revision, Current: current}
			}
			return heads, err
		})},
		{"changes are made one by one", "several/exists", withSeveral(oneByOne)},
		{"creates replace", "several/exists", withSeveral(func(s *store.Memory, ctx context.Context, changes []store.Change) ([]store.Record, error) {
			for _, c := range changes {
				for i := range c.Writes {
					c.Writes[i].Op = max(c.Writes[i].Op, store.Put)
				}
			}
			return s.CommitSeveral(ctx, changes)
		})},
		{"heads are never deleted", "several/heads come and go", withSeveral(func(s *store.Memory, ctx context.Context, changes []store.Change) ([]store.Record, error) {
			for i, c := range changes {
				changes[i].Writes = slices.DeleteFunc(slices.Clone(c.Writes), func(w store.Write) bool { return w.Record.Key == c.Head.Key })
			}
			return s.CommitSeveral(ctx, changes)
		})},
		{"a head deleted and created begins anew", "several/revisions rise", wrapped(func(s store.Store) store.Store {
			return altered{Store: s, commit: func(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				created := head.Revision == 0 && len(writes) == 0
				done, err := s.Commit(ctx, head, writes)
				if created {
					done.Revision = 1
				}
				return done, err
			}}
		})},
		{"no changes are a success", "several/invalid", withSeveral(func(s *store.Memory, ctx context.Context, changes []store.Change) ([]store.Record, error) {
			if len(changes) == 0 {
				return nil, nil
			}
			return s.CommitSeveral(ctx, changes)
		})},
		{"each change is validated for itself", "several/invalid", withSeveral(func(s *store.Memory, ctx context.Context, changes []store.Change) (heads []store.Record, err error) {
			for _, c := range changes {
				if err := store.ValidateCommit(c.Head, c.Writes); err != nil {
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
		{"what is returned is what was given", "several/aliasing", wrappedFresh(func() func(store.Store) store.Store {
			kept := map[store.Key]store.Record{}
			return func(s store.Store) store.Store {
				return sharing{committing{s, func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
					heads, err := s.(*store.Memory).CommitSeveral(ctx, changes)
					for _, head := range heads {
						kept[head.Key] = head
					}
					return heads, err
				}}, kept}
			}
		})},
		{"heads are looked at, then changed", "several/contention", withSeveral(func(s *store.Memory, ctx context.Context, changes []store.Change) (heads []store.Record, err error) {
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
		{"heads are locked in the order given", "several/contention", wrappedFresh(func() func(store.Store) store.Store {
			var mu sync.Mutex
			locks := map[store.Key]*sync.Mutex{}
			return func(s store.Store) store.Store {
				return committing{s, func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
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
					return s.(*store.Memory).CommitSeveral(ctx, changes)
				}}
			}
		})},
		{"changes are made one by one", "several/whole commits only", withSeveral(func(s *store.Memory, ctx context.Context, changes []store.Change) ([]store.Record, error) {
			if len(changes) == len([]string{"a", "b", "c", "d"}) { // a reader that does not check
				return checkedHeads(changes), nil
			}
			return checked(s, ctx, changes)
		})},
		{"commits of several heads are lost with the handle", "several/reopen", wrappedFresh(func() func(store.Store) store.Store {
			var undo [][]store.Record
			return func(s store.Store) store.Store {
				for _, records := range undo {
					for _, r := range records {
						force(s, context.Background(), r, nil)
					}
				}
				undo = nil
				return committing{s, func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
					var before []store.Record
					for _, c := range changes {
						r, _ := s.Get(ctx, c.Head.Key)
						before = append(before, r)
					}
					undo = append(undo, before)
					return s.(*store.Memory).CommitSeveral(ctx, changes)
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

// sharing is a store that gives what it was given, or returned, to whoever reads it.
type sharing struct {
	committing
	kept map[store.Key]store.Record
}

func (s sharing) Get(ctx context.Context, key store.Key) (store.Record, error) {
	if r, ok := s.kept[key]; ok {
		return r, nil
	}
	return s.committing.Get(ctx, key)
}
