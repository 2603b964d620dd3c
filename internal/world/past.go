package world

import (
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/pool"
)

// What was held, and until when.

// Past is a tenure that has ended, in the history of a pool.
type Past struct {
	pool.Tenure
	Step int  // in which it ended
	Due  bool // it may have been forgotten
}

// Since returns the world with the tenures that have ended since it was another one, a step before, and notes which may
// be forgotten by now.
func (w *World) Since(before *World, step int) *World {
	after := w.clone()
	for name, m := range before.Pools {
		spec := m.Spec
		if now := w.Pools[name]; now != nil {
			spec = now.Spec
		}
		if spec.History == 0 {
			continue
		}
		past := slices.Clone(w.Past[name])
		for _, r := range m.Records {
			if next := w.next(name, r); !r.Cooling && (next == nil || !next.Since.Equal(r.Since)) {
				past = append(past, Past{Tenure: w.ended(name, r, next), Step: step})
			}
		}
		NoteDue(past, spec, w.Now)
		after.Past[name] = past
	}
	return after
}

// NoteDue notes which of the tenures of a pool may be forgotten by now.
func NoteDue(past []Past, spec pool.Spec, now time.Time) {
	for i := range past {
		past[i].Due = past[i].Due || isDue(past, i, spec, now)
	}
}

// isDue reports whether one of the tenures of a pool may be forgotten.
func isDue(all []Past, i int, spec pool.Spec, now time.Time) bool {
	later := 0
	for j := range all {
		if j != i && all[j].Step >= all[i].Step {
			later++
		}
	}
	return !all[i].To.Add(spec.History).After(now) || spec.HistoryMost > 0 && later >= spec.HistoryMost
}

// next is what the owner of a record of a pool has by the same grant; nil if that has ended.
func (w *World) next(name string, r *Record) *Record {
	m := w.Pools[name]
	if m == nil {
		return nil
	}
	i := slices.IndexFunc(m.Records, func(o *Record) bool {
		return !o.Cooling && o.Owner == r.Owner && o.Generation == r.Generation
	})
	if i < 0 {
		return nil
	}
	return m.Records[i]
}

// Tenure is the one that goes on by a record.
func (r *Record) Tenure() pool.Tenure {
	t := pool.Tenure{Allocation: r.Allocation}
	t.Created = r.began()
	return t
}

// ended is the tenure that a record was of, which has ended in the last step. Next is what the owner has by the same
// grant, if it was renumbered.
func (w *World) ended(name string, r, next *Record) pool.Tenure {
	t := r.Tenure()
	t.To, t.End = w.Now.Truncate(time.Microsecond), pool.Released
	switch {
	case r.Expired(w.Now):
		t.To, t.End = r.Expires, pool.Lapsed
	case next != nil:
		t.To, t.End = next.Since, pool.Renumbered
	}
	if m := w.Pools[name]; m != nil {
		for _, o := range m.Records {
			if o.Declined && o.Owner == r.Owner && slices.Contains(r.Prefixes, o.Prefixes[0]) { // some of it, or all
				t.End = pool.Declined
			}
		}
	}
	if t.To.Before(t.Created) {
		t.To = t.Created
	}
	return t
}
