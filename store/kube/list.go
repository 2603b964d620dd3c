package kube

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/ipalloc/ipalloc/store"
)

// List implements [store.Store]. It yields the records in the order of their objects' names, and reports damaged
// objects in a [store.DamagedError] at the end. It finds objects by their labels; see [Store.Audit]. Cost: one request
// for each [Options.PageSize] records, one for each head that pending records of a page name, and one for each record
// that an unsuccessful commit has left.
func (s *Store) List(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := store.ValidateList(kind, pool); err != nil {
			yield(store.Record{}, err)
			return
		}
		s.selected(ctx, resourceOf(kind), selector(kind, pool), kind, pool)(yield)
	}
}

// Audit implements [store.Auditor]. It is List by the keys in the objects, and not by their labels, which people can
// change. So it also yields the records that List overlooks because the labels of their objects are wrong, and reports
// these objects at the end. It also reports objects that do not have the name for their key. Cost: that of a List of
// all objects of the resource in the namespace, in all pools.
func (s *Store) Audit(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := store.ValidateList(kind, pool); err != nil {
			yield(store.Record{}, err)
			return
		}
		s.selected(ctx, resourceOf(kind), "", kind, pool)(yield)
	}
}

// ByExpiry implements [store.Store]. It lists the records, and holds those that expire in memory to order them. A label
// selector cannot compare times, and with one the server would still look at each object.
func (s *Store) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return store.ByExpiryFromList(ctx, s.List, kind, pool)
}

// maxHistory is how many past tenures of a pool there may be: each is an object of 1 to 2 KiB in etcd, and in the
// memory of the API server.
const maxHistory = 10_000

// Limit implements [store.Limiter]: 10,000 records of [store.KindHistory] for each pool.
func (s *Store) Limit(kind store.Kind) int {
	if kind == store.KindHistory {
		return maxHistory
	}
	return 0
}

// selector returns the label selector of the records of kind in pool, or in all if pool is empty.
func selector(kind store.Kind, pool string) string {
	text := labelKind + "=" + labelValue(string(kind))
	if pool != "" {
		text += "," + labelPool + "=" + labelValue(pool)
	}
	return text
}

// selected iterates over the records of kind in pool, or in all if that is empty, of the objects that a label selector
// finds. At the end it names what is damaged.
func (s *Store) selected(
	ctx context.Context, resource, selector string, kind store.Kind, pool string,
) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		listing := listing{Store: s, kind: kind, pool: pool, yield: yield}
		token := ""
		for {
			err := s.usable(ctx)
			var p page
			if err == nil {
				p, err = s.api.List(ctx, resource, selector, token)
			}
			if err != nil {
				yield(store.Record{}, err)
				return
			}
			if !listing.page(ctx, p) {
				return
			}
			if token = p.token; token == "" {
				break
			}
		}
		if len(listing.damaged) > 0 {
			yield(store.Record{}, &store.DamagedError{Damaged: listing.damaged})
		}
	}
}

// listing is an iteration on its way.
type listing struct {
	*Store
	kind    store.Kind
	pool    string
	yield   func(store.Record, error) bool
	damaged []error
}

// page yields the records of a page, and reports whether to go on.
func (l *listing) page(ctx context.Context, p page) bool {
	for _, it := range p.damaged {
		l.note(it, it.err)
	}
	var objects []*object
	for _, o := range p.objects {
		if !o.isRecord() {
			continue
		}
		it := item{object: o, key: o.key, known: refOf(o.key) == o.ref}
		if err := it.misnamed(); err != nil {
			l.note(it, err)
			continue
		}
		if !it.mayBe(l.kind, l.pool) {
			continue // in an audit; or a label has the hash of another text
		}
		if err := it.misled(); err != nil {
			l.note(it, err)
		}
		objects = append(objects, o)
	}
	found, errs := l.resolvePage(ctx, objects)
	for i, o := range found {
		if !l.object(ctx, objects[i].ref, o, errs[i]) {
			return false
		}
	}
	return true
}

// note notes that it is damaged, if it may be one of those that are listed.
func (l *listing) note(it item, err error) {
	if it.mayBe(l.kind, l.pool) {
		l.damaged = append(l.damaged, err)
	}
}

// object yields the record of an object as it was resolved, if there is one, and reports whether to go on.
func (l *listing) object(ctx context.Context, name ref, o *object, err error) bool {
	if usable := l.usable(ctx); usable != nil {
		err = usable
	}
	switch {
	case errors.Is(err, ErrDamaged): // the head that says what is true of it
		l.damaged = append(l.damaged, fmt.Errorf("%v: %w", name, err))
		return true
	case err != nil:
		l.yield(store.Record{}, err)
		return false
	}
	return o == nil || o.current() == nil || l.yield(o.current().Canonical(), nil)
}

// resolvePage returns the objects of a page with their pending commits decided, and for each the error if it could not
// be; nil stands for one that is not there any more. It reads each head only once, which is late enough: after the
// page.
func (s *Store) resolvePage(ctx context.Context, objects []*object) ([]*object, []error) {
	heads, broken := s.headsOf(ctx, objects)
	found, errs, open := slices.Clone(objects), make([]error, len(objects)), []int(nil)
	for i, o := range objects {
		if o.pending == nil {
			continue
		}
		if errs[i] = broken[o.pending.head]; errs[i] != nil {
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
	inParallel(s.options.Parallel, len(open), func(k int) error {
		i := open[k]
		found[i], errs[i] = s.resolveAgain(ctx, objects[i])
		return nil
	})
	return found, errs
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
