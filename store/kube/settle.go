package kube

import (
	"context"
	"errors"
	"slices"
)

// What a commit settles beside its own step 1.
const (
	// handful is how many objects of other handles' commits a commit begins to settle at most.
	handful = 4
	// patientSightings is in how many commits of this handle a stranger's commit was listed before this handle begins to
	// settle it. Who made it is alive, as a rule, and settles it sooner.
	patientSightings = 8
	// patientWithRolls is the same for commits that have a roll: a live handle takes longer then.
	patientWithRolls = maxLater
	// maxStrange is how many objects of strangers a log may list until nobody waits for that.
	maxStrange = 256
)

// debt is an object that a commit in a head's log may have left pending.
type debt struct {
	ref
	id       string
	revision int64
}

// written returns which objects the transaction writes itself. To write an object is to settle it.
func (t *transaction) written() map[ref]bool {
	written := make(map[ref]bool, len(t.intents))
	for i := range t.intents {
		written[t.intents[i].ref] = true
	}
	return written
}

// settleOnce settles d, unless that is done or somebody does it just now.
func (s *Store) settleOnce(ctx context.Context, d debt) error {
	if !s.ledger.begin(d) {
		return nil
	}
	settled := false
	defer func() { s.ledger.end(d, settled) }()
	err := s.settle(ctx, d)
	settled = err == nil
	return err
}

// settle gives an object its final form, if the commit of d has left it pending.
func (s *Store) settle(ctx context.Context, d debt) error {
	if known := s.lastSeen(d); known != nil {
		if err := s.settleObject(ctx, known, d.revision); !errors.Is(err, errMoved) {
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

// lastSeen returns the object of d as this handle last saw it, if it was pending by that commit; else nil.
func (s *Store) lastSeen(d debt) *object {
	if o := s.ledger.prepared(d); o != nil {
		return o
	}
	if o := s.cache.get(d.ref); o != nil && o.pending != nil && o.pending.id == d.id {
		return o
	}
	return nil
}

// settleObject gives o the final form after its pending commit. A head that is deleted goes after what its log lists
// is settled.
func (s *Store) settleObject(ctx context.Context, o *object, revision int64) error {
	final := o.committed(revision)
	if o.isRoll() {
		if err := s.closeRoll(ctx, o, revision); !errors.Is(err, errAbsent) {
			return err
		}
		return nil
	}
	if final.value == nil && len(final.log) > 0 {
		return s.bury(ctx, final)
	}
	s.cache.drop(o.ref)
	stored, err := s.store(ctx, final)
	if errors.Is(err, errAbsent) {
		return nil
	}
	if err == nil && stored != nil {
		s.cache.put(stored)
	}
	return err
}

// bury removes the object of a deleted head, after settling what it lists.
func (s *Store) bury(ctx context.Context, head *object) error {
	if err := s.settleAll(ctx, debtsOf(head.log)); err != nil {
		return err
	}
	buried := *head
	buried.log = nil
	s.cache.drop(head.ref)
	if err := s.api.Remove(ctx, &buried); err != nil && !errors.Is(err, errAbsent) {
		return err
	}
	s.ledger.forget(head.log, nil)
	return nil
}

// debtsOf returns what a log lists.
func debtsOf(log []entry) (debts []debt) {
	for _, e := range log {
		for _, r := range e.objects {
			debts = append(debts, debt{r, e.id, e.revision})
		}
	}
	return debts
}

// settleAll settles all debts that are not known to be settled, and returns the first error.
func (s *Store) settleAll(ctx context.Context, debts []debt) error {
	return s.settleDebts(ctx, debts, s.options.Parallel, func() bool { return true })
}

// settleDebts is settleAll with so many requests at once, as long as goOn reports true.
func (s *Store) settleDebts(ctx context.Context, debts []debt, parallel int, goOn func() bool) error {
	debts = slices.DeleteFunc(slices.Clone(debts), s.ledger.isSettled)
	for _, err := range inParallel(parallel, len(debts), func(i int) error {
		if !goOn() {
			return errAgain
		}
		err := s.settle(ctx, debts[i])
		if err == nil {
			s.ledger.settled(debts[i])
		}
		return err
	}) {
		if err != nil {
			return err
		}
	}
	return nil
}
