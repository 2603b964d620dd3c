package kube

import (
	"context"
	"errors"

	"github.com/ipalloc/ipalloc/store"
)

// Sweep gives all objects in the namespace their final form: it settles what commits have left pending, and removes
// what commits left that crashed before they came about. It returns how many objects it changed. Nothing depends on it
// but the looks of the objects and the room that they take, and it may run beside anything. Run it now and then, or
// never. Objects that make no sense stay as they are, and are named in a [store.DamagedError] at the end.
//
// Cost: three lists with a label selector, and up to four requests for each object that is not in its final form.
func (s *Store) Sweep(ctx context.Context) (changed int, err error) {
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
			for _, o := range p.objects {
				swept, err := s.sweepObject(ctx, o)
				if err != nil {
					return changed, err
				}
				if swept {
					changed++
				}
			}
			if token = p.token; token == "" {
				break
			}
		}
	}
	if len(damaged) > 0 {
		return changed, &store.DamagedError{Damaged: damaged}
	}
	return changed, nil
}

// sweepObject gives o its final form, and reports whether it did. It leaves alone what an open commit is about to
// write.
func (s *Store) sweepObject(ctx context.Context, listed *object) (bool, error) {
	o, err := s.read(ctx, listed.ref, listed.key)
	if errors.Is(err, errAbsent) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if o.pending != nil {
		return false, nil
	}
	if o.value == nil {
		if err := s.settleAll(ctx, o.log); err != nil {
			return false, err
		}
		removed := *o
		removed.log = nil
		o = &removed
	}
	s.cache.drop(o.ref)
	if _, err = s.store(ctx, o); errors.Is(err, errMoved) || errors.Is(err, errAbsent) {
		return false, nil
	}
	return err == nil, err
}
