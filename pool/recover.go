package pool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// Recover creates a pool of that name for records whose head is gone ([ErrOrphaned]), such as after somebody has
// deleted the pool by hand. The new pool holds everything that the records hold, for the same owners; what lies outside
// the spec counts as out of range. The caller gives the spec, because the old one is lost with the head. A pool that
// was delegated from another one becomes an independent pool, and one that was being renumbered is so no more: what was
// [Allocation.Beside] is not held.
//
// Errors: [ErrInvalid] if the name or the spec breaks a rule; [ErrExists]; [ErrOverlap] in the network; a
// [store.DamagedError] if a record cannot be read, because what it holds is unknown; [ErrBusy]; those of the store.
// Cost: O(allocations), and one commit; O(records in the store) if the store finds records by an index that people can
// change, such as labels.
func Recover(ctx context.Context, s store.Store, name string, spec Spec, options *Options) (*Pool, error) {
	return makeWith(s, name, spec, options, "recover", func(p *Pool) error { return p.recover(ctx, spec) })
}

func (p *Pool) recover(ctx context.Context, spec Spec) error {
	var created time.Time
	var moved bool
	err := exclusively(ctx, func(a *attempt) error {
		err := p.home.refresh(a.ctx)
		switch {
		case err == nil && a.uncertain() && p.isMade(spec, created):
			return nil // an earlier attempt has taken effect
		case err == nil:
			return ErrExists
		case !errors.Is(err, ErrNoPool):
			return err
		}
		created = a.now
		moved, err = a.recover(p, spec)
		return err
	}, p)
	if err == nil && moved {
		err = p.settle(ctx)
	}
	return err
}

// recover plans that a pool is made which holds what its records say. It reports whether the pool was being renumbered:
// then the new one is not, and holds what is not beside something else.
func (a *attempt) recover(p *Pool, spec Spec) (moved bool, err error) {
	var held []*holding
	var shares sharing
	var all outside
	for h, err := range p.home.audited(a.ctx) {
		if err != nil {
			return false, err
		}
		moved = moved || len(h.Beside) > 0
		if !shares.add(h) || !h.shared {
			held = append(held, h)
		}
		all.add(&rules{}, h)
	}
	d := a.draft(p)
	r, err := a.rulesFor(p, spec, all)
	if err != nil {
		return false, err
	}
	if d.next, err = newState(r, parentage{}, p.options.Random); err != nil {
		return false, err
	}
	for _, h := range held {
		d.next.hold(h)
	}
	shares.hold(d.next)
	d.writes, _ = shares.repairs()
	d.next.space.Keep()
	d.created = a.now
	p.options.Logger.Warn("making a pool for records whose head is gone",
		slog.String("pool", p.name), slog.Int("records", len(held)))
	return moved, a.dropAllPieces(d)
}

// requireNoRecords returns an error if there are records that hold addresses of a pool which is to be made.
func (a *attempt) requireNoRecords(p *Pool) error { return p.home.(*stored).requireNoRecords(a.ctx) }

// requireNoRecords returns an error if the pool has records that hold addresses: [ErrExists] if it also has a head,
// [ErrOrphaned] if not.
func (s *stored) requireNoRecords(ctx context.Context) error {
	for {
		var found store.Key
		for key, err := range s.keys(ctx, store.KindAllocation, store.KindCooling) {
			if err != nil {
				return err
			}
			found = key
			break
		}
		if found == (store.Key{}) {
			return nil
		}
		_, err := getHead(ctx, s.store, s.name)
		if err == nil || errors.Is(err, ErrUnfinished) || errors.Is(err, ErrNewerFormat) {
			return errorf("%w: %q", ErrExists, s.name)
		}
		if !errors.Is(err, ErrNoPool) {
			return err
		}
		_, err = s.store.Get(ctx, found)
		if err == nil {
			return orphaned(found)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		// The whole pool has been deleted meanwhile.
	}
}

// orphaned is the error for a record without a head.
func orphaned(key store.Key) error {
	return fmt.Errorf("%w: %.300q is there, and perhaps more", ErrOrphaned, key.String())
}

// withOrphans is err, which says that there is no pool, or an error that says that there are records of it.
func (s *stored) withOrphans(ctx context.Context, err error) error {
	if found := s.requireNoRecords(ctx); errors.Is(found, ErrOrphaned) {
		return fmt.Errorf("%w: %w", err, found)
	}
	return err
}

// audited implements [home].
func (s *stored) audited(ctx context.Context) iter.Seq2[*holding, error] {
	return func(yield func(*holding, error) bool) {
		for _, kind := range []store.Kind{store.KindAllocation, store.KindCooling} {
			for r, err := range store.Audit(ctx, s.store, kind, s.name) {
				var h *holding
				if err == nil {
					h, err = holdingOf(r)
				}
				if !yield(h, err) {
					return
				}
			}
		}
	}
}

// damaged returns what is damaged by an error of audited, if it is about that.
func damaged(err error) []error {
	if err == nil { // which is so for nearly every record
		return nil
	}
	var several *store.DamagedError
	switch {
	case errors.As(err, &several):
		return several.Damaged
	case errors.Is(err, ErrCorrupt), errors.Is(err, store.ErrDamaged):
		return []error{err}
	}
	return nil
}
