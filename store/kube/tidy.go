package kube

import (
	"context"
	"errors"
	"slices"
)

// tidy settles what this handle has left at a head, and takes it out of the head's log. It returns errAgain if a call
// at the head began meanwhile.
func (s *Store) tidy(ctx context.Context, head ref) error {
	goOn := func() bool { return ctx.Err() == nil && s.tails.idle(head) }
	if err := s.tidyDead(ctx, head, goOn); err != nil {
		return err
	}
	records, rolls := s.ledger.owed(head)
	for _, owed := range [][]debt{records, rolls} {
		// Also what is being settled just now, since the log is to be trimmed.
		if err := s.settleDebts(ctx, owed, min(tidyParallel, s.options.Parallel), goOn); err != nil {
			return err
		}
	}
	return s.trimOwn(ctx, head)
}

// tidyDead takes back what commits that came to nothing have left.
func (s *Store) tidyDead(ctx context.Context, head ref, goOn func() bool) error {
	l := s.tails
	l.mu.Lock()
	dead := l.of(head).dead
	l.of(head).dead = nil
	l.mu.Unlock()
	errs := inParallel(min(tidyParallel, s.options.Parallel), len(dead), func(i int) error {
		if !goOn() {
			return errAgain
		}
		return s.takeBack(ctx, dead[i])
	})
	var first error
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, err := range errs {
		if err != nil {
			first = err
			l.of(head).dead = append(l.of(head).dead, dead[i])
		}
	}
	return first
}

// takeBack gives an object of a commit that came to nothing its earlier form.
func (s *Store) takeBack(ctx context.Context, d leftover) error {
	o, err := s.api.Get(ctx, d.ref)
	switch {
	case errors.Is(err, errAbsent):
		return nil
	case err != nil:
		return err
	case o.pending == nil && !o.empty(), o.pending != nil && o.pending.id != d.id:
		return nil
	}
	if o.pending != nil {
		o = o.rolledBack()
	}
	s.cache.drop(o.ref)
	_, err = s.store(ctx, o)
	return unlessMoved(err)
}

// trimOwn takes the commits of this handle whose objects are settled out of a head's log. No call of this handle at the
// head begins its work meanwhile.
func (s *Store) trimOwn(ctx context.Context, head ref) error {
	ids := s.ledger.commitsOn(head)
	if len(ids) == 0 {
		return nil
	}
	done, ok := s.tails.beginTrim(head)
	if !ok {
		return errAgain
	}
	defer done()
	o := s.cache.get(head)
	if o == nil || o.pending != nil || !slices.Contains(ids, o.last) {
		var err error
		if o, err = s.api.Get(ctx, head); err != nil && !errors.Is(err, errAbsent) {
			return err
		}
	}
	if o != nil {
		if err := s.trim(ctx, o); err != nil {
			return err
		}
	}
	for _, id := range ids {
		s.ledger.drop(id)
	}
	return nil
}

// beginTrim reports whether no call at the head is under way, and then keeps new ones waiting until done is called.
func (l *tails) beginTrim(head ref) (done func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.of(head)
	if t.busy > 0 || t.trim != nil {
		return nil, false
	}
	trim := make(chan struct{})
	t.trim = trim
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.of(head).trim = nil
		close(trim)
	}, true
}

// trim takes what is settled out of the log of a head, and removes the object of a head that is deleted. It fails if
// the head has changed.
func (s *Store) trim(ctx context.Context, head *object) error {
	if head.pending != nil {
		return nil // whoever settles it does the rest
	}
	if head.value == nil {
		return s.bury(ctx, head)
	}
	next := *head
	next.log = s.ledger.rest(head.log, nil)
	if len(next.log) == len(head.log) {
		return nil
	}
	stored, err := s.api.Update(ctx, &next)
	if err != nil {
		s.cache.drop(head.ref)
		return err
	}
	s.cache.put(stored)
	s.ledger.forget(head.log, next.log)
	return nil
}
