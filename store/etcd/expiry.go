package etcd

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
)

// ByExpiry implements [store.Store]. It reads pages as List does, from the index, which has copies of the records.
//
// An etcd server counts the records that a read with a limit leaves out, at some hundred nanoseconds each. So a handle
// remembers how far it read last time, and first reads only that far.
func (s *Store) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := (store.Key{Kind: kind, Pool: pool}).Validate(); err != nil {
			yield(store.Record{}, err)
			return
		}
		first := s.keys.expiring(kind, pool)
		end := clientv3.GetPrefixRangeEnd(first)
		hint := s.ahead.recall(first)
		p := &pager{
			store: s, what: fmt.Sprintf("list %s of pool %q by expiry", kind, pool), first: first, end: end,
			limit: firstExpiryPage,
		}
		if hint != "" {
			p.end = hint
		}
		var began int64
		for {
			kvs, at, err := p.next(ctx)
			if err != nil {
				yield(store.Record{}, err)
				return
			}
			if began == 0 {
				began = at
			}
			if !s.yieldExpiring(ctx, kind, pool, kvs, began, yield) {
				return
			}
			switch {
			case p.end == end:
				s.ahead.note(first, kvs)
				if p.done {
					return
				}
			case p.done:
				p.first, p.end = hint, end
			}
		}
	}
}

// yieldExpiring yields the records of a page of the index, and reports whether to go on.
//
// It leaves out entries that were created since the iteration began at a revision: of records that were created or
// renewed, and may have come up before. An entry that was there all the time has its place in the order, and so comes
// up once.
func (s *Store) yieldExpiring(
	ctx context.Context, kind store.Kind, pool string, kvs []*mvccpb.KeyValue, began int64,
	yield func(store.Record, error) bool,
) bool {
	for _, kv := range kvs {
		if kv.CreateRevision > began {
			continue
		}
		name, err := lastName(kv.Key)
		var record store.Record
		if err == nil {
			record, err = s.decode(store.Key{Kind: kind, Pool: pool, Name: name}, kv)
		}
		if usable := s.usable(ctx); usable != nil {
			err = usable
		}
		if err != nil {
			yield(store.Record{}, err)
			return false
		}
		if !yield(record, nil) {
			return false
		}
	}
	return true
}

// mostHints is for how many pools a handle remembers how far it has read.
const mostHints = 4096

// hints are how far a handle has read in the index by expiry, by the beginning of the keys. The zero hints are ready.
type hints struct {
	mu    sync.Mutex
	after map[string]string // a key after the last one
}

func (h *hints) recall(first string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.after[first]
}

// note takes in the last page that was read.
func (h *hints) note(first string, kvs []*mvccpb.KeyValue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(kvs) == 0 {
		delete(h.after, first)
		return
	}
	if h.after == nil || len(h.after) >= mostHints {
		h.after = make(map[string]string)
	}
	h.after[first] = string(kvs[len(kvs)-1].Key) + "\x00"
}
