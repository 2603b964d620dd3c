package kube

import (
	"context"
	"errors"
	"iter"

	"github.com/ipalloc/ipalloc/store"
)

// List implements [store.Store]. It yields the records in the order of their objects' names. Cost: one request for each
// [Options.PageSize] records, and one or two for each that a commit has not settled yet.
func (s *Store) List(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := store.ValidateList(kind, pool); err != nil {
			yield(store.Record{}, err)
			return
		}
		for r, err := range s.selected(ctx, resourceOf(kind), selector(kind, pool)) {
			if err == nil && (r.Kind != kind || pool != "" && r.Pool != pool) {
				continue // a label has the hash of another text
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// ByExpiry implements [store.Store]. It lists the records, and holds those that expire in memory: a label selector
// cannot compare, the server would look at each object all the same, and to order what it finds needs all of it here.
func (s *Store) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return store.ByExpiryFromList(ctx, s.List, kind, pool)
}

// selector returns the label selector of the records of kind in pool, or in all if pool is empty.
func selector(kind store.Kind, pool string) string {
	text := labelKind + "=" + labelValue(string(kind))
	if pool != "" {
		text += "," + labelPool + "=" + labelValue(pool)
	}
	return text
}

// selected iterates over the records of the objects that a label selector finds.
func (s *Store) selected(ctx context.Context, resource, selector string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		token := ""
		for {
			if err := s.usable(ctx); err != nil {
				yield(store.Record{}, err)
				return
			}
			p, err := s.api.List(ctx, resource, selector, token)
			if err != nil {
				yield(store.Record{}, err)
				return
			}
			if !s.yieldPage(ctx, p.objects, yield) || p.token == "" {
				return
			}
			token = p.token
		}
	}
}

// yieldPage yields the records of objects, and reports whether to go on.
func (s *Store) yieldPage(ctx context.Context, objects []*object, yield func(store.Record, error) bool) bool {
	heads := make(map[ref]*object)
	for _, o := range objects {
		err := s.usable(ctx)
		if err == nil {
			o, err = s.resolveListed(ctx, o, heads)
		}
		if err != nil {
			yield(store.Record{}, err)
			return false
		}
		if o == nil || o.current() == nil {
			continue
		}
		if !yield(o.current().Canonical(), nil) {
			return false
		}
	}
	return true
}

// resolveListed is resolve for an object out of a page. It reads each head only once, which is late enough: after the
// page. It returns nil if the object is not there any more.
func (s *Store) resolveListed(ctx context.Context, o *object, heads map[ref]*object) (*object, error) {
	if o.pending == nil {
		return o, nil
	}
	head, known := heads[o.pending.head]
	if !known {
		var err error
		if head, err = s.api.Get(ctx, o.pending.head); err != nil && !errors.Is(err, errAbsent) {
			return nil, err
		}
		heads[o.pending.head] = head
	}
	if head != nil {
		switch f, revision := o.pending.fateIn(head); f {
		case fateCommitted:
			return o.committed(revision), nil
		case fateOpen:
			return o, nil
		}
	}
	again, err := s.read(ctx, o.ref, o.key)
	if errors.Is(err, errAbsent) {
		return nil, nil //nolint:nilnil // it is gone
	}
	return again, err
}
