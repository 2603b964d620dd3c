package simulation_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/internal/simulation"
	"github.com/ipalloc/ipalloc/store"
)

// breaks are what TestBreaksAreFound breaks.
var breaks = map[string]func(*world){
	"guard dropped":                      func(w *world) { w.Unguarded = true },
	"guards of other heads dropped":      func(w *world) { w.UnguardedBeside = true },
	"torn commits":                       func(w *world) { w.Torn = true },
	"parted heads":                       func(w *world) { w.Parted = true },
	"stale reads":                        func(w *world) { w.Stale = true },
	"fence not committed":                func(w *world) { w.Unfenced = true },
	"answers though the commit failed":   crowded(func(f *simulation.Faults) { f.AnswersUncommitted = true }),
	"asks that are answered twice":       crowded(func(f *simulation.Faults) { f.AnswersTwice = true }),
	"asks answered after they withdrew":  crowded(func(f *simulation.Faults) { f.AnswersLate = true }),
	"answers to the wrong asker":         crowded(func(f *simulation.Faults) { f.AnswersAstray = true }),
	"answers that are lost with a crash": crowded(func(f *simulation.Faults) { f.AnswersTorn = true }),
	"asks that say they know the latest head": func(w *world) {
		manyLate(w)
		w.wrap = func(s store.Store, _ *simulation.Process) store.Store { return &knowing{s} }
	},
	"head that forgets the last fence": func(w *world) {
		manyLate(w)
		forget(store.KindPool, "fence")(w)
	},
	"release that forgets the record": dropWrites(func(w store.Write) bool {
		return w.Record.Kind == store.KindAllocation && w.Op == store.Delete
	}),
	"history that is not recorded": dropWrites(func(w store.Write) bool { return w.Record.Kind == store.KindHistory }),
	"history that forgets another one than the oldest": func(w *world) {
		w.Spoil = func(c *store.Change) {
			c.Writes = slices.Clone(c.Writes)
			for i := range c.Writes {
				if r := &c.Writes[i].Record; r.Kind == store.KindHistory && c.Writes[i].Op == store.Delete {
					r.Name = r.Name[:len(r.Name)-1] + "9"
				}
			}
		}
	},
	"head that is written without its records": dropWrites(func(w store.Write) bool {
		return w.Record.Kind == store.KindAllocation && w.Op == store.Put
	}),
	"network that forgets what is held out of range": forget(store.KindNetwork, "held"),
	"network that forgets what is external":          forget(store.KindNetwork, "external"),
	"pool that forgets what is withheld":             forget(store.KindPool, "withheld"),
	"unknown outcomes made plain": func(w *world) {
		w.wrap = func(s store.Store, _ *simulation.Process) store.Store { return &flattening{s} }
	},
	"commits cut short by the caller": func(w *world) {
		w.wrap = func(s store.Store, _ *simulation.Process) store.Store { return &hasty{Store: s} }
	},
	"names of blocks not escaped": func(w *world) {
		w.wrap = func(s store.Store, _ *simulation.Process) store.Store {
			return &renaming{s, func(pool string) string { return strings.ReplaceAll(pool, "%2F", "/") }}
		}
	},
	"blocks of a writer by handle": func(w *world) {
		w.wrap = func(s store.Store, p *simulation.Process) store.Store {
			return &renaming{s, func(pool string) string {
				if p == nil || pool != "a/w" {
					return pool
				}
				return pool + p.Name
			}}
		}
	},
}

// crowded breaks a world in which most processes wait for one another.
func crowded(breaks func(*simulation.Faults)) func(*world) {
	return func(w *world) {
		w.crowded = true
		w.rates.Crash *= 5
		breaks(&w.Faults)
	}
}

// manyLate makes a world in which processes often wait, die and start again while something is on its way.
func manyLate(w *world) {
	w.crowded = true
	w.rates.Late *= 4
	w.rates.Crash *= 2
}

// dropWrites leaves out some writes of each commit.
func dropWrites(which func(store.Write) bool) func(*world) {
	return func(w *world) {
		w.Spoil = func(c *store.Change) { c.Writes = slices.DeleteFunc(c.Writes, which) }
	}
}

// forget leaves a field out of the data of each head of a kind.
func forget(kind store.Kind, field string) func(*world) {
	return func(w *world) {
		w.Spoil = func(c *store.Change) {
			var data map[string]json.RawMessage
			if c.Head.Kind != kind || json.Unmarshal(c.Head.Data, &data) != nil {
				return
			}
			delete(data, field)
			c.Head.Data, _ = json.Marshal(data)
		}
	}
}

// flattening is a store that says of commits whose outcome is unknown that they failed.
type flattening struct{ store.Store }

func (s *flattening) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	heads, err := s.Store.Commit(ctx, changes...)
	if errors.Is(err, store.ErrUnknown) {
		err = fmt.Errorf("%w: %s", simulation.ErrRefused, err.Error())
	}
	return heads, err
}

// knowing is a store whose callers ask as if they knew what all others have done.
type knowing struct{ store.Store }

func (s *knowing) Join(ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
	var data map[string]any
	if json.Unmarshal(ask, &data) == nil {
		data["seen"] = int64(math.MaxInt64)
		ask, _ = json.Marshal(data)
	}
	return s.Store.(store.Grouper).Join(ctx, key, ask)
}

// hasty is a store whose commits are cut short when the context of the last read ends, as if they had it too.
type hasty struct {
	store.Store
	last context.Context
}

func (s *hasty) Get(ctx context.Context, key store.Key) (store.Record, error) {
	s.last = ctx
	return s.Store.Get(ctx, key)
}

func (s *hasty) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	heads, err := s.Store.Commit(ctx, changes...)
	if s.last != nil && s.last.Err() != nil {
		return nil, s.last.Err()
	}
	return heads, err
}

// renaming is a store that has pools under other names.
type renaming struct {
	store.Store
	rename func(string) string
}

func (s *renaming) Get(ctx context.Context, key store.Key) (store.Record, error) {
	asked := key
	key.Pool = s.rename(key.Pool)
	r, err := s.Store.Get(ctx, key)
	r.Key = asked
	return r, err
}

func (s *renaming) List(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return s.Store.List(ctx, kind, s.rename(pool))
}

func (s *renaming) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return s.Store.ByExpiry(ctx, kind, s.rename(pool))
}

func (s *renaming) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	renamed := make([]store.Change, len(changes))
	for i, c := range changes {
		renamed[i] = store.Change{Head: c.Head, Writes: slices.Clone(c.Writes)}
		renamed[i].Head.Pool = s.rename(c.Head.Pool)
		for j := range c.Writes {
			renamed[i].Writes[j].Record.Pool = s.rename(c.Writes[j].Record.Pool)
		}
	}
	heads, err := s.Store.Commit(ctx, renamed...)
	for i := range heads {
		heads[i].Key = changes[i].Head.Key
	}
	var conflict *store.ConflictError
	if errors.As(err, &conflict) {
		for i := range renamed {
			if renamed[i].Head.Key == conflict.Current.Key {
				conflict.Current.Key = changes[i].Head.Key
				break
			}
		}
	}
	return heads, err
}
