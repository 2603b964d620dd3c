package world

import (
	"cmp"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/pool"
)

// Copy is a pool under another name as a snapshot of it has it: generations, and who is missing, are not known. It is a
// pool by itself.
func (w *World) Copy(from, name string) *Pool {
	m := w.Pools[from]
	imported := &Pool{Name: name, Spec: m.Spec, Universe: m.Universe, Cursor: m.clone().Cursor}
	for _, r := range m.Records {
		again := *r
		again.Generation, again.Missing, again.Since, again.Beside = 0, time.Time{}, time.Time{}, nil
		// What the owner released last, or what it holds, is what it has; the rest is aside, and so is what it declined.
		again.Aside = !r.Kept && (r.Declined || r.Cooling && slices.ContainsFunc(m.Records, func(other *Record) bool {
			return other.Owner == r.Owner && other != r && (other.Kept || !other.Declined) &&
				(!other.Cooling || other.Kept ||
					cmp.Or(cmp.Compare(other.Generation, r.Generation), other.Expires.Compare(r.Expires)) > 0)
		}))
		imported.Records = append(imported.Records, &again)
	}
	return imported
}

// Import is what [pool.Import] does with a copy. One with a parent must lie, with all that it holds, in what that holds
// for it.
func (w *World) Import(m *Pool) (after *World, no Refusals) {
	if m.IsChild() && !w.admits(m) {
		no = append(no, pool.ErrInvalid)
	}
	after, refused := w.place(m)
	return after, append(no, refused...)
}

// admits reports whether the parent of a pool holds the grants for it, and the pool lies in them.
func (w *World) admits(m *Pool) bool {
	parent := w.Pools[m.Parent]
	if parent == nil || parent.Name == m.Name || parent.Spec.Network != m.Spec.Network {
		return false
	}
	for _, owner := range m.Grants {
		if w.grant(m, owner) == nil {
			return false
		}
	}
	return covers(w.Granted(m), m.claimed().Ranges())
}
