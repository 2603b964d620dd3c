package kube

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/ipalloc/ipalloc/store"
)

// List implements [store.Store]. It yields the records in the order of their objects' names. Cost: one request for each
// [Options.PageSize] records, one for each head that pending
// records of a page name, and one for each record that a commit which came to nothing has left.
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
	found, err := s.resolvePage(ctx, objects)
	if err != nil {
		yield(store.Record{}, err)
		return false
	}
	for _, o := range found {
		if err := s.usable(ctx); err != nil {
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

// resolvePage returns the objects of a page with their pending commits decided; nil stands for one that is not there
// any more. It reads each head only once, which is late enough: after the page.
func (s *Store) resolvePage(ctx context.Context, objects []*object) ([]*object, error) {
	heads, err := s.headsOf(ctx, objects)
	if err != nil {
		return nil, err
	}
	found, open := slices.Clone(objects), []int(nil)
	for i, o := range objects {
		if o.pending == nil {
			continue
		}
		f, revision := fateDead, int64(0)
		if head := heads[o.pending.head]; head != nil {
			f, revision = o.pending.fateIn(head)
		}
		switch f {
		case fateCommitted:
			found[i] = o.committed(revision)
		case fateDead:
			open = append(open, i)
		}
	}
	errs := inParallel(s.options.Parallel, len(open), func(k int) (err error) {
		i := open[k]
		found[i], err = s.resolveAgain(ctx, objects[i])
		return err
	})
	return found, errors.Join(errs...)
}

// resolveAgain returns what o is whose commit did not come about, as far as its head says, unless it was settled since
// o was read; nil if it is not there any more.
func (s *Store) resolveAgain(ctx context.Context, o *object) (*object, error) {
	again, err := s.api.Get(ctx, o.ref)
	if err == nil {
		if again.uid == o.uid && again.version == o.version {
			return o.rolledBack(), nil
		}
		again, err = s.resolve(ctx, again)
	}
	if errors.Is(err, errAbsent) {
		return nil, nil //nolint:nilnil // it is gone
	}
	return again, err
}
