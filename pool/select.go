package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/store"
)

// Order says which of several pools a claim is granted from, if its owner holds something in none of them. The first
// pool in the order that has room grants it. Pools that are cordoned grant nothing. The zero Order is [AsGiven].
type Order string

// The orders. With MostFree and LeastUsed, what counts is what is free at the commit. Of several families that a claim
// asks for, the one with the least room counts. Pools that are equal are tried as they are given.
const (
	// AsGiven tries the pools as they are given, or selected: one is filled before the next is begun.
	AsGiven Order = "as given"
	// MostFree tries the pool with the most free addresses first.
	MostFree Order = "most free"
	// LeastUsed tries the pool first of which the smallest share is held or cools down.
	LeastUsed Order = "least used"
)

// validate returns an error if there is no such order.
func (o Order) validate() error {
	switch o {
	case "", AsGiven, MostFree, LeastUsed:
		return nil
	}
	return invalid("%q is not an order of pools, want %q", string(o), []Order{AsGiven, MostFree, LeastUsed})
}

// ordered returns the pools of a part in the order in which to try them.
func (a *attempt) ordered(part *part) []*Pool {
	if part.order == "" || part.order == AsGiven {
		return part.pools
	}
	type candidate struct {
		pool *Pool
		room *big.Rat
	}
	all := make([]candidate, len(part.pools))
	for i, p := range part.pools {
		all[i] = candidate{p, a.draft(p).room(part.steps[0].claim, part.order)}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return b.room.Cmp(a.room) })
	ordered := make([]*Pool, len(all))
	for i, c := range all {
		ordered[i] = c.pool
	}
	return ordered
}

// room is what the order compares: how many addresses of a family are free, or which share of them, of the family with
// the least of those that the claim asks for; -1 if the pool cannot meet the claim, or is gone.
func (d *draft) room(c *Claim, order Order) *big.Rat {
	least, state := big.NewRat(-1, 1), d.state()
	requests, err := c.resolve(state.rules, c.Policy, nil)
	if err != nil || d.gone {
		return least
	}
	stats := statsOf(state.space.Counts())
	for i, r := range requests {
		counts := countsOf(stats, r.Family)
		room := new(big.Rat).SetInt(bigOf(counts.Free))
		if all := counts.Total.Sub(counts.Reserved); order == LeastUsed && !all.IsZero() {
			room.Quo(room, new(big.Rat).SetInt(bigOf(all)))
		}
		if i == 0 || room.Cmp(least) < 0 {
			least = room
		}
	}
	return least
}

func bigOf(c cidr.Count) *big.Int {
	n := new(big.Int)
	for i := 128; i >= 0; i -= 64 {
		n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(c.Rsh(i).Low(64).Uint64()))
	}
	return n
}

// Selection is the pools of a store that have certain labels, so that a claim can name these instead of pools: the
// pools of a site, for example, or of a customer. Pools come into it and leave it as they are created, deleted and
// changed.
//
// The zero Selection is not usable, and a Selection must not be copied. All methods may be called by any number of
// goroutines at once.
type Selection struct {
	store   store.Store
	labels  map[string]string
	order   Order
	options *Options

	mu    sync.Mutex
	pools map[string]*Pool // handles that were given out
}

// Select returns the selection of the pools whose [Spec.Labels] include all of the given ones, which may be none. The
// order says which of them is tried first; [AsGiven] means by name. The options are those of the handles.
//
// Errors: [ErrInvalid] for labels that no pool can have, and for an unknown order. Cost: none; the store is not read.
func Select(s store.Store, labels map[string]string, order Order, options *Options) (*Selection, error) {
	if err := validateLabels(labels); err != nil {
		return nil, wrapped(err, Error{Op: "select"})
	}
	if err := order.validate(); err != nil {
		return nil, wrapped(err, Error{Op: "select"})
	}
	return &Selection{store: s, labels: maps.Clone(labels), order: order, options: options, pools: map[string]*Pool{}}, nil
}

// Pools returns handles of the pools that are selected at present, in the order of their names; none if there is no
// such pool. A pool has the same handle in each call. Cost: O(pools in the store), which are listed.
func (s *Selection) Pools(ctx context.Context) ([]*Pool, error) {
	var names []string
	for info, err := range List(ctx, s.store) {
		if err != nil {
			return nil, err
		}
		if s.has(info.Spec) {
			names = append(names, info.Name)
		}
	}
	slices.Sort(names)
	return s.handles(names)
}

// has reports whether a pool with the spec is selected.
func (s *Selection) has(spec Spec) bool {
	for name, value := range s.labels {
		if got, ok := spec.Labels[name]; !ok || got != value {
			return false
		}
	}
	return true
}

// handles returns the handles of the pools with these names, and forgets others.
func (s *Selection) handles(names []string) ([]*Pool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pools, all := make(map[string]*Pool, len(names)), make([]*Pool, len(names))
	for i, name := range names {
		p := s.pools[name]
		if p == nil {
			var err error
			if p, err = newHandle(s.store, name, s.options); err != nil {
				return nil, err
			}
		}
		pools[name], all[i] = p, p
	}
	s.pools = pools
	return all, nil
}

// Allocate gives the claim's owner what the claim asks for, from the selected pool in which it already holds something,
// or else from the first one in the selection's order that has room. The result names the pool, whose methods renew and
// release. Allocate is idempotent, as [Pool.Allocate] is.
//
// A pool that is created, or gets the labels, while Allocate runs may be left out. So do not claim for an owner while
// another process creates a pool and claims for the same owner in it. What an owner holds in a pool that has lost the
// labels is not found.
//
// Errors: those of [Pool.Allocate], for the pool that was tried last; [ErrNoPool] if no pool is selected; [ErrInvalid]
// if more pools are selected than the store takes heads in one commit. Cost: that of Pools, one read for each of them,
// and one commit.
func (s *Selection) Allocate(ctx context.Context, claim Claim) (Result, error) {
	if err := claim.Validate(); err != nil {
		return Result{}, wrapped(err, Error{Op: "allocate", Owner: claim.Owner})
	}
	pools, err := s.Pools(ctx)
	if err != nil {
		return Result{}, err
	}
	if len(pools) == 0 {
		err := errorf("%w that has the labels %s", ErrNoPool, s.text())
		return Result{}, wrapped(err, Error{Op: "allocate", Owner: claim.Owner})
	}
	step := Allocate(claim).In(pools...)
	step.Order = s.order
	results, err := pools[0].allFor(ctx, "Allocate", []Step{step})
	if err != nil {
		return Result{}, err
	}
	return results[0], nil
}

// text is the labels in an error.
func (s *Selection) text() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(s.labels)) {
		all = append(all, fmt.Sprintf("%q=%q", name, s.labels[name]))
	}
	return briefText(cmp.Or(strings.Join(all, " "), "none"))
}

// Get returns what an owner holds in a selected pool, or who holds an address, with the pool; of several pools the
// first by name.
//
// Errors: those of [Pool.Get]; [ErrNotFound] if it is in none of the pools. Cost: that of Pools, and up to one read for
// each of them.
func (s *Selection) Get(ctx context.Context, held Held) (Result, error) {
	pools, err := s.Pools(ctx)
	if err != nil {
		return Result{}, err
	}
	for _, p := range pools {
		a, err := p.Get(ctx, held)
		if err == nil || !isGone(err) && !errors.Is(err, ErrNoPool) {
			return Result{Pool: p, Allocation: a}, err
		}
	}
	return Result{}, wrapped(ErrNotFound, Error{Op: "get", Owner: held.Owner, Prefix: singleAddr(held.Addr)})
}
