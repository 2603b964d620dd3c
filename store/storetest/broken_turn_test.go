package storetest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// turnFunc is what a wrapper replaces Turn with, given the store beneath.
type turnFunc = func(s store.Store, ctx context.Context, keys []store.Key) (store.Turn, error)

func withTurn(turn turnFunc) func() storetest.Backend {
	return wrapped(func(s store.Store) store.Store {
		return altered{Store: s, turn: func(ctx context.Context, keys []store.Key) (store.Turn, error) {
			return turn(s, ctx, keys)
		}}
	})
}

// brokenTurn is a turn with other heads or another end.
type brokenTurn struct {
	store.Turn
	heads []store.Record
	end   func()
}

func (t brokenTurn) Heads() []store.Record { return t.heads }

func (t brokenTurn) End() {
	if t.end != nil {
		t.end()
		return
	}
	t.Turn.End()
}

// disorder is a turn that is had at once.
func disorder(s store.Store, ctx context.Context, keys []store.Key) (store.Turn, error) {
	var none store.Turns
	return none.Turn(ctx, s.Get, keys...)
}

// lastFirst serves the latest of those that wait.
type lastFirst struct {
	mu      sync.Mutex
	busy    bool
	waiting []chan struct{}
}

func (l *lastFirst) turn(s store.Store, ctx context.Context, keys []store.Key) (store.Turn, error) {
	l.mu.Lock()
	for l.busy {
		ready := make(chan struct{})
		l.waiting = append(l.waiting, ready)
		l.mu.Unlock()
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(2 * store.MaxTurn):
		}
		l.mu.Lock()
	}
	l.busy = true
	l.mu.Unlock()
	t, err := disorder(s, ctx, keys)
	end := sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.busy = false
		if n := len(l.waiting); n > 0 {
			close(l.waiting[n-1])
			l.waiting = l.waiting[:n-1]
		}
	})
	if err != nil {
		end()
		return nil, err
	}
	return brokenTurn{t, t.Heads(), end}, nil
}

func turnBreaches() []breach {
	return []breach{
		{"turns are at no key", "turn/keys",
			withTurn(func(s store.Store, ctx context.Context, keys []store.Key) (store.Turn, error) {
				if len(keys) == 0 {
					keys = []store.Key{{Kind: store.KindPool, Pool: "some"}}
				}
				return s.Turn(ctx, keys...)
			})},
		{"a turn reads no heads", "turn/heads",
			withTurn(func(s store.Store, ctx context.Context, keys []store.Key) (store.Turn, error) {
				t, err := s.Turn(ctx, keys...)
				if err != nil {
					return nil, err
				}
				heads := make([]store.Record, len(keys))
				for i, key := range keys {
					heads[i].Key = key
				}
				return brokenTurn{t, heads, nil}, nil
			})},
		{"a turn has its heads in another order", "turn/heads",
			withTurn(func(s store.Store, ctx context.Context, keys []store.Key) (store.Turn, error) {
				t, err := s.Turn(ctx, keys...)
				if err != nil {
					return nil, err
				}
				heads := slices.Clone(t.Heads())
				slices.Reverse(heads)
				return brokenTurn{t, heads, nil}, nil
			})},
		{"turns have no order", "turn/in order", withTurn(disorder)},
		{"turns begin beside one another", "turn/nobody starves", withTurn(disorder)},
		{"the latest has the next turn", "turn/in order", wrappedFresh(func() func(store.Store) store.Store {
			l := &lastFirst{}
			return func(s store.Store) store.Store {
				return altered{Store: s, turn: func(ctx context.Context, keys []store.Key) (store.Turn, error) {
					return l.turn(s, ctx, keys)
				}}
			}
		})},
		{"commits without a turn overtake", "turn/beside commits without", wrappedFresh(overtaken)},
		{"a commit in a turn is not guarded", "turn/guards nothing", wrapped(func(s store.Store) store.Store {
			return altered{Store: s, commitAll: func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
				heads, err := s.Commit(ctx, changes...)
				var conflict *store.ConflictError
				if errors.As(err, &conflict) && changes[0].Turn != nil {
					changes[0].Head.Revision = conflict.Current.Revision
					return s.Commit(ctx, changes...)
				}
				return heads, err
			}}
		})},
		{"a turn ends when its holder likes", "turn/takes too long", func() storetest.Backend {
			shared, held := store.NewMemory(), make(chan struct{}, 1)
			return storetest.Backend{
				Patience: 2 * time.Second,
				Open: func(context.Context) (store.Store, error) {
					s := shared.Open()
					return altered{Store: s, turn: func(ctx context.Context, keys []store.Key) (store.Turn, error) {
						select {
						case held <- struct{}{}:
						case <-ctx.Done():
							return nil, ctx.Err()
						}
						t, err := disorder(s, ctx, keys)
						end := sync.OnceFunc(func() { <-held })
						if err != nil {
							end()
							return nil, err
						}
						return brokenTurn{t, t.Heads(), end}, nil
					}}, nil
				},
			}
		}},
		{"a Turn ignores its context", "turn/context ends",
			withTurn(func(s store.Store, ctx context.Context, keys []store.Key) (store.Turn, error) {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				return s.Turn(context.WithoutCancel(ctx), keys...)
			})},
		{"a commit that fails does not end its turn", "turn/ends", wrapped(func(s store.Store) store.Store {
			return altered{Store: s, commitAll: func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
				without := slices.Clone(changes)
				for i := range without {
					if without[i].Turn != nil {
						without[i].Turn = brokenTurn{end: func() {}}
					}
				}
				heads, err := s.Commit(ctx, without...)
				if err == nil {
					store.EndTurns(changes)
				}
				return heads, err
			}}
		})},
		{"several heads are waited for as they come", "turn/several heads",
			wrappedFresh(func() func(store.Store) store.Store {
				l := locks{}
				return func(s store.Store) store.Store {
					return altered{Store: s, turn: func(ctx context.Context, keys []store.Key) (store.Turn, error) {
						return l.turn(s, ctx, keys)
					}}
				}
			})},
	}
}

// overtaken returns stores in which a commit without a turn waits for no turn, and a turn begins only when one has gone
// by.
func overtaken() func(store.Store) store.Store {
	var without atomic.Int64
	return func(s store.Store) store.Store {
		return altered{
			Store: s,
			turn: func(ctx context.Context, keys []store.Key) (store.Turn, error) {
				t, err := s.Turn(ctx, keys...)
				for before, begin := without.Load(), time.Now(); without.Load() == before && time.Since(begin) < time.Second; {
					time.Sleep(time.Millisecond)
				}
				return t, err
			},
			commitAll: func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
				changes = slices.Clone(changes)
				turnless := int64(0)
				for i := range changes {
					if changes[i].Turn == nil {
						changes[i].Turn, turnless = brokenTurn{end: func() {}}, 1
					}
				}
				heads, err := s.Commit(ctx, changes...)
				without.Add(turnless)
				return heads, err
			},
		}
	}
}

// locks is a lock for each key, which is taken when its turn comes in the call, and never taken away.
type locks struct{ byKey sync.Map }

func (l *locks) turn(s store.Store, ctx context.Context, keys []store.Key) (store.Turn, error) {
	var taken []chan struct{}
	end := sync.OnceFunc(func() {
		for _, lock := range taken {
			<-lock
		}
	})
	for _, key := range keys {
		one, _ := l.byKey.LoadOrStore(key, make(chan struct{}, 1))
		lock := one.(chan struct{})
		select {
		case lock <- struct{}{}:
			taken = append(taken, lock)
		case <-ctx.Done():
			end()
			return nil, ctx.Err()
		}
		time.Sleep(time.Millisecond)
	}
	t, err := disorder(s, ctx, keys)
	if err != nil {
		end()
		return nil, err
	}
	return brokenTurn{t, t.Heads(), end}, nil
}
