package kube

import (
	"context"
	"errors"

	"github.com/ipalloc/ipalloc/store"
)

// Sweep gives all objects in the namespace their final form: it settles what commits have left pending, removes what
// commits left that crashed before they took effect, and removes settled entries from the heads' logs. It returns the
// number of objects that it changed. It only affects how the objects look and how much room they take. It may run at
// any time, and need never run; if it is cut short, the next run finds what is left. It does not change damaged
// objects, and reports them in a [store.DamagedError] at the end.
//
// Cost: lists with a label selector, a read of each head that they name for each page, and one request for each object
// that is not in its final form, [Options.Parallel] at once. If a process waits for its turn at a head, or ended while
// it waited, Sweep waits two and a half times [store.MaxTurn].
func (s *Store) Sweep(ctx context.Context) (changed int, err error) {
	var heads []*object
	var damaged []error
	for _, resource := range resources() {
		token := ""
		for {
			if err := s.usable(ctx); err != nil {
				return changed, err
			}
			p, err := s.api.List(ctx, resource, labelPending+"=true", token)
			if err != nil {
				return changed, err
			}
			for _, it := range p.damaged {
				damaged = append(damaged, it.err)
			}
			n, broken, err := s.sweepPage(ctx, p.objects)
			if changed += n; err != nil {
				return changed, err
			}
			damaged = append(damaged, broken...)
			for _, o := range p.objects {
				if len(o.log) > 0 {
					heads = append(heads, o)
				}
			}
			if token = p.token; token == "" {
				break
			}
		}
	}
	for _, head := range heads {
		trimmed, err := s.sweepLog(ctx, head)
		if err != nil {
			return changed, err
		}
		if trimmed {
			changed++
		}
	}
	removed, err := s.sweepTickets(ctx)
	if changed += removed; err == nil && len(damaged) > 0 {
		err = &store.DamagedError{Damaged: damaged}
	}
	return changed, err
}

// sweepPage gives the objects of a page their final forms. It returns how many it changed, and what is wrong with heads
// that say what is true of some.
func (s *Store) sweepPage(ctx context.Context, objects []*object) (changed int, damaged []error, err error) {
	heads, broken := s.headsOf(ctx, objects)
	for _, err := range broken {
		if !errors.Is(err, ErrDamaged) {
			return 0, nil, err
		}
		damaged = append(damaged, err)
	}
	swept := make([]bool, len(objects))
	errs := inParallel(s.options.Parallel, len(objects), func(i int) (err error) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p := objects[i].pending; p == nil || broken[p.head] == nil {
			swept[i], err = s.sweepObject(ctx, objects[i], heads)
		}
		return err
	})
	for i := range swept {
		if swept[i] {
			changed++
		}
	}
	return changed, damaged, errors.Join(errs...)
}

// headsOf reads the heads that the pending objects name; nil stands for one that does not exist. Those that cannot be
// read have an error instead.
func (s *Store) headsOf(ctx context.Context, objects []*object) (heads map[ref]*object, broken map[ref]error) {
	heads, broken = make(map[ref]*object), make(map[ref]error)
	for _, o := range objects {
		if o.pending == nil {
			continue
		}
		name := o.pending.head
		if _, known := heads[name]; known || broken[name] != nil {
			continue
		}
		head, err := s.api.Get(ctx, name)
		if err != nil && !errors.Is(err, errAbsent) {
			broken[name] = err
			continue
		}
		heads[name] = head
	}
	return heads, broken
}

// sweepObject gives o its final form, and reports whether it did. It leaves alone what an open commit is about to
// write. The heads were read after o. That is all the proof which a dead commit needs: had it come about, o would have
// been settled before the head's log forgot the commit, and then o has another version and stays as it is.
func (s *Store) sweepObject(ctx context.Context, o *object, heads map[ref]*object) (bool, error) {
	if p := o.pending; p != nil {
		f, revision := fateDead, int64(0)
		if head := heads[p.head]; head != nil {
			f, revision = p.fateIn(head)
		}
		switch f {
		case fateOpen:
			return false, nil
		case fateCommitted:
			err := s.settleObject(ctx, o, revision)
			if err == nil {
				s.ledger.settled(debt{o.ref, p.id, revision})
			}
			return err == nil, unlessMoved(err)
		}
		o = o.rolledBack()
	}
	if o.value == nil && len(o.log) > 0 {
		err := s.bury(ctx, o)
		return err == nil, unlessMoved(err)
	}
	if o.value != nil && len(o.log) > 0 {
		return false, nil // see sweepLog
	}
	s.cache.drop(o.ref)
	_, err := s.store(ctx, o)
	return err == nil, unlessMoved(err)
}

// unlessMoved returns nil if err says that somebody else has changed an object, else err.
func unlessMoved(err error) error {
	if errors.Is(err, errMoved) || errors.Is(err, errAbsent) {
		return nil
	}
	return err
}

// sweepLog settles what the log of a head lists, and empties it. It reports whether it changed the head.
func (s *Store) sweepLog(ctx context.Context, listed *object) (bool, error) {
	head, err := s.api.Get(ctx, listed.ref)
	if err != nil || head.pending != nil || len(head.log) == 0 {
		return false, unlessMoved(err)
	}
	if err := s.settleAll(ctx, debtsOf(head.log)); err != nil {
		return false, unlessMoved(err)
	}
	err = s.trim(ctx, head)
	return err == nil, unlessMoved(err)
}
