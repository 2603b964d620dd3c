package etcd

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
)

// ByLabel implements [store.Labeller], in the order of the names as keys have them. It reads a page of the index, which
// has the names, and then the records of these, [Options.MaxTxnOps] at once. It holds at most 2,000 names and these
// records in memory.
func (s *Store) ByLabel(ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := l.Validate(); err != nil {
			yield(store.Record{}, err)
			return
		}
		first := s.keys.labelled(l.Kind, l.Pool, l.Name, l.Value)
		p := &pager{
			store: s, what: fmt.Sprintf("list what has the label %.40q in pool %q", l.Name, l.Pool), first: first,
			end: clientv3.GetPrefixRangeEnd(first), limit: firstLabelPage, near: true,
		}
		if l.After != "" {
			p.first = first + escape(l.After) + "\x00"
		}
		for !p.done {
			kvs, _, err := p.next(ctx)
			if err != nil {
				yield(store.Record{}, err)
				return
			}
			for part := range slices.Chunk(kvs, s.options.MaxTxnOps) {
				if !s.yieldLabelled(ctx, l, part, yield) {
					return
				}
			}
		}
	}
}

// yieldLabelled yields the records of entries of the index, and reports whether to go on. It leaves out those that have
// lost the label since.
func (s *Store) yieldLabelled(
	ctx context.Context, l store.Labelled, kvs []*mvccpb.KeyValue, yield func(store.Record, error) bool,
) bool {
	keys := make([]store.Key, len(kvs))
	for i, kv := range kvs {
		name, err := lastName(kv.Key)
		if err != nil {
			yield(store.Record{}, err)
			return false
		}
		keys[i] = store.Key{Kind: l.Kind, Pool: l.Pool, Name: name}
	}
	records, err := s.GetAll(ctx, keys...)
	if err != nil {
		yield(store.Record{}, err)
		return false
	}
	for _, r := range records {
		if err := s.usable(ctx); err != nil {
			yield(store.Record{}, err)
			return false
		}
		if value, ok := r.Labels[l.Name]; ok && value == l.Value && !yield(r, nil) {
			return false
		}
	}
	return true
}
