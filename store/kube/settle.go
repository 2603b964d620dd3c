package kube

import (
	"context"
	"errors"
	"fmt"
)

// How many objects of other handles' commits a head's log may list before a commit settles the oldest of them, and how
// many it may list at all, because they cannot be settled. A log of that length has about half a megabyte.
const (
	maxStrange = 64
	maxLogged  = 8192
)

// debt is an object that a commit in a head's log may have left pending.
type debt struct {
	ref
	id       string
	revision int64
}

// due returns what this commit should settle of the log of its head: what this handle left, because it knows the
// objects and need not read them, and the oldest of what others left, if that is much. Kept is the rest. Objects that
// this commit writes itself are in neither: to write them is to settle them.
func (t *transaction) due() (due []debt, kept []entry) {
	written := make(map[ref]bool, len(t.intents))
	for i := range t.intents {
		written[t.intents[i].ref] = true
	}
	strange := -maxStrange
	for i := range t.base.log {
		if _, own := t.own.find(t.base.log[i].id); !own {
			strange += len(t.base.log[i].objects)
		}
	}
	for _, e := range t.base.log {
		_, own := t.own.find(e.id)
		rest := entry{id: e.id, revision: e.revision}
		for _, r := range e.objects {
			switch {
			case written[r]:
				if !own {
					strange--
				}
			case own:
				due = append(due, debt{r, e.id, e.revision})
			case strange > 0:
				strange--
				due = append(due, debt{r, e.id, e.revision})
			default:
				rest.objects = append(rest.objects, r)
			}
		}
		if len(rest.objects) > 0 {
			kept = append(kept, rest)
		}
	}
	return due, kept
}

// keepIn adds d to log again.
func (d debt) keepIn(log []entry) []entry {
	for i := range log {
		if log[i].id == d.id {
			log[i].objects = append(log[i].objects, d.ref)
			return log
		}
	}
	return append([]entry{{d.id, d.revision, []ref{d.ref}}}, log...)
}

// checkLog returns an error if log is too long for its object.
func (t *transaction) checkLog(log []entry) error {
	n := 0
	for i := range log {
		n += len(log[i].objects)
	}
	if n > maxLogged {
		return fmt.Errorf("commit of head %v: %d objects of earlier commits cannot be settled, the most is %d; may the "+
			"caller update and delete them?", t.head.key, n, maxLogged)
	}
	return nil
}

// settle gives an object its final form, if the commit of d has left it pending.
func (s *Store) settle(ctx context.Context, d debt) error {
	if known := s.cache.get(d.ref); known != nil && known.pending != nil && known.pending.id == d.id {
		err := s.settleObject(ctx, known, d.revision)
		if !errors.Is(err, errMoved) {
			return err
		}
	}
	for {
		o, err := s.api.Get(ctx, d.ref)
		switch {
		case errors.Is(err, errAbsent):
			return nil
		case err != nil:
			return err
		case o.pending == nil || o.pending.id != d.id:
			return nil
		}
		if err := s.settleObject(ctx, o, d.revision); !errors.Is(err, errMoved) {
			return err
		}
	}
}

// settleObject gives o the final form after its pending commit.
func (s *Store) settleObject(ctx context.Context, o *object, revision int64) error {
	s.cache.drop(o.ref)
	stored, err := s.store(ctx, o.committed(revision))
	if errors.Is(err, errAbsent) {
		return nil
	}
	if err == nil && stored != nil {
		s.cache.put(stored)
	}
	return err
}

// settleAll settles all that log lists.
func (s *Store) settleAll(ctx context.Context, log []entry) error {
	var debts []debt
	for _, e := range log {
		for _, r := range e.objects {
			debts = append(debts, debt{r, e.id, e.revision})
		}
	}
	return errors.Join(inParallel(s.options.Parallel, len(debts), func(i int) error { return s.settle(ctx, debts[i]) })...)
}
