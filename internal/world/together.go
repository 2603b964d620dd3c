package world

import (
	"cmp"
	"errors"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/pool"
)

// Step is a step of [pool.Pool.All].
type Step struct {
	Pools      []string // in which it is to be done; several for a claim
	Order      pool.Order
	Claim      *pool.Claim // of [pool.Allocate], else nil
	Held       pool.Held
	TTL        time.Duration // of [pool.Renew], else 0
	Quarantine time.Duration // of [pool.Decline], else 0
	Reserve    bool          // the claim is of [pool.Reserve]
	Unreserve  bool          // it is [pool.Unreserve]
}

// isElsewhere reports whether another pool may grant what one refused with this error.
func isElsewhere(err error) bool {
	return isFull(err) || errors.Is(err, pool.ErrCordoned) || errors.Is(err, pool.ErrQuota)
}

// isFull reports whether the pool has not what was asked for.
func isFull(err error) bool {
	return slices.ContainsFunc([]error{pool.ErrExhausted, pool.ErrTaken, pool.ErrNotInPool, pool.ErrFamily},
		func(full error) bool { return errors.Is(err, full) })
}

// All is what [pool.Pool.All] does: the world after it, and for each step which pool answers with what; nil for
// nothing. All refusals are returned: each may be the one that is told.
func (w *World) All(steps []Step, seen []Sight) (after *World, chosen []string, got []*Record, no Refusals) {
	after, chosen, got = w, make([]string, len(steps)), make([]*Record, len(steps))
	keeps := map[[2]string]bool{} // owners in pools with a step that does not release
	for i, s := range steps {
		if s.Claim == nil && s.Held.Owner == "" { // it is about whoever holds the address at the beginning
			r, err := w.Pools[s.Pools[0]].namedSuch(pool.Held{Addr: s.Held.Addr}, func(r *Record) bool {
				return s.Unreserve && r.Reserved || !s.Unreserve && !r.Cooling
			})
			switch {
			case err == nil:
				s.Held.Owner = r.Owner
			case s.Held.Optional && !errors.Is(err, pool.ErrShared):
				chosen[i] = s.Pools[0]
				continue
			default:
				no = append(no, err)
				continue
			}
		}
		for _, name := range s.Pools {
			key := [2]string{name, s.Held.Owner}
			if releases := s.Claim == nil && s.TTL == 0 && !s.Unreserve; releases && keeps[key] {
				no = append(no, pool.ErrInvalid)
			} else {
				keeps[key] = keeps[key] || !releases
			}
		}
		if after.Pools[s.Pools[0]] == nil { // it has gone with its parent's grant
			if chosen[i] = s.Pools[0]; !s.Held.Optional {
				no = append(no, pool.ErrNoPool)
			}
			continue
		}
		next, name, r, err := after.do(s, seen[i], transferred(steps[i+1:], s.Pools[0]))
		if err != nil {
			no = append(no, err)
			continue
		}
		after, chosen[i], got[i] = next, name, r
	}
	return after, chosen, got, no
}

// transferred are the prefixes that steps ask for in a pool.
func transferred(steps []Step, name string) (wanted []netip.Prefix) {
	for _, s := range steps {
		if s.Claim == nil || !slices.Contains(s.Pools, name) {
			continue
		}
		for _, r := range s.Claim.Requests {
			if r.Exact.IsValid() {
				wanted = append(wanted, r.Exact)
			}
		}
	}
	return wanted
}

func (w *World) do(s Step, seen Sight, kept []netip.Prefix) (after *World, chosen string, r *Record, err error) {
	switch {
	case s.Claim != nil:
		return w.allocateIn(s, w.ordered(s), seen)
	case s.Unreserve:
		after, r, err = w.Unreserve(s.Pools[0], s.Held)
	case s.TTL > 0:
		after, r, err = w.Renew(s.Pools[0], s.Held, s.TTL)
	default:
		after, r, err = w.leave(s.Pools[0], s.Held, s.Quarantine, kept)
	}
	return after, s.Pools[0], r, err
}

// ordered are the pools of a step in the order in which they are tried.
func (w *World) ordered(s Step) []string {
	names := slices.Clone(s.Pools)
	if s.Order != pool.AsGiven {
		slices.SortStableFunc(names, func(a, b string) int {
			return cmp.Compare(w.Pools[b].room(*s.Claim, s.Order), w.Pools[a].room(*s.Claim, s.Order))
		})
	}
	return names
}

// room is what an order of pools compares. The universes are small, so a fraction is exact enough.
func (m *Pool) room(c pool.Claim, order pool.Order) float64 {
	if m == nil {
		return -1
	}
	wants, err := m.wants(c, c.Policy)
	if err != nil {
		return -1
	}
	least := math.Inf(1)
	for _, want := range wants {
		counts := pool.Info{Stats: m.Stats()}.StatsOf(want.Family)
		room, all := float64(counts.Free.Uint64()), float64(counts.Total.Sub(counts.Reserved).Uint64())
		if order == pool.LeastUsed && all > 0 {
			room /= all
		}
		least = min(least, room)
	}
	return least
}

// allocateIn grants a claim in the first pool, as given, where its owner holds something, or else in the first one in
// the order that has room.
func (w *World) allocateIn(
	s Step, names []string, seen Sight,
) (after *World, chosen string, r *Record, err error) {
	holds := func(name string) bool {
		m := w.Pools[name]
		if m == nil || m.Find(s.Claim.Owner) == nil {
			return false
		}
		r := m.Find(s.Claim.Owner)
		return r.Reserved || !r.Cooling && !r.Expired(w.Now)
	}
	if first := slices.IndexFunc(s.Pools, holds); first >= 0 {
		names = s.Pools[first : first+1]
	}
	shares := func(name string) bool {
		return w.Pools[name] != nil && len(w.Pools[name].sharing(s.Claim.Scope, s.Claim.Share)) > 0
	}
	if first := slices.IndexFunc(s.Pools, shares); first >= 0 && !slices.ContainsFunc(s.Pools, holds) {
		names = s.Pools[first : first+1]
	}
	call := w.Allocate
	if s.Reserve {
		call = w.Reserve
	}
	for _, chosen = range names {
		if w.Pools[chosen] == nil {
			return nil, "", nil, pool.ErrNoPool
		}
		after, r, err = call(chosen, *s.Claim, seen)
		if err == nil || !isElsewhere(err) {
			break
		}
	}
	return after, chosen, r, err
}
