package world

import (
	"errors"
	"slices"

	"github.com/ipalloc/ipalloc/pool"
)

// isFull reports whether another pool may grant what one refused with this error.
func isFull(err error) bool {
	return slices.ContainsFunc([]error{pool.ErrExhausted, pool.ErrTaken, pool.ErrNotInPool, pool.ErrFamily},
		func(full error) bool { return errors.Is(err, full) })
}

// AllocateTogether is what [pool.AllocateTogether] does in pools by their names: the world after it, and for each part
// which pool answers with what.
func (w *World) AllocateTogether(
	claims []pool.Claim, pools [][]string, seen []Sight,
) (after *World, chosen []string, got []*Record, no Refusals) {
	after, chosen, got = w, make([]string, len(claims)), make([]*Record, len(claims))
	for i, c := range claims {
		candidates := pools[i]
		holds := func(name string) bool { r := w.Pools[name].Live(c.Owner); return r != nil && !r.Expired(w.Now) }
		if first := slices.IndexFunc(pools[i], holds); first >= 0 {
			candidates = candidates[first : first+1]
		}
		var refusal error
		for _, chosen[i] = range candidates {
			var next *World
			next, got[i], refusal = after.Allocate(chosen[i], c, seen[i])
			if refusal == nil {
				after = next
			}
			if refusal == nil || !isFull(refusal) {
				break
			}
		}
		if refusal != nil {
			no = append(no, refusal)
		}
	}
	return after, chosen, got, no
}

// ReleaseTogether is what [pool.ReleaseTogether] does: the world after it, and what was released in each pool; nil for
// nothing.
func (w *World) ReleaseTogether(owner string, names []string) (after *World, released []*Record, no Refusals) {
	after, released = w, make([]*Record, len(names))
	found := false
	for i, name := range names {
		if after.Pools[name] == nil || after.Pools[name].Live(owner) == nil { // it may have gone with its parent's grant
			continue
		}
		found = true
		next, r, err := after.Release(name, owner)
		if err != nil {
			return nil, nil, Refusals{err}
		}
		after, released[i] = next, r
	}
	if !found {
		return nil, nil, Refusals{pool.ErrNotFound}
	}
	return after, released, nil
}
