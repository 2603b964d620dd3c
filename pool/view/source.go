package view

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Source finds pools for a [Handler]: [Store], [Pools], both with [Join], or another. It must be
// safe for concurrent use.
type Source interface {
	// Infos iterates over the pools, in any order. The name in a [pool.Info] is the name by which Pool
	// returns that pool. An error ends the iteration.
	Infos(ctx context.Context) iter.Seq2[pool.Info, error]
	// Pool returns the pool of that name, or an error that wraps [pool.ErrNoPool].
	Pool(ctx context.Context, name string) (*pool.Pool, error)
}

// Store returns the source of all pools in a store, including pools that are created later. The options are for the
// handles; nil means the defaults. Cost: of Infos O(pools), of Pool one read.
func Store(s store.Store, options *pool.Options) Source { return storeSource{s, options} }

type storeSource struct {
	store   store.Store
	options *pool.Options
}

func (s storeSource) Infos(ctx context.Context) iter.Seq2[pool.Info, error] {
	return pool.List(ctx, s.store)
}

func (s storeSource) Pool(ctx context.Context, name string) (*pool.Pool, error) {
	return pool.Open(ctx, s.store, name, s.options)
}

// Pools returns the source of the pools in the map, under the names in the map. It is for pools in memory, which have
// no names of their own, and for some pools of a store. The map must not be changed afterwards. Cost: of Infos one
// [pool.Pool.Info] for each, of Pool nothing.
func Pools(pools map[string]*pool.Pool) Source { return poolsSource(pools) }

type poolsSource map[string]*pool.Pool

func (s poolsSource) Infos(ctx context.Context) iter.Seq2[pool.Info, error] {
	return func(yield func(pool.Info, error) bool) {
		for _, name := range slices.Sorted(maps.Keys(s)) {
			info, err := s[name].Info(ctx)
			info.Name = name
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

func (s poolsSource) Pool(_ context.Context, name string) (*pool.Pool, error) {
	if p := s[name]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%w: %q is none of the pools that are shown", pool.ErrNoPool, name)
}

// Join returns the source of the pools of several sources. If several have a pool of the same name,
// the first source is used. Cost: the sum.
func Join(sources ...Source) Source { return joined(slices.Clone(sources)) }

type joined []Source

func (s joined) Infos(ctx context.Context) iter.Seq2[pool.Info, error] {
	return func(yield func(pool.Info, error) bool) {
		seen := map[string]bool{}
		for _, source := range s {
			for info, err := range source.Infos(ctx) {
				if err == nil && seen[info.Name] {
					continue
				}
				seen[info.Name] = true
				if !yield(info, err) || err != nil {
					return
				}
			}
		}
	}
}

func (s joined) Pool(ctx context.Context, name string) (*pool.Pool, error) {
	for _, source := range s {
		if p, err := source.Pool(ctx, name); !errors.Is(err, pool.ErrNoPool) {
			return p, err
		}
	}
	return nil, fmt.Errorf("%w: %q", pool.ErrNoPool, name)
}
