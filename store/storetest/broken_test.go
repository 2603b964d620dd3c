package storetest_test

import (
	"context"
	"iter"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// breach is a store that breaks one rule, and the case of the suite that must notice.
type breach struct {
	what, noticedBy string
	backend         func() storetest.Backend
}

// TestBreachesAreNoticed breaks the in-memory store in each way that the suite looks for. Each case of the suite must
// notice something.
func TestBreachesAreNoticed(t *testing.T) {
	var breaches []breach
	for _, some := range [][]breach{
		readBreaches(), commitBreaches(), conflictBreaches(), raceBreaches(), validationBreaches(), fieldBreaches(),
		keyBreaches(), aliasingBreaches(), lifeBreaches(), listBreaches(), findBreaches(), sizeBreaches(), headBreaches(),
		watchBreaches(), expiryBreaches(), turnBreaches(), groupBreaches(), readAllBreaches(), damageBreaches(),
		labelBreaches(),
	} {
		breaches = append(breaches, some...)
	}
	proven := map[string]bool{}
	for _, b := range breaches {
		proven[b.noticedBy] = true
		t.Run(b.noticedBy+"/"+b.what, func(t *testing.T) {
			backend := b.backend()
			if backend.Patience == 0 {
				backend.Patience = 300 * time.Millisecond
			}
			failures := record(t, func(t testing.TB) { storetest.RunCase(t, b.noticedBy, backend) })
			require.NotEmpty(t, failures, "the suite did not notice: %s", b.what)
			require.Contains(t, failures[0], "the contract says: ")
		})
	}
	for _, name := range storetest.CaseNames() {
		require.True(t, proven[name], "nothing shows that the case %q can fail", name)
	}
}

// altered is a store of which some methods are others: commit those commits that are of one head, commitAll all.
type altered struct {
	store.Store
	get    func(context.Context, store.Key) (store.Record, error)
	list   func(context.Context, store.Kind, string) iter.Seq2[store.Record, error]
	find   func(context.Context, string, netip.Addr) (store.Record, error)
	watch  func(context.Context, store.Key, int64) (store.Record, error)
	expiry func(context.Context, store.Kind, string) iter.Seq2[store.Record, error]
	turn   func(context.Context, []store.Key) (store.Turn, error)
	close  func() error

	commit    func(context.Context, store.Record, []store.Write) (store.Record, error)
	commitAll func(context.Context, []store.Change) ([]store.Record, error)
}

func (a altered) Get(ctx context.Context, key store.Key) (store.Record, error) {
	if a.get != nil {
		return a.get(ctx, key)
	}
	return a.Store.Get(ctx, key)
}

func (a altered) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	if a.turn != nil {
		return a.turn(ctx, keys)
	}
	return a.Store.Turn(ctx, keys...)
}

func (a altered) List(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	if a.list != nil {
		return a.list(ctx, kind, pool)
	}
	return a.Store.List(ctx, kind, pool)
}

func (a altered) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
	if a.find != nil {
		return a.find(ctx, pool, addr)
	}
	return a.Store.Find(ctx, pool, addr)
}

func (a altered) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	if a.watch != nil {
		return a.watch(ctx, key, revision)
	}
	return a.Store.Watch(ctx, key, revision)
}

func (a altered) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	if a.expiry != nil {
		return a.expiry(ctx, kind, pool)
	}
	return a.Store.ByExpiry(ctx, kind, pool)
}

func (a altered) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	switch {
	case a.commitAll != nil:
		return a.commitAll(ctx, changes)
	case a.commit != nil && len(changes) == 1:
		head, err := a.commit(ctx, changes[0].Head, changes[0].Writes)
		if err != nil {
			return nil, err
		}
		return []store.Record{head}, nil
	default:
		return a.Store.Commit(ctx, changes...)
	}
}

func (a altered) Close() error {
	if a.close != nil {
		return a.close()
	}
	return a.Store.Close()
}

// wrapped returns a backend in memory each handle of which goes through wrap.
func wrapped(wrap func(store.Store) store.Store) func() storetest.Backend {
	return wrappedFresh(func() func(store.Store) store.Store { return wrap })
}

// wrappedFresh is wrapped, with a new wrap for each backend.
func wrappedFresh(newWrap func() func(store.Store) store.Store) func() storetest.Backend {
	return func() storetest.Backend {
		shared, wrap := store.NewMemory(), newWrap()
		return storetest.Backend{
			Open: func(context.Context) (store.Store, error) { return wrap(shared.Open()), nil },
		}
	}
}

// What a wrapper replaces a method with, given the store beneath.
type (
	getFunc    = func(s store.Store, ctx context.Context, key store.Key) (store.Record, error)
	listFunc   = func(s store.Store, ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error]
	commitFunc = func(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error)
	allFunc    = func(s store.Store, ctx context.Context, changes []store.Change) ([]store.Record, error)
	findFunc   = func(s store.Store, ctx context.Context, pool string, addr netip.Addr) (store.Record, error)
)

func withGet(get getFunc) func() storetest.Backend {
	return wrapped(func(s store.Store) store.Store {
		return altered{Store: s, get: func(ctx context.Context, key store.Key) (store.Record, error) {
			return get(s, ctx, key)
		}}
	})
}

func withList(list listFunc) func() storetest.Backend {
	return wrapped(func(s store.Store) store.Store {
		return altered{Store: s,
			list: func(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return list(s, ctx, kind, pool)
			}}
	})
}

func withCommit(commit commitFunc) func() storetest.Backend {
	return wrapped(func(s store.Store) store.Store {
		return altered{Store: s,
			commit: func(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				return commit(s, ctx, head, writes)
			}}
	})
}

func withCommitAll(commit allFunc) func() storetest.Backend {
	return wrapped(func(s store.Store) store.Store {
		return altered{Store: s, commitAll: func(ctx context.Context, changes []store.Change) ([]store.Record, error) {
			return commit(s, ctx, changes)
		}}
	})
}

func withFind(find findFunc) func() storetest.Backend {
	return wrapped(func(s store.Store) store.Store {
		return altered{Store: s, find: func(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
			return find(s, ctx, pool, addr)
		}}
	})
}

// storing returns a backend that stores something else than it is given.
func storing(spoil func(*store.Record)) func() storetest.Backend {
	return withCommit(func(
		s store.Store, ctx context.Context, head store.Record, writes []store.Write,
	) (store.Record, error) {
		spoilt := head
		spoilt.Prefixes = slices.Clone(head.Prefixes)
		spoil(&spoilt)
		others := slices.Clone(writes)
		for i := range others {
			others[i].Record.Prefixes = slices.Clone(others[i].Record.Prefixes)
			spoil(&others[i].Record)
		}
		_, err := storetest.CommitOne(ctx, s, spoilt, others...)
		if err != nil {
			return store.Record{}, err
		}
		got, err := s.Get(ctx, spoilt.Key)
		head.Revision = got.Revision
		return head.Canonical(), err
	})
}

// yielding returns a backend whose reads return something else than is stored.
func yielding(spoil func(*store.Record)) func() storetest.Backend {
	return wrapped(func(s store.Store) store.Store {
		return altered{
			Store: s,
			get: func(ctx context.Context, key store.Key) (store.Record, error) {
				r, err := s.Get(ctx, key)
				spoil(&r)
				return r, err
			},
			list: func(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				return func(yield func(store.Record, error) bool) {
					for r, err := range s.List(ctx, kind, pool) {
						spoil(&r)
						if !yield(r, err) {
							return
						}
					}
				}
			},
		}
	})
}

// renaming returns a backend that keeps records under other keys.
func renaming(rename func(store.Key) store.Key) func() storetest.Backend {
	return wrapped(func(s store.Store) store.Store {
		return altered{
			Store: s,
			get: func(ctx context.Context, key store.Key) (store.Record, error) {
				r, err := s.Get(ctx, rename(key))
				r.Key = key
				return r, err
			},
			list: func(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
				key := rename(store.Key{Kind: kind, Pool: pool})
				return s.List(ctx, key.Kind, key.Pool)
			},
			commit: func(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
				key := head.Key
				head.Key = rename(head.Key)
				writes = slices.Clone(writes)
				for i := range writes {
					writes[i].Record.Key = rename(writes[i].Record.Key)
				}
				head, err := storetest.CommitOne(ctx, s, head, writes...)
				head.Key = key
				return head, err
			},
		}
	})
}

// force commits without looking at the head's revision.
func force(s store.Store, ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
	head.Revision = 0
	if current, err := s.Get(ctx, head.Key); err == nil {
		head.Revision = current.Revision
	}
	return storetest.CommitOne(ctx, s, head, writes...)
}
