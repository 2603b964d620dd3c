package storetest_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// joinFunc is what a wrapper replaces Join with, given the store beneath.
type joinFunc = func(s store.Grouper, ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error)

// alteredGroup is a store that shares commits, of which some methods are others.
type alteredGroup struct {
	altered
	join joinFunc
}

func (a alteredGroup) Join(ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
	inner := a.Store.(store.Grouper)
	if a.join != nil {
		return a.join(inner, ctx, key, ask)
	}
	return inner.Join(ctx, key, ask)
}

// Commit has the turns as the store beneath knows them.
func (a alteredGroup) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	changes = slices.Clone(changes)
	for i := range changes {
		for t, ok := changes[i].Turn.(*brokenGroupTurn); ok; t, ok = changes[i].Turn.(*brokenGroupTurn) {
			if t.before != nil {
				t.before()
			}
			changes[i].Turn = t.GroupTurn
		}
	}
	return a.altered.Commit(ctx, changes...)
}

// brokenGroupTurn is a turn of which some methods are others.
type brokenGroupTurn struct {
	store.GroupTurn
	heads    func() []store.Record
	asks     func() [][]byte
	answer   func(int, []byte)
	answered func() ([]byte, int64, error)
	before   func() // each commit
}

func (t *brokenGroupTurn) Heads() []store.Record {
	if t.heads != nil {
		return t.heads()
	}
	return t.GroupTurn.Heads()
}

func (t *brokenGroupTurn) Asks() [][]byte {
	if t.asks != nil {
		return t.asks()
	}
	return t.GroupTurn.Asks()
}

func (t *brokenGroupTurn) Answer(i int, answer []byte) {
	if t.answer != nil {
		t.answer(i, answer)
		return
	}
	t.GroupTurn.Answer(i, answer)
}

func (t *brokenGroupTurn) Answered() ([]byte, int64, error) {
	if t.answered != nil {
		return t.answered()
	}
	return t.GroupTurn.Answered()
}

// withJoin returns a backend with another Join.
func withJoin(join joinFunc) func() storetest.Backend {
	return patient(wrapped(func(s store.Store) store.Store {
		return alteredGroup{altered: altered{Store: s}, join: join}
	}))
}

// patient returns a backend with which cases may take longer, so that turns can be passed over.
func patient(newBackend func() storetest.Backend) func() storetest.Backend {
	return func() storetest.Backend {
		b := newBackend()
		b.Patience = 3 * time.Second
		return b
	}
}

// withGroupTurn returns a backend with other turns.
func withGroupTurn(spoil func(t *brokenGroupTurn)) func() storetest.Backend {
	return withJoin(func(
		s store.Grouper, ctx context.Context, key store.Key, ask []byte,
	) (store.GroupTurn, error) {
		inner, err := s.Join(ctx, key, ask)
		if err != nil {
			return nil, err
		}
		t := &brokenGroupTurn{GroupTurn: inner}
		spoil(t)
		return t, nil
	})
}

// withGroupCommit returns a backend with other commits of turns with asks.
func withGroupCommit(commit allFunc) func() storetest.Backend {
	return patient(wrapped(func(s store.Store) store.Store {
		return alteredGroup{altered: altered{
			Store: s,
			commitAll: func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
				if _, ok := changes[0].Turn.(store.GroupTurn); !ok {
					return s.Commit(ctx, changes...)
				}
				return commit(s, ctx, changes)
			},
		}}
	}))
}

func groupBreaches() []breach {
	return slices.Concat(groupTurnBreaches(), groupJoinBreaches(), groupCommitBreaches(), groupByteBreaches())
}

func groupTurnBreaches() []breach {
	return []breach{
		{"a turn has no asks", "group/asks", withGroupTurn(func(t *brokenGroupTurn) {
			t.asks = func() [][]byte { return nil }
		})},
		{"the latest ask is the first", "group/asks", withGroupTurn(func(t *brokenGroupTurn) {
			t.asks = func() [][]byte {
				asks := slices.Clone(t.GroupTurn.Asks())
				slices.Reverse(asks)
				return asks
			}
		})},
		{"a turn with asks reads no head", "group/asks", withGroupTurn(func(t *brokenGroupTurn) {
			heads := slices.Clone(t.GroupTurn.Heads())
			for i := range heads {
				heads[i] = store.Record{Key: heads[i].Key}
			}
			t.heads = func() []store.Record { return heads }
		})},
		{"answers are mixed up", "group/answers", withGroupTurn(func(t *brokenGroupTurn) {
			t.answer = func(i int, answer []byte) { t.GroupTurn.Answer(len(t.GroupTurn.Asks())-1-i, answer) }
		})},
		{"an answer comes to all", "group/answers", withGroupTurn(func(t *brokenGroupTurn) {
			t.answer = func(_ int, answer []byte) {
				for i := range t.GroupTurn.Asks() {
					t.GroupTurn.Answer(i, answer)
				}
			}
		})},
		{"an answer has the revision before", "group/answers", withGroupTurn(func(t *brokenGroupTurn) {
			t.answered = func() ([]byte, int64, error) {
				answer, revision, err := t.GroupTurn.Answered()
				return answer, revision - 1, err
			}
		})},
		{"an answered turn has heads", "group/answers", withGroupTurn(func(t *brokenGroupTurn) {
			if heads := t.GroupTurn.Heads(); len(heads) == 0 {
				t.heads = func() []store.Record { return make([]store.Record, 1) }
			}
		})},
		{"whom a late turn answered is not told", "group/takes too long", withGroupTurn(func(t *brokenGroupTurn) {
			if t.GroupTurn.Heads() != nil {
				t.answered = func() ([]byte, int64, error) { return nil, 0, nil }
			}
		})},
		{"whom another turn answered is told of something else", "group/turns are passed over",
			withGroupTurn(func(t *brokenGroupTurn) {
				t.answered = func() ([]byte, int64, error) {
					answer, revision, err := t.GroupTurn.Answered()
					if answer != nil {
						answer = []byte("1")
					}
					return answer, revision, err
				}
			})},
	}
}

func groupJoinBreaches() []breach {
	return []breach{
		{"an answer comes late", "group/answers come soon", withGroupTurn(func(t *brokenGroupTurn) {
			if len(t.GroupTurn.Heads()) == 0 {
				time.Sleep(store.MaxTurn)
			}
		})},
		{"who is not answered gets in line again", "group/failed commit",
			withJoin(func(s store.Grouper, ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
				t, err := s.Join(ctx, key, ask)
				if err == nil && string(ask) == "one" && t.Heads() != nil {
					t.End()
					return s.Join(ctx, key, ask)
				}
				return t, err
			})},
		{"who leaves is not taken out", "group/askers leave at any time",
			withJoin(func(s store.Grouper, ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				var t store.GroupTurn
				var err error
				joined := make(chan struct{})
				go func() {
					defer close(joined)
					t, err = s.Join(context.WithoutCancel(ctx), key, ask)
				}()
				select {
				case <-joined:
					return t, err
				case <-ctx.Done():
					go func() {
						<-joined
						if err == nil {
							t.End()
						}
					}()
					return nil, ctx.Err()
				}
			})},
		{"who leaves hears of no answer", "group/asker leaves too late",
			withJoin(func(s store.Grouper, ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
				t, err := s.Join(ctx, key, ask)
				if err != nil {
					return nil, err
				}
				if answer, _, _ := t.Answered(); answer != nil {
					select {
					case <-ctx.Done():
						return nil, ctx.Err()
					case <-time.After(store.MaxTurn / 2):
					}
				}
				return t, nil
			})},
		{"an empty ask is one", "group/empty ask",
			withJoin(func(s store.Grouper, ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
				return s.Join(ctx, key, append(slices.Clone(ask), '.'))
			})},
		{"a large ask is cut", "group/sizes and keys",
			withJoin(func(s store.Grouper, ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
				return s.Join(ctx, key, ask[:min(len(ask), store.MaxAskBytes-1)])
			})},
		{"an ask is text", "group/sizes and keys",
			withJoin(func(s store.Grouper, ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
				if len(ask) <= store.MaxAskBytes {
					ask = bytes.ToValidUTF8(ask, []byte("?"))
				}
				return s.Join(ctx, key, ask)
			})},
		{"those with asks have a line of their own", "group/one line", patient(wrappedFresh(
			func() func(store.Store) store.Store {
				var others store.Turns
				return func(s store.Store) store.Store {
					return alteredGroup{altered{Store: s},
						func(_ store.Grouper, ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
							return others.Join(ctx, s.Get, key, ask)
						}}
				}
			}))},
		{"turns with asks begin beside one another", "group/nobody starves", patient(wrapped(
			func(s store.Store) store.Store {
				return alteredGroup{altered{Store: s},
					func(_ store.Grouper, ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
						var none store.Turns
						return none.Join(ctx, s.Get, key, ask)
					}}
			}))},
		{"Join ignores its context", "context/ended before",
			withJoin(func(s store.Grouper, ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
				return s.Join(context.WithoutCancel(ctx), key, ask)
			})},
		{"Join goes on after Close", "close/use afterwards",
			patient(func() storetest.Backend {
				shared := store.NewMemory()
				return storetest.Backend{Open: func(context.Context) (store.Store, error) {
					return alteredGroup{altered{Store: shared.Open()},
						func(_ store.Grouper, ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
							return shared.Join(ctx, key, ask)
						}}, nil
				}}
			})},
	}
}

// without returns changes that have no turns, so that the store beneath answers nobody.
func without(changes []store.Change) []store.Change {
	changes = slices.Clone(changes)
	for i := range changes {
		if changes[i].Turn != nil {
			changes[i].Turn = brokenTurn{end: func() {}}
		}
	}
	return changes
}

func groupCommitBreaches() []breach {
	return []breach{
		{"a commit that fails answers", "group/failed commit", withGroupCommit(func(
			s store.Store, ctx context.Context, changes []store.Change,
		) ([]store.Record, error) {
			head, err := s.Get(ctx, changes[0].Head.Key)
			if err != nil || head.Revision == changes[0].Head.Revision {
				return s.Commit(ctx, changes...)
			}
			conflict := &store.ConflictError{Expected: changes[0].Head.Revision, Current: head}
			_, _ = s.Commit(ctx, store.Change{Head: head, Turn: changes[0].Turn})
			return nil, conflict
		})},
		{"who has left is answered", "group/asker leaves", withGroupCommit(func(
			s store.Store, ctx context.Context, changes []store.Change,
		) ([]store.Record, error) {
			heads, err := s.Commit(ctx, changes...)
			if errors.Is(err, store.ErrConflict) {
				return s.Commit(ctx, without(changes)...)
			}
			return heads, err
		})},
		{"a conflict about one that has left names no head", "group/asker leaves", withGroupCommit(func(
			s store.Store, ctx context.Context, changes []store.Change,
		) ([]store.Record, error) {
			heads, err := s.Commit(ctx, changes...)
			if errors.Is(err, store.ErrConflict) {
				err = &store.ConflictError{Expected: changes[0].Head.Revision}
			}
			return heads, err
		})},
		{"a late turn commits whatever the head is", "group/takes too long", withGroupCommit(func(
			s store.Store, ctx context.Context, changes []store.Change,
		) ([]store.Record, error) {
			heads, err := s.Commit(ctx, changes...)
			var conflict *store.ConflictError
			if errors.As(err, &conflict) {
				changes[0].Head.Revision = conflict.Current.Revision
				return s.Commit(ctx, without(changes)...)
			}
			return heads, err
		})},
		{"only the turn of the first head answers", "group/several heads", withGroupCommit(func(
			s store.Store, ctx context.Context, changes []store.Change,
		) ([]store.Record, error) {
			if turn := changes[0].Turn.(store.GroupTurn); turn.Heads()[0].Key != changes[0].Head.Key {
				defer turn.End()
				return s.Commit(ctx, without(changes)...)
			}
			return s.Commit(ctx, changes...)
		})},
	}
}

func groupByteBreaches() []breach {
	return []breach{
		{"an answer is kept as it is given", "group/aliasing", withGroupTurn(func(t *brokenGroupTurn) {
			given := map[int][]byte{}
			t.answer = func(i int, answer []byte) { given[i] = answer }
			t.before = func() {
				for i, answer := range given {
					t.GroupTurn.Answer(i, answer)
				}
			}
		})},
		{"an answer is returned as it is kept", "group/aliasing", withGroupTurn(func(t *brokenGroupTurn) {
			var known []byte
			t.answered = func() ([]byte, int64, error) {
				answer, revision, err := t.GroupTurn.Answered()
				if known == nil {
					known = answer
				}
				return known, revision, err
			}
		})},
		{"an ask is kept as it is given", "group/aliasing", patient(wrappedFresh(func() func(store.Store) store.Store {
			var given sync.Map
			return func(s store.Store) store.Store {
				return alteredGroup{altered{Store: s},
					func(s store.Grouper, ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
						given.Store(string(ask), ask)
						t, err := s.Join(ctx, key, ask)
						if err != nil {
							return nil, err
						}
						return &brokenGroupTurn{GroupTurn: t, asks: func() [][]byte {
							asks := slices.Clone(t.Asks())
							for i := range asks {
								kept, _ := given.Load(string(asks[i]))
								asks[i] = kept.([]byte)
							}
							return asks
						}}, nil
					}}
			}
		}))},
	}
}

// TestLostAnswerIsNamed looks at what the suite says of an answer that nobody heard of.
func TestLostAnswerIsNamed(t *testing.T) {
	all := groupJoinBreaches()
	i := slices.IndexFunc(all, func(b breach) bool { return b.what == "who leaves is not taken out" })
	require.NotEqual(t, -1, i)
	b := all[i]
	failures := record(t, func(t testing.TB) { storetest.RunCase(t, b.noticedBy, b.backend()) })
	require.NotEmpty(t, failures)
	require.Regexp(t, `a commit gave number \d+ to ask \d+, whose call left \(context (canceled|deadline exceeded)\)`,
		failures[0])
}
