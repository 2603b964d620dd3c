package etcd

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
)

// Find implements [store.Store]. It takes one transaction, which looks for each prefix length in the index, and a read
// of the record that it finds. An IPv6 address for which that transaction finds no prefix longer than 0 takes one more
// transaction.
func (s *Store) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
	if err := (store.Key{Kind: store.KindAllocation, Pool: pool}).Validate(); err != nil {
		return store.Record{}, err
	}
	missing := fmt.Errorf("%w: no allocation of pool %q contains %v", store.ErrNotFound, pool, addr)
	for {
		if err := s.usable(ctx); err != nil {
			return store.Record{}, err
		}
		if !addr.IsValid() || addr.Is4In6() {
			return store.Record{}, missing
		}
		kv, prefix, err := s.longest(ctx, pool, addr.WithZone(""))
		if err != nil {
			return store.Record{}, err
		}
		if kv == nil {
			return store.Record{}, missing
		}
		record, ok, err := s.holder(ctx, pool, prefix, kv)
		if err != nil || ok {
			return record, err
		}
	}
}

// longest returns the entry of the index with the longest prefix that contains addr, or nil.
//
// The transactions are of reads alone, which etcd does not write to its log. There is more than one only if all lengths
// do not go into one: of IPv6, if nothing else has been found, the length 0.
func (s *Store) longest(ctx context.Context, pool string, addr netip.Addr) (*mvccpb.KeyValue, netip.Prefix, error) {
	var prefixes []netip.Prefix
	for bits := addr.BitLen(); bits >= 0; bits-- {
		prefix, err := addr.Prefix(bits)
		if err != nil {
			return nil, netip.Prefix{}, fmt.Errorf("etcd: find %v: %w", addr, err)
		}
		prefixes = append(prefixes, prefix)
	}
	var at int64 // all are read at the revision of the first one
	for part := range slices.Chunk(prefixes, s.options.MaxTxnOps) {
		gets := make([]clientv3.Op, len(part))
		for i, prefix := range part {
			gets[i] = clientv3.OpGet(s.keys.holders(pool, prefix), clientv3.WithPrefix(), clientv3.WithLimit(1),
				clientv3.WithRev(at))
		}
		response, err := s.kv.Txn(ctx).Then(gets...).Commit()
		if err != nil {
			return nil, netip.Prefix{}, s.wrap(ctx, fmt.Sprintf("find %v in pool %q", addr, pool), err)
		}
		for i, prefix := range part {
			if kvs := response.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
				return kvs[0], prefix, nil
			}
		}
		at = response.Header.Revision
	}
	return nil, netip.Prefix{}, nil
}

// holder returns the record of an entry of the index. It is not ok if the record has changed since the entry was read.
func (s *Store) holder(
	ctx context.Context, pool string, prefix netip.Prefix, kv *mvccpb.KeyValue,
) (_ store.Record, ok bool, _ error) {
	name, err := lastName(kv.Key)
	if err != nil {
		return store.Record{}, false, err
	}
	key := store.Key{Kind: store.KindAllocation, Pool: pool, Name: name}
	response, err := s.kv.Get(ctx, s.keys.record(key))
	switch {
	case err != nil:
		return store.Record{}, false, s.wrap(ctx, fmt.Sprintf("find %v in pool %q", prefix, pool), err)
	case len(response.Kvs) == 0 || response.Kvs[0].ModRevision != kv.ModRevision:
		return store.Record{}, false, nil
	default:
		record, err := s.decode(key, response.Kvs[0])
		return record, err == nil, err
	}
}
